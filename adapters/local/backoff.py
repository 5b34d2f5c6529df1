"""When an engine that has failed may be tried again."""

from __future__ import annotations


class Backoff:
    """Doubling pauses, in seconds: `first`, up to `longest`. A run of `good` seconds makes up for what was before."""

    def __init__(self, *, first: float, longest: float, good: float) -> None:
        self._first = first
        self._longest = longest
        self._good = good
        self.failures = 0
        """In a row."""

    def reset(self) -> None:
        self.failures = 0

    def failed(self, ran: float | None) -> float:
        """The pause after a failure. `ran` is for how long the engine was ready; `None`: it never was.

        The first crash of an engine that has worked costs no pause.
        """
        if ran is not None and ran >= self._good:
            self.failures = 0
        self.failures += 1
        if self.failures == 1 and ran is not None:
            return 0.0
        doublings = min(self.failures - 1, 30)  # beyond any limit, and no overflow
        return min(self._first * 2.0**doublings, self._longest)
