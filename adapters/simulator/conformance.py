"""Whether a JSON value is an instance of a JSON Schema (2020-12, and what is left of older drafts).

Only as much as the generator beside it needs to know that it has not made a wrong one. `format` and the
`unevaluated*` keywords are not checked. A reference that cannot be followed is never met.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sized
from fractions import Fraction
from typing import Any, Protocol
from urllib.parse import unquote

from adapters.simulator.pattern import Searches


class Met(Protocol):
    """Whether a part of the value meets a part of the schema, and whether an expression is found in a text."""

    def __call__(self, value: Any, schema: Any, /) -> bool: ...

    def found(self, pattern: str, text: str) -> bool: ...


Found = Callable[[str, str], bool]
Check = Callable[[Any, Any, Mapping[str, Any], Met], bool]
"""One keyword: the value, the keyword's own parameter, the schema it stands in, and `Met`."""

_MAX_DEPTH = 60
_STEPS_A_SEARCH = 3
"""Even a search that is not made takes as long as a few other checks: its cost has to be known."""


def resolve_pointer(root: Any, reference: str) -> Any:
    """What `#`, `#/$defs/Name` and the like point at within `root`. Raises LookupError."""
    if not reference.startswith("#") or (len(reference) > 1 and reference[1] != "/"):
        raise LookupError("only references within the schema can be followed")
    found = root
    for step in unquote(reference).split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            if not key.isdecimal() or int(key) >= len(found):
                raise LookupError("a reference points at nothing")
            found = found[int(key)]
        elif isinstance(found, Mapping) and key in found:
            found = found[key]
        else:
            raise LookupError("a reference points at nothing")
    return found


def number(value: Any) -> int | float | None:
    """The value if it is a finite JSON number, else `None`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def items_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def fraction(value: Any) -> Fraction | None:
    """The number as it was written: `0.1` is a tenth."""
    checked = number(value)
    if checked is None:
        return None
    return Fraction(checked) if isinstance(checked, int) else Fraction(str(checked))


def key(value: Any) -> Any:
    """Equal for values that JSON Schema calls equal: `1` and `1.0` are, `1` and `true` are not."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        return ("list", tuple(key(item) for item in value))
    if isinstance(value, Mapping):
        return ("object", frozenset((name, key(item)) for name, item in value.items()))
    return value


def is_type(name: str, value: Any) -> bool:
    test = _TYPES.get(name)
    return test is not None and test(value)


class TooComplex(ValueError):
    """The schema takes more steps than anybody should wait for."""


class Conformance:
    """Tells whether values are instances of schemas whose references are within `root`.

    `steps` bounds the work of all calls together: schemas come from strangers, and a few dozen lines
    can ask for years of it.
    """

    def __init__(self, root: Any, steps: int = 50_000) -> None:
        self._root = root
        self._left = steps
        self._searches = Searches()

    def __call__(self, value: Any, schema: Any, depth: int = 0) -> bool:
        """True if `value` is an instance of `schema`. Raises TooComplex."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
            return False
        self._count_step()
        met = _Within(self, depth + 1)
        return self._meets_reference(value, schema, met) and all(
            _KEYWORDS[word](value, parameter, schema, met) for word, parameter in schema.items() if word in _KEYWORDS
        )

    def found(self, pattern: str, text: str) -> bool:
        """True if the expression is found in the text, or cannot be looked for. Raises TooComplex."""
        self._count_step(_STEPS_A_SEARCH)
        return self._searches.found(pattern, text)

    def _count_step(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooComplex("the schema is too complex")

    def _meets_reference(self, value: Any, schema: Mapping[str, Any], met: Met) -> bool:
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return True
        try:
            return met(value, resolve_pointer(self._root, reference))
        except LookupError:
            return False


class _Within:
    """The same, for the parts of a schema."""

    def __init__(self, conforms: Conformance, depth: int) -> None:
        self._conforms = conforms
        self._depth = depth
        self.found = conforms.found

    def __call__(self, value: Any, schema: Any) -> bool:
        return self._conforms(value, schema, self._depth)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: number(value) is not None and value == int(value),
    "number": lambda value: number(value) is not None,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, Mapping),
}


def _type(value: Any, names: Any, schema: Mapping[str, Any], met: Met) -> bool:
    return any(is_type(name, value) for name in ([names] if isinstance(names, str) else strings(names)))


def _bound(holds: Callable[[Any, Any], bool], size: Callable[[Any], Any | None]) -> Check:
    """A keyword that compares a measure of the value with a number; it says nothing of other values."""

    def check(value: Any, limit: Any, schema: Mapping[str, Any], met: Met) -> bool:
        measured = size(value)
        return measured is None or number(limit) is None or holds(measured, limit)

    return check


def _length(kind: type[Sized]) -> Callable[[Any], int | None]:
    return lambda value: len(value) if isinstance(value, kind) else None


def _multiple_of(value: Any, step: Any, schema: Mapping[str, Any], met: Met) -> bool:
    whole, part = fraction(value), fraction(step)
    return whole is None or not part or whole % part == 0


def _pattern(value: Any, pattern: Any, schema: Mapping[str, Any], met: Met) -> bool:
    return not isinstance(value, str) or not isinstance(pattern, str) or met.found(pattern, value)


def _required(value: Any, names: Any, schema: Mapping[str, Any], met: Met) -> bool:
    return not isinstance(value, Mapping) or all(name in value for name in strings(names))


def _properties(value: Any, properties: Any, schema: Mapping[str, Any], met: Met) -> bool:
    if not isinstance(value, Mapping):
        return True
    return all(met(value[name], part) for name, part in mapping(properties).items() if name in value)


def _pattern_properties(value: Any, parts: Any, schema: Mapping[str, Any], met: Met) -> bool:
    if not isinstance(value, Mapping):
        return True
    return all(met(value[name], part) for name in value for part in parts_for(name, parts, met.found))


def parts_for(name: str, pattern_properties: Any, found: Found) -> list[Any]:
    """The schemas of `patternProperties` that a property of this name has to meet."""
    return [part for pattern, part in mapping(pattern_properties).items() if found(pattern, name)]


def _additional_properties(value: Any, part: Any, schema: Mapping[str, Any], met: Met) -> bool:
    if not isinstance(value, Mapping):
        return True
    declared, by_pattern = mapping(schema.get("properties")), schema.get("patternProperties")
    return all(
        met(value[name], part) for name in value if name not in declared and not parts_for(name, by_pattern, met.found)
    )


def _property_names(value: Any, part: Any, schema: Mapping[str, Any], met: Met) -> bool:
    return not isinstance(value, Mapping) or all(met(name, part) for name in value)


def _dependent_required(value: Any, names: Any, schema: Mapping[str, Any], met: Met) -> bool:
    if not isinstance(value, Mapping):
        return True
    return all(name in value for given, wanted in mapping(names).items() if given in value for name in strings(wanted))


def _dependent_schemas(value: Any, parts: Any, schema: Mapping[str, Any], met: Met) -> bool:
    if not isinstance(value, Mapping):
        return True
    return all(met(value, part) for given, part in mapping(parts).items() if given in value)


def prefix_and_rest(schema: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """Schemas of the first items, and that of the others; older drafts wrote them as `items` and `additionalItems`."""
    items = schema.get("items", True)
    if isinstance(items, list):
        return items, schema.get("additionalItems", True)
    prefix = schema.get("prefixItems")
    return (prefix if isinstance(prefix, list) else []), items


def _items(value: Any, part: Any, schema: Mapping[str, Any], met: Met) -> bool:
    if not isinstance(value, list):
        return True
    prefix, rest = prefix_and_rest(schema)
    return all(met(item, prefix[at] if at < len(prefix) else rest) for at, item in enumerate(value))


def _contains(value: Any, part: Any, schema: Mapping[str, Any], met: Met) -> bool:
    if not isinstance(value, list):
        return True
    hits = sum(met(item, part) for item in value)
    least, most = number(schema.get("minContains")), number(schema.get("maxContains"))
    return hits >= (1 if least is None else least) and (most is None or hits <= most)


def _unique(value: Any, wanted: Any, schema: Mapping[str, Any], met: Met) -> bool:
    return wanted is not True or not isinstance(value, list) or len({key(item) for item in value}) == len(value)


def _if(value: Any, condition: Any, schema: Mapping[str, Any], met: Met) -> bool:
    return met(value, schema.get("then" if met(value, condition) else "else", True))


_KEYWORDS: Mapping[str, Check] = {
    "type": _type,
    "enum": lambda value, members, schema, met: key(value) in map(key, items_of(members)),
    "const": lambda value, only, schema, met: bool(key(value) == key(only)),
    "minimum": _bound(lambda size, limit: size >= limit, number),
    "maximum": _bound(lambda size, limit: size <= limit, number),
    "exclusiveMinimum": _bound(lambda size, limit: size > limit, number),
    "exclusiveMaximum": _bound(lambda size, limit: size < limit, number),
    "multipleOf": _multiple_of,
    "minLength": _bound(lambda size, limit: size >= limit, _length(str)),
    "maxLength": _bound(lambda size, limit: size <= limit, _length(str)),
    "pattern": _pattern,
    "minItems": _bound(lambda size, limit: size >= limit, _length(list)),
    "maxItems": _bound(lambda size, limit: size <= limit, _length(list)),
    "uniqueItems": _unique,
    "prefixItems": _items,
    "items": _items,
    "contains": _contains,
    "minProperties": _bound(lambda size, limit: size >= limit, _length(dict)),
    "maxProperties": _bound(lambda size, limit: size <= limit, _length(dict)),
    "required": _required,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "propertyNames": _property_names,
    "dependentRequired": _dependent_required,
    "dependentSchemas": _dependent_schemas,
    "allOf": lambda value, parts, schema, met: all(met(value, part) for part in items_of(parts)),
    "anyOf": lambda value, parts, schema, met: any(met(value, part) for part in items_of(parts)),
    "oneOf": lambda value, parts, schema, met: sum(met(value, part) for part in items_of(parts)) == 1,
    "not": lambda value, part, schema, met: not met(value, part),
    "if": _if,
}
