"""One answer under way: the engine's steps in, what a client sees of them out. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from adapters.canonical import ChatEvent, Delta, Finish, FinishReason, Usage
from adapters.local.inference.request import Finish as JobFinish
from adapters.local.inference.request import Step, Token
from adapters.local.serving.logprobs import PendingEntries


class Text(Protocol):
    """Tokens to text; `adapters.local.serving.detokenizer.Detokenizer`."""

    def feed(self, id: int) -> str: ...

    def end(self) -> str: ...


class Parser(Protocol):
    """Text to what it means; `adapters.local.serving.turns.TurnParser`."""

    @property
    def called(self) -> bool: ...

    def feed(self, text: str) -> list[Delta]: ...

    def end(self) -> list[Delta]: ...


class Stops(Protocol):
    """Stop strings; `adapters.local.serving.stops.StopWatch`."""

    def feed(self, text: str) -> tuple[str, bool]: ...

    def end(self) -> str: ...


Entry = Callable[[Token], dict[str, Any] | None]
"""Makes the entry of the next token in OpenAI's list of logprobs; `None` for one that adds nothing to the text."""


class Answer:
    """Reads one job's steps. Stop strings are looked for in the visible text alone."""

    def __init__(
        self,
        *,
        text: Text,
        parser: Parser,
        stops: Stops | None,
        silent: frozenset[int],
        thinking: bool,
        entry: Entry | None = None,
    ) -> None:
        """`silent` are end tokens without a text of their own; `thinking`: the answer begins within its reasoning."""
        self._text = text
        self._parser = parser
        self._stops = stops
        self._silent = silent
        self._thinking = thinking
        self._entry = entry
        self._entries = PendingEntries()
        self._first = True
        """No text has come since the beginning, a thought or a call."""
        self._tokens = 0
        self._reasoning_tokens = 0
        self.stopped = False
        """A stop string has come: the job is to be cancelled, and only its end is of interest."""
        self.finish: Finish | None = None
        """How it ended, once it has; what was cancelled has no end."""

    def feed(self, steps: Iterable[Step]) -> list[ChatEvent]:
        """The events of some steps. Raises the InferenceError of a job that failed."""
        events: list[ChatEvent] = []
        for step in steps:
            if step.token is not None and not self.stopped:
                events += self._token(step.token)
            if step.finish is not None:
                events += self._end(step.finish)
        return events

    def _token(self, token: Token) -> list[Delta]:
        self._tokens += 1
        if token.id in self._silent:
            return []
        if self._entry is not None and (entry := self._entry(token)) is not None:
            self._entries.add(entry)
        piece = self._text.feed(token.id)
        deltas = self._visible(self._parser.feed(piece) if piece else [])
        if self._thinking:  # also while the marker at its end comes
            self._reasoning_tokens += 1
            if piece:  # else it is a part of a character, which may be the answer's first
                self._entries.forget()
        return deltas

    def _end(self, finish: JobFinish) -> list[ChatEvent]:
        if self.stopped:  # and so cancelled: what else may have happened meanwhile is of no interest
            return [self._finished("stop", finish)]
        if finish.error is not None:
            raise finish.error
        if finish.reason == "cancelled":
            return []
        events: list[ChatEvent] = []
        if rest := self._text.end():
            events += self._visible(self._parser.feed(rest))
        events += self._visible(self._parser.end())
        if held := self._held():
            events.append(self._with_logprobs(Delta(text=held)))
        cut = finish.reason == "length" and not self.stopped
        return [*events, self._finished("length" if cut else "stop", finish)]

    def _visible(self, deltas: Iterable[Delta]) -> list[Delta]:
        """The deltas up to a stop string, with the logprobs of their text."""
        shown: list[Delta] = []
        for delta in deltas:
            if delta.reasoning or delta.tool_calls:
                self._thinking = bool(delta.reasoning)
                if held := self._held():
                    shown.append(self._with_logprobs(Delta(text=held)))
                self._entries.forget()  # those of the markers before it
                self._first = True
            if not delta.text:
                shown.append(delta)
                continue
            self._thinking = False
            text = delta.text
            if self._entry is not None:
                self._entries.said(text, first=self._first)
                self._first = False
            if self._stops is not None:
                text, self.stopped = self._stops.feed(text)
            if text:
                shown.append(self._with_logprobs(Delta(text, delta.reasoning, delta.tool_calls)))
            if self.stopped:
                break
        return shown

    def _with_logprobs(self, delta: Delta) -> Delta:
        if self._entry is None:
            return delta
        return Delta(delta.text, delta.reasoning, delta.tool_calls, self._entries.shown(delta.text))

    def _held(self) -> str:
        """What was kept back as the beginning of a stop string, now that it is none."""
        return self._stops.end() if self._stops is not None and not self.stopped else ""

    def _finished(self, reason: FinishReason, finish: JobFinish) -> Finish:
        usage = Usage(
            prompt_tokens=finish.prompt_tokens,
            completion_tokens=self._tokens,
            cached_tokens=finish.cached_tokens,
            reasoning_tokens=self._reasoning_tokens,
        )
        if reason == "stop" and self._parser.called:
            reason = "tool_calls"
        self.finish = Finish(reason, usage)
        return self.finish
