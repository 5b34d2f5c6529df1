"""What keeps a JSON value from being of a type: the first place where it differs, in plain words.

Asked only after msgspec has refused a value: msgspec decides, and this says why. Its own words are for programmers, and
the path it tells leaves out which entry of an object it means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import inspect

from adapters.errors import InvalidRequest
from adapters.wire.validation import complaint, counted

Read = Callable[[type, Any], Any]
"""Makes a type of our own of a JSON value; raises ValueError saying what is expected."""

_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")
_NUMBER = "a number"
_MOST = 50_000
"""Items and entries that are looked at, which takes some 0.1 s; of what is wrong beyond, msgspec's path says enough."""
_WORDS: tuple[tuple[type[inspect.Type], str], ...] = (
    (inspect.StrType, "a string"),
    (inspect.LiteralType, "a string"),
    (inspect.BoolType, "a boolean"),
    (inspect.FloatType, _NUMBER),
    (inspect.IntType, "an integer"),
    (inspect.ListType, "an array"),
    (inspect.DictType, "an object"),
    (inspect.StructType, "an object"),
    (inspect.NoneType, "null"),
)


def refusal(
    exc: msgspec.ValidationError,
    value: Any,
    kind: Any,
    *,
    at: str = "",
    strict: bool = True,
    read: Read | None = None,
    ranges: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> InvalidRequest:
    """What msgspec refused `value` for as a `kind`, by path, the JSON type found and what is allowed, never the value.

    `at` is the path of the whole; `strict` and `read` are what msgspec was told; `ranges` are those of integers by
    path, where they are narrower than the type's.
    """
    return _Search(strict, read, ranges).first(value, _info(kind), at) or complaint(exc, at)


_info = cache(inspect.type_info)


class _Search:
    """Looks for the first difference, from the outside in, in the order of the type's fields."""

    def __init__(self, strict: bool, read: Read | None, ranges: Mapping[str, tuple[int, int]]) -> None:
        self._strict = strict
        self._read = read
        self._ranges = ranges
        self._left = _MOST

    def first(self, value: Any, kind: inspect.Type, path: str) -> InvalidRequest | None:
        kinds = _kinds(kind)
        fitting = [kind for kind in kinds if self._is_of(value, kind)]
        if not fitting:
            choices = next((kind.values for kind in kinds if isinstance(kind, inspect.LiteralType)), None)
            return _no_choice(path, choices, value) if choices else _wrong_type(path, kinds, value)
        if len(fitting) > 1 and isinstance(fitting[0], inspect.StructType):
            return self._tagged(value, fitting, path)
        return self._inside(value, fitting[0], path)

    def _is_of(self, value: Any, kind: inspect.Type) -> bool:
        """Whether the value is of the type's JSON type, whatever is in it."""
        match kind:
            case inspect.AnyType() | inspect.RawType() | inspect.CustomType():
                return True
            case inspect.StrType() | inspect.LiteralType():
                return isinstance(value, str)
            case inspect.ListType():
                return isinstance(value, list)
            case inspect.DictType() | inspect.StructType():
                return isinstance(value, dict)
            case inspect.NoneType():
                return value is None
        return self._is_scalar(value, kind)

    def _is_scalar(self, value: Any, kind: inspect.Type) -> bool:
        """Numbers and truth values, which text may stand for where the value did not come from JSON."""
        if isinstance(value, int) and not isinstance(value, bool) and not isinstance(kind, inspect.BoolType):
            return True  # of any length, for which msgspec has a complaint of its own
        target = {inspect.IntType: int, inspect.FloatType: float, inspect.BoolType: bool}[type(kind)]
        try:
            msgspec.convert(value, target, strict=self._strict)
        except msgspec.ValidationError:
            return False
        return True

    def _inside(self, value: Any, kind: inspect.Type, path: str) -> InvalidRequest | None:
        match kind:
            case inspect.LiteralType(values=values):
                return None if value in values else _no_choice(path, values, value)
            case inspect.StrType(min_length=least, max_length=most):
                return _out_of_bounds(path, len(value), "character", least, most)
            case inspect.ListType(item_type=inner, min_length=least, max_length=most):
                items = ((f"{path}[{i}]", item) for i, item in enumerate(value))
                return _out_of_bounds(path, len(value), "item", least, most) or self._among(items, inner)
            case inspect.DictType(value_type=inner, min_length=least, max_length=most):
                entries = ((_below(path, _named(key, i)), item) for i, (key, item) in enumerate(value.items()))
                return _out_of_bounds(path, len(value), "entry", least, most) or self._among(entries, inner)
            case inspect.StructType():
                return self._fields(value, kind, path)
            case inspect.IntType(ge=low, le=high):
                return self._beyond(value, path, *self._ranges.get(path, (low, high)))
            case inspect.CustomType(cls=cls) if self._read is not None:
                try:
                    self._read(cls, value)
                except ValueError as exc:
                    got = "" if isinstance(value, list) else f", but got {_other(value)} instead"
                    return InvalidRequest(f"Invalid value for '{path}': {exc}{got}.", param=path)
        return None

    def _among(self, items: Iterator[tuple[str, Any]], kind: inspect.Type) -> InvalidRequest | None:
        for path, item in items:
            self._left -= 1
            if self._left < 0:
                return None
            if found := self.first(item, kind, path):
                return found
        return None

    def _fields(self, value: dict[str, Any], kind: inspect.StructType, path: str) -> InvalidRequest | None:
        for field in kind.fields:
            at = _below(path, f".{field.encode_name}")
            if field.encode_name in value:
                if found := self.first(value[field.encode_name], field.type, at):
                    return found
            elif field.required:
                return _missing(at, field.type)
        return None

    def _tagged(self, value: dict[str, Any], kinds: list[Any], path: str) -> InvalidRequest | None:
        """One of several kinds of objects, which a field tells apart."""
        name = kinds[0].tag_field
        at = _below(path, f".{name}")
        if name not in value:
            return _missing(at, inspect.StrType())
        tag = value[name]
        if not isinstance(tag, str):
            return _wrong_type(at, (inspect.StrType(),), tag)
        chosen = next((kind for kind in kinds if kind.tag == tag), None)
        return self._fields(value, chosen, path) if chosen else _no_choice(at, [kind.tag for kind in kinds], tag)

    def _beyond(self, value: Any, path: str, low: int | None, high: int | None) -> InvalidRequest | None:
        number = value if isinstance(value, int) else msgspec.convert(value, int, strict=self._strict)
        if (low is None or number >= low) and (high is None or number <= high):
            return None
        span = f"of {low} or more" if high is None else f"from {low} to {high}"
        side = "smaller" if low is not None and number < low else "larger"
        return InvalidRequest(
            f"Invalid value for '{path}': expected an integer {span}, but got a {side} one instead.", param=path
        )


def _below(path: str, step: str) -> str:
    return f"{path}{step}" if path else step.removeprefix(".")


def _named(key: str, index: int) -> str:
    """An entry of an object: by its key where that is a name, else by its place, for a key may be anything."""
    return f".{key}" if _KEY.fullmatch(key) else f"[{index}]"


def _missing(path: str, kind: inspect.Type) -> InvalidRequest:
    wanted = _wanted(_kinds(kind))
    hint = f" ({wanted})" if wanted else ""
    message = f"Missing required parameter: '{path}'{hint}."
    return InvalidRequest(message, param=path, code="missing_required_parameter")


def _wrong_type(path: str, kinds: Sequence[inspect.Type], value: Any) -> InvalidRequest:
    subject = f"Invalid type for '{path}'" if path else "Invalid body"
    message = f"{subject}: expected {_wanted(kinds)}, but got {_found(value)} instead."
    return InvalidRequest(message, param=path or None, code="invalid_type")


def _kinds(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _wanted(kinds: Sequence[inspect.Type]) -> str:
    """The JSON types of these types, save a null beside others; `""` where anything will do."""
    words = dict.fromkeys(word for kind in kinds for type_, word in _WORDS if type(kind) is type_)
    if len(words) > 1:
        words.pop("null", None)
    if _NUMBER in words:
        words.pop("an integer", None)
    return " or ".join(words)


def _no_choice(path: str, choices: Iterable[Any], value: Any) -> InvalidRequest:
    *words, last = (f"'{word}'" for word in choices)
    message = f"supported values are {', '.join(words)} and {last}, but got {_other(value)} instead."
    return InvalidRequest(f"Invalid value for '{path}': {message}", param=path)


def _out_of_bounds(path: str, size: int, unit: str, least: int | None, most: int | None) -> InvalidRequest | None:
    if least is not None and size < least:
        bound = f"at least {counted(least, unit)}"
    elif most is not None and size > most:
        bound = f"at most {counted(most, unit)}"
    else:
        return None
    return InvalidRequest(f"Invalid value for '{path}': expected {bound}, but got {size} instead.", param=path)


def _found(value: Any) -> str:
    """The JSON type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return _NUMBER
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
    return "bytes"


def _other(value: Any) -> str:
    """The same where a string is allowed, but not this one."""
    return "another string" if isinstance(value, str) else _found(value)
