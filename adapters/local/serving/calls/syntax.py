"""What a call syntax is made of, and what all readers of one have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from adapters.canonical import Delta, Tool, ToolCallDelta


class CallReader(Protocol):
    """The text of an answer, cut anywhere, to deltas: calls become calls, all else stays text."""

    @property
    def called(self) -> bool:
        """Whether there was a call so far."""

    def feed(self, text: str) -> list[Delta]: ...

    def end(self) -> list[Delta]:
        """What was kept back. A call that is cut off keeps the arguments that came."""


class Body(Protocol):
    """What stands behind the marker of a call: one call or several."""

    @property
    def failed(self) -> bool:
        """It was no call after all, and was given back as text."""

    def feed(self, text: str) -> tuple[list[Delta], str | None]:
        """Deltas and, once the body is over, the text behind it."""

    def end(self) -> list[Delta]:
        """The answer is over: a call that has begun stays as it is, all else is text."""


Opener = Callable[["Numbers", str], Body]
"""Makes a body; the text is its marker, to be given back if there is no call."""


class Numbers:
    """Counts the calls of one answer."""

    def __init__(self) -> None:
        self.used = 0

    def open(self, name: str, arguments: str = "") -> Delta:
        """The first piece of the next call."""
        self.used += 1
        return Delta(tool_calls=(ToolCallDelta(self.used - 1, None, name, arguments),))

    def more(self, arguments: str) -> list[Delta]:
        """A further piece of the call that was opened last."""
        return [Delta(tool_calls=(ToolCallDelta(self.used - 1, arguments=arguments),))] if arguments else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """Arguments as tagged keys and values: `open key between value close`, one after the other.

    Values of parameters that are strings stand as they are, all others are JSON.
    """

    open: str
    between: str
    close: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSyntax:
    """How calls are written, enough to write one: `opening call (separator call)* closing`.

    A call is `head name middle arguments tail`, with the name as it is. What a reader takes is wider than this.
    """

    name: str
    head: str
    middle: str
    tail: str
    opening: str = ""
    separator: str = ""
    closing: str = ""
    arguments: Literal["json", "tags", "gemma"] = "json"
    """JSON objects; `tags`; or Gemma's notation (`calls.gemma`), which is no JSON."""
    tags: Tags | None = None
    markers: tuple[str, ...] = ()
    """Texts that are tokens of their own where the model has such tokens; a reader needs to see them."""
    reader: Callable[[Sequence[Tool]], CallReader]
