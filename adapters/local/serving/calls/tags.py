"""Calls whose arguments are tagged keys and values: Qwen3-Coder and Qwen 3.5, GLM-4.5 and later.

A value whose parameter is a string stands as it is and is sent on while it comes; any other is JSON.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from adapters.canonical import Tool
from adapters.local.serving.calls.awaited import Awaited
from adapters.local.serving.calls.head import NamedCall
from adapters.local.serving.calls.syntax import Opener
from adapters.wire.json_text import NotJson, dump_text, loads
from adapters.wire.think import overlap

State = Callable[[list[str]], bool]


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
    """The arguments of one call. Fulfils `head.Arguments`."""

    def __init__(self, name: str, shape: Shape, tools: Sequence[Tool]) -> None:
        """`name` is that of the function, whose parameters are told by one of the `tools`."""
        self._shape = shape
        self._properties = _properties(name, tools)
        self._held = ""
        self._state: State = self._at_item
        self._count = 0
        self._awaited = Awaited(shape.key_end)
        """The key or the value that is being read."""
        self._key = ""
        self._over = False

    def feed(self, text: str) -> tuple[str, str | None]:
        self._held += text
        pieces: list[str] = []
        while not self._over and self._state(pieces):
            pass
        return "".join(pieces), self._held if self._over else None

    def end(self) -> str:
        """Of a value that is cut off stays what came."""
        if self._state == self._in_string:
            return _escaped(self._held)
        return self._awaited.text if self._state == self._in_value else ""

    # Each state reads what it can of `_held`, adds JSON text to `pieces`, and tells whether to go on at once.

    def _at_item(self, pieces: list[str]) -> bool:
        shape, self._held = self._shape, self._held.lstrip()
        if self._held.startswith(shape.key):
            self._held = self._held[len(shape.key) :]
            self._await(shape.key_end, self._in_key)
            return True
        if shape.key.startswith(self._held) or (shape.close.startswith(self._held) and self._held != shape.close):
            return False
        self._held = self._held.removeprefix(shape.close)
        return self._close(pieces)

    def _close(self, pieces: list[str]) -> bool:
        self._over = True
        pieces.append("}" if self._count else "{}")
        return True

    def _await(self, end: str, state: State) -> None:
        self._awaited, self._state = Awaited(end), state

    def _arrived(self) -> bool:
        """Whether what is awaited has come; if not, all that is there belongs to it."""
        rest = self._awaited.feed(self._held)
        self._held = rest or ""
        return rest is not None

    def _in_key(self, pieces: list[str]) -> bool:
        if not self._arrived():
            return False
        self._key, self._state = self._awaited.text.strip(), self._at_value
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
        if _types(self._properties, self._key) == {"string"}:
            self._state = self._in_string
            pieces.append('"')
        else:
            self._await(self._shape.value_end, self._in_value)
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
        if not self._arrived():
            return False
        pieces.append(_json(self._awaited.text.strip(), _types(self._properties, self._key)))
        self._state = self._at_item
        return True


def tagged_call(shape: Shape, tools: Sequence[Tool]) -> Opener:
    return partial(NamedCall, head=shape.head, arguments=partial(TaggedArguments, shape=shape, tools=tools))


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
