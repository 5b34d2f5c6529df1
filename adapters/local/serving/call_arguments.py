"""Grammars of a call's arguments, from the schema of a tool's parameters, in each family's notation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from adapters.local.serving.calls.syntax import CallSyntax, Tags
from adapters.local.serving.gemma_arguments import GemmaRules
from adapters.local.serving.lark import Lark
from adapters.local.serving.schemas import UNWRITABLE, check_keywords, schema_text

Schema = Mapping[str, Any]
Check = Callable[[str], str]
"""Says why a schema's text cannot be enforced; "" if it can."""

_ANY_OBJECT: Schema = {"type": "object"}
_DEFINITIONS = ("$defs", "definitions")
_KEY = "/[A-Za-z0-9_.-]{1,64}/"
_PLAIN_KEY = re.compile(r"[^\s<>](?:[^\n<>]*[^\s<>])?")
"""One that is read again as it was written."""


class Arguments:
    """Writes the arguments of the calls of one grammar."""

    def __init__(self, lark: Lark, syntax: CallSyntax, check: Check) -> None:
        self._lark = lark
        self._syntax = syntax
        self._check = check

    def enforced(self, parameters: Schema) -> str:
        """Raises ValueError with the reason why the schema cannot be enforced."""
        return self._write(parameters, lenient=False)

    def lenient(self, parameters: Schema) -> str:
        """As much of the schema as can be enforced, or nothing but that the arguments are an object."""
        try:
            return self._write(parameters, lenient=True)
        except ValueError:
            return self._write(_ANY_OBJECT, lenient=True)

    def _write(self, parameters: Schema, *, lenient: bool) -> str:
        schema = {"type": "object", **parameters}
        if self._syntax.arguments == "json":
            return self._json(schema, lenient=lenient)
        self._checked(schema, lenient=lenient)
        if self._syntax.tags is not None:
            return self._tagged(self._syntax.tags, schema, lenient=lenient)
        return GemmaRules(self._lark, schema, lenient=lenient).arguments()

    def _json(self, schema: Schema, *, lenient: bool) -> str:
        return self._lark.schema(self._checked(schema, lenient=lenient))

    def _checked(self, schema: Schema, *, lenient: bool) -> str:
        text = schema_text(schema, lenient=lenient)
        if fault := self._check(text):
            raise ValueError(fault)
        return text

    def _tagged(self, tags: Tags, schema: Schema, *, lenient: bool) -> str:
        check_keywords(schema, {"type", "properties", "required", "additionalProperties"}, lenient=lenient)
        required = schema.get("required", ())
        properties = dict.fromkeys(required, True) | schema.get("properties", {})
        if not properties and schema.get("additionalProperties") is not False:
            return f"({self._lark.literal(tags.open)} {_KEY} {self._lark.literal(tags.between)} {self._raw(tags)})*"
        definitions = {name: schema[name] for name in _DEFINITIONS if name in schema}
        items = []
        for key, value in properties.items():
            if value is False:
                continue
            if not _PLAIN_KEY.fullmatch(key):
                raise ValueError(UNWRITABLE)
            whole = {} if value is True else {**definitions, **value}
            item = f"{self._lark.literal(tags.open + key + tags.between)} {self._value(tags, whole, lenient=lenient)}"
            items.append(item if key in required else f"({item})?")
        return " ".join(items)

    def _value(self, tags: Tags, schema: Schema, *, lenient: bool) -> str:
        """A value and what closes it. Its reader takes for text whatever may be a string by its `type`."""
        kinds = schema.get("type", ())
        kinds = {kinds} if isinstance(kinds, str) else {*kinds}
        if "string" not in kinds:
            return f"{self._json(schema, lenient=lenient)} {self._lark.literal(tags.close)}"
        if kinds - {"string", "null"} and not lenient:
            raise ValueError("it has a 'type' of strings and others, which this model writes alike")
        check_keywords(schema, {"type", "enum", "const"}, lenient=lenient)
        options = [schema["const"]] if "const" in schema else schema.get("enum")
        if options is None:
            return self._raw(tags)
        words = ["null" if option is None else str(option) for option in options]
        if any(tags.close.strip() in word for word in words):
            raise ValueError("it has an 'enum' or 'const' with what ends a value in the way this model writes calls")
        return f"{self._lark.one_of(map(self._lark.literal, words))} {self._lark.literal(tags.close)}"

    def _raw(self, tags: Tags) -> str:
        """Text as it is, up to the first closing tag; the line break before it is the reader's to remove."""
        tag = tags.close.strip()
        after = tags.close.partition(tag)[2]
        return f"{self._lark.until(tag)} {self._lark.literal(after)}"
