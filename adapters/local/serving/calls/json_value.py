"""Where a JSON value ends, found while it comes."""

from __future__ import annotations

import re

_OUTSIDE = re.compile(r'["{}\[\],]')
_INSIDE = re.compile(r'["\\]')


class ValueEnd:
    """Watches one JSON value that is an object, a list or a string; looks at brackets and quotes alone.

    Fulfils `head.Arguments`, since the value needs no rewriting.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str) -> tuple[str, str | None]:
        end = self.find(text)
        return text[:end], None if end is None else text[end:]

    def end(self) -> str:
        return ""

    def find(self, text: str) -> int | None:
        """How much of `text` still belongs to the value; `None` if all of it does and more has to come.

        The first character ever seen is the value's first.
        """
        at = 0
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            mark = (_INSIDE if self._in_string else _OUTSIDE).search(text, at)
            if mark is None:
                return None
            at = mark.end()
            self._step(mark[0])
            if not self._depth and not self._in_string:
                return at
        return None

    def _step(self, mark: str) -> None:
        if mark == "\\":
            self._escaped = True
        elif mark == '"':
            self._in_string = not self._in_string
        elif mark in "{[":
            self._depth += 1
        elif mark in "}]":
            self._depth -= 1
