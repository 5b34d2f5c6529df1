"""Calls that are written as a name and then its arguments, whatever those look like."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from adapters.canonical import Delta
from adapters.local.serving.calls.syntax import Numbers

MOST_HEAD = 512
"""Characters from where a call begins to where its arguments do."""


class Arguments(Protocol):
    """The arguments of one call, cut anywhere, to JSON text."""

    def feed(self, text: str) -> tuple[str, str | None]:
        """JSON text and, once the arguments are over, what follows them."""

    def end(self) -> str:
        """What was kept back, now that the answer is over."""


class NamedCall:
    """One call: its head, in which the name stands, and its arguments. Fulfils `Body`."""

    def __init__(
        self, numbers: Numbers, lead: str, head: re.Pattern[str], arguments: Callable[[str], Arguments]
    ) -> None:
        """`head` has the name as its only group, and matches no less when more text follows.

        `arguments` makes the reader of those of the function that is called.
        """
        self._numbers = numbers
        self._lead = lead
        self._pattern = head
        self._open = arguments
        self._held = ""
        self._arguments: Arguments | None = None
        self.failed = False

    def feed(self, text: str) -> tuple[list[Delta], str | None]:
        if self._arguments is not None:
            return self._more(text)
        self._held += text
        found = self._pattern.match(self._held, 0, MOST_HEAD)
        if found is not None:
            self._arguments = self._open(found[1])
            opened = self._numbers.open(found[1])
            deltas, rest = self._more(self._held[found.end() :])
            return [opened, *deltas], rest
        if len(self._held) < MOST_HEAD:
            return [], None
        self.failed = True
        return [Delta(self._lead)] if self._lead else [], self._held

    def end(self) -> list[Delta]:
        if self._arguments is None:
            return [Delta(self._lead + self._held)]
        return self._numbers.more(self._arguments.end())

    def _more(self, text: str) -> tuple[list[Delta], str | None]:
        assert self._arguments is not None
        written, rest = self._arguments.feed(text)
        return self._numbers.more(written), rest
