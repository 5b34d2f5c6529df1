"""What a client is to see, where that is no fixed value."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Like:
    """Equal to every text with a match of the pattern."""

    pattern: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and re.search(self.pattern, other) is not None


@dataclass(frozen=True, eq=False)
class MoreThan:
    """Equal to every number above the bound."""

    bound: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int | float) and other > self.bound
