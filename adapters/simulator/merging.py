"""Two schemas as one, keyword by keyword.

For a keyword without a rule of its own the first schema's parameter stands: whoever makes a value by the
result has to check it against both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from adapters.simulator.conformance import (
    fraction,
    items_of,
    key,
    mapping,
    number,
    strings,
)

Flat = dict[str, Any]
"""A schema without `$ref`, `allOf`, `anyOf`, `oneOf` and conditions."""


def merged(first: Flat, second: Flat) -> Flat | None:
    """Both together, or `None` if they exclude each other at first sight."""
    both = dict(first)
    for word, parameter in second.items():
        if word not in both:
            both[word] = parameter
            continue
        join = _JOINS.get(word)
        if join is None:
            continue
        joined = join(both[word], parameter)
        if joined is None:
            return None
        both[word] = joined
    return both


def _join_types(first: Any, second: Any) -> list[str] | None:
    ours = [first] if isinstance(first, str) else strings(first)
    theirs = [second] if isinstance(second, str) else strings(second)
    both = [name for name in ours if name in theirs or (name == "integer" and "number" in theirs)]
    if "integer" in theirs and "number" in ours and "integer" not in both:
        both.append("integer")
    return both or None


def _join_enums(first: Any, second: Any) -> list[Any] | None:
    allowed = {key(value) for value in items_of(second)}
    return [value for value in items_of(first) if key(value) in allowed] or None


def _join_properties(first: Any, second: Any) -> dict[str, Any]:
    joined = dict(mapping(first))
    for name, part in mapping(second).items():
        joined[name] = {"allOf": [joined[name], part]} if name in joined else part
    return joined


def _join_steps(first: Any, second: Any) -> Any:
    """The least common multiple of two `multipleOf`."""
    ours, theirs = fraction(first), fraction(second)
    if not ours or not theirs:
        return first if ours else second
    common = Fraction(math.lcm(ours.numerator, theirs.numerator), math.gcd(ours.denominator, theirs.denominator))
    return int(common) if common.denominator == 1 else float(common)


def _numeric(choose: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def join(first: Any, second: Any) -> Any:
        if number(first) is None or number(second) is None:
            return second if number(first) is None else first
        return choose(first, second)

    return join


def _both(first: Any, second: Any) -> Any:
    return {"allOf": [first, second]}


_JOINS: Mapping[str, Callable[[Any, Any], Any]] = {
    "type": _join_types,
    "enum": _join_enums,
    "properties": _join_properties,
    "patternProperties": _join_properties,
    "required": lambda first, second: [*strings(first), *strings(second)],
    "additionalProperties": _both,
    "propertyNames": _both,
    "items": lambda first, second: (
        first if isinstance(first, list) or isinstance(second, list) else _both(first, second)
    ),
    "contains": _both,
    "multipleOf": _join_steps,
    "uniqueItems": lambda first, second: first is True or second is True,
    **dict.fromkeys(
        ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"), _numeric(max)
    ),
    **dict.fromkeys(
        ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"), _numeric(min)
    ),
}
