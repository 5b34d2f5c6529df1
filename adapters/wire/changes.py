"""What a codec had to change in a request on its way up."""

from __future__ import annotations

from typing import Any

from adapters.canonical import Change, ChatRequest


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
