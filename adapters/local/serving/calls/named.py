"""Calls as a name and then a JSON object: Mistral since 2025, DeepSeek, GLM-4."""

from __future__ import annotations

import re

from adapters.canonical import Delta
from adapters.local.serving.calls.head import Head
from adapters.local.serving.calls.json_value import ValueEnd
from adapters.local.serving.calls.syntax import Numbers


class NamedObject:
    """One call. Its head ends before an opening brace. Fulfils `Body`."""

    def __init__(self, numbers: Numbers, lead: str, head: re.Pattern[str]) -> None:
        self._numbers = numbers
        self._lead = lead
        self._head = Head(head)
        self._arguments = ValueEnd()
        self.failed = False

    def feed(self, text: str) -> tuple[list[Delta], str | None]:
        deltas: list[Delta] = []
        if not self._head.name:
            rest = self._head.feed(text)
            if rest is None:
                return self._fail() if self._head.failed else ([], None)
            deltas.append(self._numbers.open(self._head.name))
            text = rest
        end = self._arguments.find(text)
        return deltas + self._numbers.more(text[:end]), None if end is None else text[end:]

    def end(self) -> list[Delta]:
        return [] if self._head.name else [Delta(self._lead + self._head.held)]

    def _fail(self) -> tuple[list[Delta], str | None]:
        self.failed = True
        return [Delta(self._lead)] if self._lead else [], self._head.held
