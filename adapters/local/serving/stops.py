"""Stop strings in a text that comes in pieces."""

from __future__ import annotations

from adapters.wire.think import overlap


class StopWatch:
    """Ends a text before the stop string that is complete first; of those that end together, before the longest.

    Whatever the pieces, the outcome is the same, and no more is held back than may be the beginning of a stop string.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        """Raises ValueError for an empty stop string, which would be everywhere."""
        if not all(stops):
            raise ValueError("a stop string is empty")
        self._stops = stops
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """What of the text is safe to send, and whether a stop string has come: then nothing more is to be fed."""
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)[1]], True
        safe = len(text) - max((overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[safe:]
        return text[:safe], False

    def end(self) -> str:
        """What was held back, now that no more comes."""
        held, self._held = self._held, ""
        return held
