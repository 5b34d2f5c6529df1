"""How an answer reads: its reasoning, its calls and its text, told apart while they come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from adapters.canonical import Delta, Tool
from adapters.local.serving.calls.harmony import HarmonyParser
from adapters.local.serving.calls.syntax import CallReader, CallSyntax
from adapters.wire.think import ThinkSplitter


class TurnParser(Protocol):
    """The text of one answer, cut anywhere, to deltas. Ids of calls are left to whoever sends them."""

    @property
    def called(self) -> bool:
        """Whether there was a tool call so far."""

    def feed(self, text: str) -> list[Delta]: ...

    def end(self) -> list[Delta]:
        """The answer is over: what was kept back. To be called once, after the last `feed`."""


@dataclass(frozen=True, slots=True)
class Thought:
    """The texts around a model's reasoning, which comes before its answer."""

    open: str
    close: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFormat:
    """What the answer to one prompt may be made of."""

    thought: Thought | None = None
    """How reasoning is marked; `None` where the model marks none, and for harmony."""
    thinking: bool = False
    """The prompt ends inside the reasoning: the answer goes on with it, up to `thought.close`."""
    calls: CallSyntax | None = None
    """How calls are written; `None` where the request has no tools, or none may be called."""
    tools: tuple[Tool, ...] = ()
    harmony: bool = False
    """The answer is made of channels (gpt-oss), which have marks for reasoning, calls and text alike."""
    marker_ids: frozenset[int] = frozenset()
    """Special tokens whose text the parser needs."""

    @property
    def reasoning(self) -> bool:
        """Whether an answer may hold reasoning."""
        return self.harmony or self.thought is not None

    def parser(self) -> TurnParser:
        """A new one for each answer."""
        if self.harmony:
            return HarmonyParser(tools=False) if self.calls is None else self.calls.reader(self.tools)
        splitter = ThinkSplitter(self.thought.open, self.thought.close, inside=self.thinking) if self.thought else None
        return _Turn(splitter, self.calls.reader(self.tools) if self.calls is not None else None)


class _Turn:
    """Reasoning first, then text and calls."""

    def __init__(self, splitter: ThinkSplitter | None, calls: CallReader | None) -> None:
        self._splitter = splitter
        self._calls = calls

    @property
    def called(self) -> bool:
        return self._calls is not None and self._calls.called

    def feed(self, text: str) -> list[Delta]:
        return self._read(self._splitter.feed(text) if self._splitter is not None else [Delta(text)])

    def end(self) -> list[Delta]:
        deltas = self._read(self._splitter.close()) if self._splitter is not None else []
        return deltas + (self._calls.end() if self._calls is not None else [])

    def _read(self, deltas: Iterable[Delta]) -> list[Delta]:
        if self._calls is None:
            return [delta for delta in deltas if delta.text or delta.reasoning]
        read: list[Delta] = []
        for delta in deltas:
            read += [delta] if delta.reasoning else self._calls.feed(delta.text)
        return read
