"""What binds the fields of one input together: checked in requests and shown in the schemas.

Sources: Cloudflare's binding types (cloudflare/workerd, 2026-08) and its model pages (2026-09).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from adapters.errors import InvalidRequest
from adapters.wire.native import inputs as types
from adapters.wire.native.blob import Blob

Names = tuple[str, ...]
Bounds = tuple[int, int]
"""The least and the most, both allowed."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """`one_of`: exactly one of these. `beside`: a field needs one of others.

    `by_value`: field, its value, the field that this value needs.
    """

    one_of: Names = ()
    beside: Mapping[str, Names] = {}
    by_value: Mapping[str, Mapping[str, str]] = {}


RULES: Mapping[type, Rule] = {
    types.QueryEmbeddingInputs: Rule(one_of=("text", "queries", "documents")),
    types.EmbeddingOrScoreInputs: Rule(one_of=("text", "contexts")),
    types.DiffusionInputs: Rule(beside={"mask": ("image", "image_b64")}),
    types.MoondreamInputs: Rule(by_value={"task": {"caption": "image", "point": "image", "detect": "image"}}),
}
NO_RULE = Rule()

_MOST = 2**63


def check(inputs: types.Inputs, needs: Sequence[Names] = (), bounds: Mapping[str, Bounds] | None = None) -> None:
    """Refuse what types alone let through. Raises InvalidRequest naming the field.

    `needs` and `bounds` are the model's own: of each group one field has to be there, and numbers lie in their range.
    """
    given = {name: value for name in inputs.__struct_fields__ if (value := getattr(inputs, name)) is not None}
    for name, value in given.items():
        _check_value(name, value)
    for name, (low, high) in (bounds or {}).items():
        if name in given and not low <= given[name] <= high:
            raise _beyond(name, low, high, "smaller" if given[name] < low else "larger")
    rule = RULES.get(type(inputs), NO_RULE)
    for group in needs:
        if given.keys().isdisjoint(group):
            raise _missing(group)
    _check_one_of(given, rule.one_of)
    for name, group in rule.beside.items():
        if name in given and given.keys().isdisjoint(group):
            raise _missing(group, f" beside '{name}'")
    for name, by_value in rule.by_value.items():
        needed = by_value.get(given[name])
        if needed is not None and needed not in given:
            raise _missing((needed,), f" where '{name}' is '{given[name]}'")


def _check_value(name: str, value: object) -> None:
    """Numbers may come from text and JSON has no end of digits; an empty image or sound is none."""
    if isinstance(value, int | float) and not -_MOST <= value < _MOST:
        raise InvalidRequest(f"Invalid '{name}': the number is out of range.", param=name)
    if isinstance(value, Blob) and not value:
        raise InvalidRequest(f"Invalid '{name}': there are no bytes in it.", param=name)


def _check_one_of(given: Mapping[str, object], group: Names) -> None:
    present = [name for name in group if name in given]
    if group and not present:
        raise _missing(group)
    if len(present) > 1:
        raise InvalidRequest(f"Give only one of {_listed(group)}.", param=present[1])


def _beyond(name: str, low: int, high: int, side: str) -> InvalidRequest:
    """In the words that tell of a struct's own bounds."""
    message = f"Invalid value for '{name}': expected an integer from {low} to {high}, but got a {side} one instead."
    return InvalidRequest(message, param=name)


def _missing(group: Names, why: str = "") -> InvalidRequest:
    return InvalidRequest(
        f"Missing required parameter: {_listed(group)}{why}.", param=group[0], code="missing_required_parameter"
    )


def _listed(names: Names) -> str:
    return " or ".join(f"'{name}'" for name in names)
