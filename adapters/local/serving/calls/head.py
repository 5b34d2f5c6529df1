"""The head of a call that is written as its name and then its arguments."""

from __future__ import annotations

import re

_MOST_HELD = 512
"""Characters from a marker to where the arguments begin."""


class Head:
    """Waits for the name. `pattern` has it as its only group, and matches no less when more text follows."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self.held = ""
        self.name = ""
        """Once it is known."""

    def feed(self, text: str) -> str | None:
        """What follows the head, once it is whole. `failed` tells when no head can come any more."""
        self.held += text
        found = self._pattern.match(self.held, 0, _MOST_HELD)
        if found is None:
            return None
        self.name = found[1]
        return self.held[found.end() :]

    @property
    def failed(self) -> bool:
        return not self.name and len(self.held) >= _MOST_HELD
