"""How large an instance of a JSON Schema is at least, told from the schema alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.simulator.conformance import items_of, mapping, number, prefix_and_rest, strings

CHARACTERS_A_STEP = 100
"""Characters of a text that take as long to make as a value does."""
_MAX_DEPTH = 60


def least_size(schema: Any, depth: int = 0) -> float:
    """Values of the smallest instance, long texts counting for more; references and alternatives count for none.

    Only where the type is given: what is said of arrays says nothing of a text.
    """
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return 0
    own: float = 0
    match schema.get("type"):
        case "string":
            own = 1 + _asked(schema, "minLength") // CHARACTERS_A_STEP
        case "array":
            prefix, rest = prefix_and_rest(schema)
            first = sum(least_size(part, depth + 1) for part in prefix[: int(min(_asked(schema, "minItems"), 1e6))])
            others = max(0, _asked(schema, "minItems") - len(prefix))
            own = 1 + first + (others * max(1, least_size(rest, depth + 1)) if others else 0)
        case "object":
            declared = mapping(schema.get("properties"))
            required = set(strings(schema.get("required")))
            named = sum(least_size(declared.get(name), depth + 1) for name in required)
            own = 1 + max(named, _asked(schema, "minProperties"))
    return max([own, *(least_size(part, depth + 1) for part in items_of(schema.get("allOf")))])


def _asked(schema: Mapping[str, Any], word: str) -> float:
    asked = number(schema.get(word))
    return 0 if asked is None else min(max(0, asked), 1e9)
