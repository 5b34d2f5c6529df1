"""What is asked of a JSON Schema before it becomes a grammar, and how it is said that it cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

MOST_BYTES = 2**18
MOST_DEPTH = 100
"""The compiler reads JSON 128 levels deep, and the schema lies within something."""
OPTIONS = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""At most the one blank that models like to write: with free white space a poor model writes blanks for ever."""

ASSERTIONS = frozenset(
    "$dynamicRef $ref additionalItems additionalProperties allOf anyOf const contains dependencies dependentRequired "
    "dependentSchemas else enum exclusiveMaximum exclusiveMinimum format if items maxContains maxItems maxLength "
    "maxProperties maximum minContains minItems minLength minProperties minimum multipleOf not oneOf pattern "
    "patternProperties prefixItems properties propertyNames required then type unevaluatedItems "
    "unevaluatedProperties uniqueItems".split()
)
"""Keywords of JSON Schema that say what fits; all others describe."""

_TOO_LARGE = f"it is larger than {MOST_BYTES} bytes"
_TOO_DEEP = f"it is nested deeper than {MOST_DEPTH} levels"
UNWRITABLE = "it has a property whose name this model cannot write"
TOO_COMPLEX = "it is too complex"
_REASONS = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"Unknown format", "it has a 'format' that is not supported"),
        (r"oneOf constraints", "'oneOf' is supported only where its options visibly exclude each other; try 'anyOf'"),
        (r"Unsatisfiable schema|NoExtension|no token is allowed", "no value can satisfy it"),
        (r"regex parse error|[Rr]egex", "it has a 'pattern' or a range that is not supported"),
        (r"^(Resource|Pointer|Anchor)|[Rr]eference", "it has a '$ref' that leads nowhere or back to itself"),
        (r"[Ii]nvalid type", "it has an unknown 'type'"),
        (r"recursion limit", _TOO_DEEP),
        (r"multipleOf|multiple of", "it has a 'multipleOf' that is not supported"),
        (r"^panic|too (big|large|long|many|complex)|Too many|items; max|TooComplex", TOO_COMPLEX),
    )
)
_UNIMPLEMENTED = re.compile(r"Unimplemented keys: (\[.*\])")


def reason(message: str) -> str:
    """The compiler's message in our words, which hold nothing of the schema but keywords of JSON Schema."""
    if found := _UNIMPLEMENTED.search(message):
        return _cannot(json.loads(found[1]))
    return next((text for pattern, text in _REASONS if pattern.search(message)), "it cannot be enforced")


def schema_text(schema: Mapping[str, Any], *, lenient: bool = False) -> str:
    """The schema as the compiler takes it; `lenient`: it may pass over what it cannot enforce.

    Raises ValueError with a reason for one that is too large or too deep.
    """
    _check_depth(schema)
    text = json.dumps({**schema, "x-guidance": OPTIONS | ({"lenient": True} if lenient else {})}, separators=(",", ":"))
    if len(text) > MOST_BYTES:
        raise ValueError(_TOO_LARGE)
    return text


def check_keywords(schema: Mapping[str, Any], known: set[str], *, lenient: bool) -> None:
    """Raises ValueError with a reason if, beside those that are `known`, keywords say what fits."""
    if not lenient and (others := (schema.keys() & ASSERTIONS) - known):
        raise ValueError(_cannot(sorted(others)) + " in the way this model writes calls")


def _cannot(keywords: Iterable[str]) -> str:
    return ", ".join(f"'{keyword}'" for keyword in keywords) + " cannot be enforced"


def _check_depth(schema: Any) -> None:
    """Without recursion, which has limits of its own."""
    level: list[Any] = [schema]
    for _ in range(MOST_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _children(node: Any) -> list[Any]:
    values = node.values() if isinstance(node, dict) else node
    return [value for value in values if isinstance(value, dict | list)]
