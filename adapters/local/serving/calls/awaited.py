"""Text up to where it ends, gathered while it comes, in time that grows with the text alone."""

from __future__ import annotations

from adapters.wire.think import overlap


class Awaited:
    """What comes before `end`. No character is looked at again but those that may be the beginning of `end`."""

    def __init__(self, end: str) -> None:
        self._end = end
        self._pieces: list[str] = []
        self._held = ""

    def feed(self, text: str) -> str | None:
        """What follows `end`, once it has come."""
        text = self._held + text
        before, found, rest = text.partition(self._end)
        keep = 0 if found else overlap(text, self._end)
        self._pieces.append(before[: len(before) - keep])
        self._held = before[len(before) - keep :]
        return rest if found else None

    @property
    def text(self) -> str:
        return "".join(self._pieces) + self._held
