"""What a codec had to change in a request on its way up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args
from urllib.parse import quote, unquote

from adapters.canonical import Change, ChangeKind, ChatRequest

HEADER = "x-relay-changes"
_KINDS = {str(kind): kind for kind in get_args(ChangeKind)}
_MOST = 64
"""Changes that are read of one header."""
_MOST_IGNORED = 20
"""Names of ignored fields in one header."""


class Changes:
    """What had to be changed in a request, in the order it was found."""

    def __init__(self, request: ChatRequest) -> None:
        self.list = [Change(name, "dropped") for name in request.unsupported]
        self.list += [Change(name, "ignored") for name in request.unknown]

    def dropped(self, **fields: Any) -> None:
        """List those of the fields that the caller gave."""
        self.list += [Change(name, "dropped") for name, value in fields.items() if value not in (None, False)]

    def emulated(self, **fields: Any) -> None:
        self.list += [Change(name, "emulated") for name, value in fields.items() if value not in (None, ())]

    def clamped(self, name: str, value: float | None, low: float, high: float) -> float | None:
        """`value` within the bounds, listed if that changed it."""
        if value is None or low <= value <= high:
            return value
        self.list.append(Change(name, "clamped"))
        return low if value < low else high


def dump_changes(changes: Iterable[Change]) -> str:
    """The value of the header, names escaped where the caller chose them; only a long tail of ignored fields is cut."""
    listed: list[str] = []
    ignored = 0
    for change in changes:
        ignored += change.kind == "ignored"
        if change.kind != "ignored" or ignored <= _MOST_IGNORED:
            listed.append(f"{quote(change.field, safe='[]')}={change.kind}")
    if ignored > _MOST_IGNORED:
        listed.append(f"{ignored - _MOST_IGNORED}-more=ignored")
    return ", ".join(listed)


def parse_changes(value: str) -> list[Change]:
    """What one of our engines says; parts that make no sense are none."""
    parts = (part.strip().rpartition("=") for part in value.split(",", _MOST)[:_MOST])
    return [Change(unquote(field), _KINDS[kind]) for field, _, kind in parts if field and kind in _KINDS]
