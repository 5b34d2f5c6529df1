"""Arguments in Gemma's notation, which is JSON but for bare keys and `<|"|>` around strings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.local.serving.lark import Lark
from adapters.local.serving.schemas import UNWRITABLE, check_keywords

_QUOTE = '<|"|>'
_KEY = "/[A-Za-z0-9_.-]{1,64}/"
_PLAIN_KEY = re.compile(r"[^\s{}\[\],:<|]+")
_SCALARS = {
    "integer": "/-?(0|[1-9][0-9]{0,17})/",
    "number": "/-?(0|[1-9][0-9]{0,17})([.][0-9]{1,17})?/",
    "boolean": '("true" | "false")',
    "null": '"null"',
}
_TYPES = (*_SCALARS, "string", "array", "object")
_OF_OBJECTS = ("properties", "required", "additionalProperties")
_TYPED = ("type", "items", *_OF_OBJECTS)
"""Keywords that mean nothing to values of another type than theirs."""


class GemmaRules:
    """Rules for the arguments of one tool, whose schema the compiler of JSON's grammars has found sound.

    `lenient`: what cannot be enforced is passed over. Methods raise ValueError with the reason why something cannot.
    """

    def __init__(self, lark: Lark, root: Mapping[str, Any], *, lenient: bool) -> None:
        self._lark = lark
        self._root = root
        self._lenient = lenient
        self._referred: dict[str, str] = {}

    def arguments(self) -> str:
        self._check(self._root, *_TYPED)
        return self._object(self._root)

    def _value(self, schema: Any) -> str:
        if not isinstance(schema, dict):
            return self._one_of_types(_TYPES, {})
        if "$ref" in schema:
            self._check(schema, "$ref")
            return self._reference(schema["$ref"])
        if "anyOf" in schema:
            self._check(schema, "anyOf")
            return self._lark.one_of([self._value(option) for option in schema["anyOf"]])
        if "enum" in schema or "const" in schema:
            self._check(schema, "enum", "const", "type")
            options = [schema["const"]] if "const" in schema else schema["enum"]
            return self._lark.one_of([self._constant(option) for option in options])
        self._check(schema, *_TYPED)
        return self._one_of_types(_types(schema), schema)

    def _one_of_types(self, types: Sequence[str], schema: Mapping[str, Any]) -> str:
        return self._lark.one_of([self._typed(type, schema) for type in types])

    def _typed(self, type: str, schema: Mapping[str, Any]) -> str:
        if type == "object":
            return self._object(schema)
        if type == "array":
            item = self._value(schema["items"]) if "items" in schema else self._anything()
            return f'("[" ({item} ("," {item})*)? "]")'
        return _SCALARS.get(type) or f"{self._lark.literal(_QUOTE)} {self._lark.until(_QUOTE)}"

    def _object(self, schema: Mapping[str, Any]) -> str:
        required = schema.get("required", ())
        properties = dict.fromkeys(required, True) | schema.get("properties", {})
        if not properties and schema.get("additionalProperties") is not False:
            member = f'({_KEY} ":" {self._anything()})'
            return f'("{{" ({member} ("," {member})*)? "}}")'
        # From the last to the first: what may follow a member, and what may stand where none was before.
        after = first = '""'
        for key, value in reversed(properties.items()):
            if value is False:
                continue
            if not _PLAIN_KEY.fullmatch(key):
                raise ValueError(UNWRITABLE)
            member = f"{self._lark.literal(f'{key}:')} {self._value(value)}"
            behind = [f'"," {member} {after}']
            begun = [f"{member} {after}"]
            first = self._lark.one_of(begun if key in required else [*begun, first])
            after = self._lark.one_of(behind if key in required else [*behind, after])
        return f'("{{" {first} "}}")'

    def _constant(self, value: Any) -> str:
        if isinstance(value, str):
            if _QUOTE in value:
                raise ValueError("it has an 'enum' or 'const' with what ends a text in the way this model writes calls")
            return self._lark.literal(f"{_QUOTE}{value}{_QUOTE}")
        if isinstance(value, dict | list):
            raise ValueError("it has an object or an array in an 'enum', which this model cannot be kept to")
        return json.dumps(json.dumps(value))

    def _reference(self, pointer: str) -> str:
        """A rule of its own, which may refer to itself."""
        if pointer not in self._referred:
            self._referred[pointer] = name = self._lark.name()
            self._lark.rule(name, self._value(self._target(pointer)))
        return self._referred[pointer]

    def _target(self, pointer: str) -> Any:
        start, *parts = pointer.split("/")
        target: Any = self._root if start == "#" else None
        for part in parts:
            key = part.replace("~1", "/").replace("~0", "~")
            target = target.get(key) if isinstance(target, dict) else None
        if target is None:
            raise ValueError("it has a '$ref' that cannot be followed in the way this model writes calls")
        return target

    def _anything(self) -> str:
        """Any value, by a rule that refers to itself."""
        if "" not in self._referred:
            self._referred[""] = name = self._lark.name()
            self._lark.rule(name, self._value(True))
        return self._referred[""]

    def _check(self, schema: Mapping[str, Any], *known: str) -> None:
        check_keywords(schema, set(known), lenient=self._lenient)


def _types(schema: Mapping[str, Any]) -> Sequence[str]:
    """Those that a value may have, or the one that the author has had in mind."""
    types: str | Sequence[str] | None = schema.get("type")
    if types is None:
        return ["object"] if schema.keys() & {*_OF_OBJECTS} else ["array"] if "items" in schema else _TYPES
    return [types] if isinstance(types, str) else types
