"""Calls without a marker: an answer that begins as a call does is one."""

from __future__ import annotations

from collections.abc import Callable

from adapters.canonical import Delta
from adapters.local.serving.calls.head import MOST_HEAD
from adapters.local.serving.calls.marked import MarkedCalls
from adapters.local.serving.calls.syntax import Body, Numbers, Opener

Looks = Callable[[str], bool | None]
"""Whether an answer that begins so, blanks aside, begins with a call; `None` while that is open."""


class BareCalls:
    """Calls at the very beginning, and thereafter those behind a marker if there is one. Fulfils `CallReader`."""

    def __init__(self, looks: Looks, body: Opener, marked: MarkedCalls | None = None) -> None:
        self._looks = looks
        self._open = body
        self._marked = marked
        self._numbers = marked.numbers if marked is not None else Numbers()
        self._blanks: list[str] = []
        self._held = ""
        self._body: Body | None = None
        self._state = self._at_start

    @property
    def called(self) -> bool:
        return self._numbers.used > 0

    def feed(self, text: str) -> list[Delta]:
        return self._state(text)

    def end(self) -> list[Delta]:
        if self._body is not None:
            return self._body.end()
        text = "".join(self._blanks) + self._held
        held = [Delta(text)] if text else []
        return held + (self._marked.end() if self._marked is not None else [])

    def _at_start(self, text: str) -> list[Delta]:
        if not self._held:
            first = text.lstrip()
            self._blanks.append(text[: len(text) - len(first)])
            text = first
        self._held += text
        looks = self._looks(self._held[:MOST_HEAD]) if self._held else None
        if looks is None and len(self._held) < MOST_HEAD:
            return []
        lead, held = "".join(self._blanks), self._held
        self._blanks.clear()
        self._held = ""
        if not looks:
            self._state = self._after
            return self._after(lead + held)
        self._body = self._open(self._numbers, lead)
        self._state = self._in_body
        return self._in_body(held)

    def _in_body(self, text: str) -> list[Delta]:
        assert self._body is not None
        deltas, rest = self._body.feed(text)
        if rest is None:
            return deltas
        self._state = self._after if self._body.failed else self._between
        self._body = None
        return deltas + self._state(rest)

    def _between(self, text: str) -> list[Delta]:
        """Blanks that follow a call are nobody's text."""
        text = text.lstrip()
        if not text:
            return []
        self._state = self._after
        return self._after(text)

    def _after(self, text: str) -> list[Delta]:
        if self._marked is not None:
            return self._marked.feed(text)
        return [Delta(text)] if text else []
