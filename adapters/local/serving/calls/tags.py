"""Calls whose arguments are tagged keys and values: Qwen3-Coder and Qwen 3.5, GLM-4.5 and later.

A value whose parameter is a string stands as it is and is sent on while it comes; any other is JSON.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters.canonical import Delta, Tool
from adapters.local.serving.calls.head import Head
from adapters.local.serving.calls.syntax import Numbers
from adapters.wire.json_text import NotJson, dump_text, loads
from adapters.wire.think import overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The texts of one family. Blanks between them mean nothing."""

    head: re.Pattern[str]
    """From the marker to behind the name, which is its group."""
    key: str
    key_end: str
    value: str
    """Without one, values stand on lines of their own: the line breaks around them are no part of them."""
    value_end: str
    close: str
    """Ends the arguments."""

    @property
    def own_lines(self) -> bool:
        return not self.value


class TaggedArguments:
    """One call. Fulfils `Body`."""

    def __init__(self, numbers: Numbers, lead: str, shape: Shape, tools: Sequence[Tool]) -> None:
        self._numbers = numbers
        self._lead = lead
        self._shape = shape
        self._tools = tools
        self._head = Head(shape.head)
        self._properties: Any = None
        self._held = ""
        self._state = self._at_item
        self._count = 0
        self._key = ""
        self._over = False
        self.failed = False

    def feed(self, text: str) -> tuple[list[Delta], str | None]:
        deltas: list[Delta] = []
        if not self._head.name:
            rest = self._head.feed(text)
            if rest is None:
                return self._fail() if self._head.failed else ([], None)
            deltas.append(self._numbers.open(self._head.name))
            self._properties = _properties(self._head.name, self._tools)
            text = rest
        self._held += text
        pieces: list[str] = []
        while not self._over and self._state(pieces):
            pass
        deltas += self._numbers.more("".join(pieces))
        return deltas, self._held if self._over else None

    def end(self) -> list[Delta]:
        """Of a value that is cut off stays what came."""
        if not self._head.name:
            return [Delta(self._lead + self._head.held)]
        if self._state == self._in_string:
            return self._numbers.more(_escaped(self._held))
        return self._numbers.more(self._held if self._state == self._in_value else "")

    def _fail(self) -> tuple[list[Delta], str | None]:
        self.failed = True
        return [Delta(self._lead)], self._head.held

    # Each state reads what it can of `_held`, adds JSON text to `pieces`, and tells whether to go on at once.

    def _at_item(self, pieces: list[str]) -> bool:
        shape, self._held = self._shape, self._held.lstrip()
        if self._held.startswith(shape.key):
            self._held = self._held[len(shape.key) :]
            self._state = self._in_key
            return True
        if shape.key.startswith(self._held) or (shape.close.startswith(self._held) and self._held != shape.close):
            return False
        self._held = self._held.removeprefix(shape.close)
        return self._close(pieces)

    def _close(self, pieces: list[str]) -> bool:
        self._over = True
        pieces.append("}" if self._count else "{}")
        return True

    def _in_key(self, pieces: list[str]) -> bool:
        key, found, rest = self._held.partition(self._shape.key_end)
        if not found:
            return False
        self._key, self._held, self._state = key.strip(), rest, self._at_value
        return True

    def _at_value(self, pieces: list[str]) -> bool:
        marker = self._shape.value
        if marker:
            self._held = self._held.lstrip()
            if not self._held.startswith(marker):
                return False if marker.startswith(self._held) else self._close(pieces)
            self._held = self._held[len(marker) :]
        elif not self._held:
            return False  # whether a line break comes first is not yet known
        else:
            self._held = self._held.removeprefix("\n")
        pieces.append(f"{', ' if self._count else '{'}{dump_text(self._key)}: ")
        self._count += 1
        is_text = _types(self._properties, self._key) == {"string"}
        self._state = self._in_string if is_text else self._in_value
        if is_text:
            pieces.append('"')
        return True

    def _in_string(self, pieces: list[str]) -> bool:
        end = self._shape.value_end
        value, found, rest = self._held.partition(end)
        if found:
            pieces.append(_escaped(value.removesuffix("\n") if self._shape.own_lines else value) + '"')
            self._held, self._state = rest, self._at_item
            return True
        keep = max(overlap(value, end), overlap(value, f"\n{end}") if self._shape.own_lines else 0)
        shown = len(value) - keep
        pieces.append(_escaped(value[:shown]))
        self._held = value[shown:]
        return False

    def _in_value(self, pieces: list[str]) -> bool:
        value, found, rest = self._held.partition(self._shape.value_end)
        if not found:
            return False
        pieces.append(_json(value.strip(), _types(self._properties, self._key)))
        self._held, self._state = rest, self._at_item
        return True


def _properties(name: str, tools: Sequence[Tool]) -> Any:
    return next((tool.parameters.get("properties") for tool in tools if tool.name == name), None)


def _types(properties: Any, key: str) -> set[str]:
    """The JSON types that a parameter may have, as far as its schema says so in plain words."""
    schema = properties.get(key) if isinstance(properties, dict) else None
    types = schema.get("type") if isinstance(schema, dict) else None
    return {types} if isinstance(types, str) else {str(type) for type in types} if isinstance(types, list) else set()


def _json(value: str, types: set[str]) -> str:
    """A value as JSON text. Some templates show the model Python's spelling of it."""
    if "string" in types and value not in ("null", "None"):
        return dump_text(value)
    try:
        loads(value.encode())
    except NotJson:
        return _from_python(value)
    return value


def _from_python(value: str) -> str:
    try:
        return dump_text(ast.literal_eval(value))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return dump_text({"true": True, "false": False}.get(value.lower(), value))


def _escaped(text: str) -> str:
    return dump_text(text)[1:-1]
