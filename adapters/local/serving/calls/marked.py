"""Calls behind a marker, anywhere in the text."""

from __future__ import annotations

import re

from adapters.canonical import Delta
from adapters.local.serving.calls.syntax import Body, Numbers, Opener
from adapters.wire.think import overlap


class MarkedCalls:
    """Calls behind `begin`; blanks between calls, and between text and a call, are nobody's text.

    Texts of `ends` that follow a call are dropped, and so are markers that stand `around` all calls together. Fulfils
    `CallReader`.
    """

    def __init__(self, begin: str, ends: tuple[str, ...], body: Opener, *, around: tuple[str, ...] = ()) -> None:
        self._begin = begin
        self._ends = ends
        self._open = body
        self._markers = (begin, *around)
        self._marker = re.compile("|".join(map(re.escape, self._markers)))
        self.numbers = Numbers()
        self._body: Body | None = None
        self._held = ""
        self._blanks: list[str] = []
        """Those before `_held`: whose they are depends on what follows."""
        self._closing = False  # a call is over, what ends it may come
        self._after_call = False

    @property
    def called(self) -> bool:
        return self.numbers.used > 0

    def feed(self, text: str) -> list[Delta]:
        deltas: list[Delta] = []
        rest: str | None = text
        while rest:
            if self._body is not None:
                pieces, rest = self._body.feed(rest)
                deltas += pieces
                if rest is not None:
                    self._closing = self._after_call = not self._body.failed
                    self._body = None
            elif self._closing:
                rest = self._close(rest)
            else:
                rest = self._text(rest, deltas)
        return deltas

    def end(self) -> list[Delta]:
        if self._body is not None:
            return self._body.end()
        held = "".join((*self._blanks, self._held))
        return [] if self._closing or not held else [Delta(held)]

    def _close(self, text: str) -> str | None:
        """What follows a call, without what only ends it."""
        text, self._held = (self._held + text).lstrip(), ""
        for end in self._ends:
            if text.startswith(end):
                return text[len(end) :]
        if any(end.startswith(text) for end in self._ends):
            self._held = text
            return None
        self._closing = False
        return text

    def _text(self, text: str, deltas: list[Delta]) -> str | None:
        """Text up to a marker. What may be the beginning of one is kept back, and so are blanks before it."""
        text, self._held = self._held + text, ""
        if self._after_call and not (text := text.lstrip()):
            return None
        marker = self._marker.search(text)
        keep = 0 if marker else max(overlap(text, known) for known in self._markers)
        before = text[: marker.start() if marker else len(text) - keep]
        if shown := before.rstrip():
            deltas.append(Delta("".join((*self._blanks, shown))))
            self._blanks.clear()
            self._after_call = False
        self._blanks.append(before[len(shown) :])
        if marker is None:
            self._held = text[len(text) - keep :]
            return None
        lead = "".join((*self._blanks, marker[0]))
        self._blanks.clear()
        if marker[0] == self._begin:
            self._body = self._open(self.numbers, lead)
        return text[marker.end() :]
