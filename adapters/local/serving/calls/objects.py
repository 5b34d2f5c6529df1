"""Calls as JSON objects with a name and arguments: one, a list of them, or several in a row.

Hermes 2 Pro and Qwen 2.5/3 (`{"name", "arguments"}`), Llama 3.1 (`{"name", "parameters"}`, several set off by `;`),
Mistral before 2025 and Phi-4-mini (a list). Source: their model cards and chat templates.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from adapters.canonical import Delta
from adapters.local.serving.calls.json_value import ValueEnd
from adapters.local.serving.calls.syntax import Numbers
from adapters.wire.json_text import NotJson, dump_text, loads

_STRING = r'"((?:[^"\\]|\\.)*)"'
_NAME = re.compile(rf'\s*\{{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*{_STRING}', re.DOTALL)
_ARGUMENTS = re.compile(r'\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_MOST_HEAD = 2**10
"""Characters of an object to where its arguments begin, if they are to go out as they come."""
_MOST_HELD = 2**16
"""Characters of an object that has another form, which is only understood as a whole."""


class CallObject:
    """One object. The name is sent once the arguments begin, which then go out as they come. Fulfils `Body`."""

    def __init__(self, numbers: Numbers, lead: str, names: Collection[str] | None = None) -> None:
        """`lead` is what came before it, to be given back if this is no call: as with a name that is not in `names`."""
        self._numbers = numbers
        self._lead = lead
        self._names = names
        self._object = ValueEnd()
        self._arguments = ValueEnd()
        self._held = ""
        self._in_head = True
        self._begun = False
        self._arguments_done = False
        self.failed = False

    def feed(self, text: str) -> tuple[list[Delta], str | None]:
        """The first character is the opening brace."""
        end = self._object.find(text)
        own, rest = (text, None) if end is None else (text[:end], text[end:])
        if self._begun:
            return self._more(own), rest
        self._held += own
        return self._begin(rest)

    def end(self) -> list[Delta]:
        return [] if self._begun else [Delta(self._lead + self._held)]

    def _begin(self, rest: str | None) -> tuple[list[Delta], str | None]:
        """What is known so far: the usual order of keys is name, then arguments."""
        name = _NAME.match(self._held, 0, _MOST_HEAD) if self._in_head else None
        self._in_head = len(self._held) < _MOST_HEAD
        if name is not None:
            called = _read_string(name[1])
            if called is None or (self._names is not None and called not in self._names):
                return self._fail(name.end(), rest)
            if arguments := _ARGUMENTS.match(self._held, name.end(), _MOST_HEAD):
                self._begun = True
                return [self._numbers.open(called), *self._more(self._held[arguments.end() :])], rest
        if len(self._held) > _MOST_HELD:
            return self._fail(_MOST_HELD + 1, rest)
        if rest is None:
            return [], None
        call = _read_call(self._held)
        if call is None or (self._names is not None and call[0] not in self._names):
            return self._fail(len(self._held), rest)
        self._begun = True
        return [self._numbers.open(*call)], rest

    def _fail(self, at: int, rest: str | None) -> tuple[list[Delta], str | None]:
        self.failed = True
        return [Delta(self._lead + self._held[:at])], self._held[at:] + (rest or "")

    def _more(self, text: str) -> list[Delta]:
        if self._arguments_done:
            return []
        end = self._arguments.find(text)
        self._arguments_done = end is not None
        return self._numbers.more(text[:end])


def _read_string(inner: str) -> str | None:
    try:
        value = loads(f'"{inner}"'.encode())
    except NotJson:
        return None
    return value if isinstance(value, str) and value else None


def _read_call(text: str) -> tuple[str, str] | None:
    """Name and arguments (JSON text) of a whole object, nested in `function` or not."""
    try:
        value: Any = loads(text.encode())
    except NotJson:
        return None
    if isinstance(inner := value.get("function"), dict):
        value = inner
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        arguments = _decoded(arguments)
    if not isinstance(name, str) or not name or not isinstance(arguments, dict | None):
        return None
    return name, dump_text(arguments or {})


def _decoded(text: str) -> Any:
    """Arguments that were encoded twice."""
    try:
        return loads(text.encode())
    except NotJson:
        return text or None


class ObjectList:
    """Objects in a row, in brackets or not, set off by commas, semicolons or blanks. Fulfils `Body`."""

    def __init__(self, numbers: Numbers, lead: str, names: Collection[str] | None = None) -> None:
        self._numbers = numbers
        self._names = names
        self._call: CallObject | None = None
        self._set_off = [lead]  # what came since the last object
        self._in_list = False
        self._closed = False
        self._any = False
        self.failed = False

    def feed(self, text: str) -> tuple[list[Delta], str | None]:
        deltas: list[Delta] = []
        while True:
            if self._call is None:
                at = self._between(text)
                if at is None:
                    return deltas, None
                if self._call is None:
                    return deltas + self._over(), text[at:]
                text = text[at:]
            pieces, rest = self._call.feed(text)
            deltas += pieces
            if rest is None:
                return deltas, None
            self.failed = self._call.failed
            if self.failed:
                return deltas, rest
            self._call, self._any, text = None, True, rest
            self._set_off.clear()

    def end(self) -> list[Delta]:
        return self._call.end() if self._call is not None else self._over()

    def _between(self, text: str) -> int | None:
        """Where the next object begins, or where it is clear that none does; `None` if neither is in `text`."""
        for at, mark in enumerate(text):
            if mark == "{":
                self._call = CallObject(self._numbers, "".join(self._set_off), self._names)
                return at
            if self._closed or not self._may_stand(mark):
                return at
            self._set_off.append(mark)
        return None

    def _may_stand(self, mark: str) -> bool:
        if mark.isspace():
            return True
        if mark == "[" and not self._in_list and not self._any:
            self._in_list = True
            return True
        if mark == "]" and self._in_list and self._any:
            self._closed = True
            return True
        return mark in ",;" and self._any

    def _over(self) -> list[Delta]:
        """What set off nothing is text, unless it closes the list."""
        self.failed = not self._any
        set_off = "".join(self._set_off)
        text = "" if self._closed else set_off.strip() if self._any else set_off
        return [Delta(text)] if text else []
