"""Who uses an engine, who waits for it, and since when nobody does."""

from __future__ import annotations

from typing import Protocol


class Lease(Protocol):
    """Somebody's right to use the engine, as the engine sees it."""

    busy: bool
    """Whether requests are open."""

    def recalled(self) -> None:
        """The engine is to be stopped: `Engine.release` the lease as soon as no request is open."""

    def ended(self) -> None:
        """The engine is gone; there is nothing to release."""


class Usage:
    """Of one engine. All times in seconds of the caller's clock; `keep_alive` of `None` is for ever."""

    def __init__(self, keep_alive: float | None) -> None:
        self._keep_alive = keep_alive
        self.leases: set[Lease] = set()
        self.waiting = 0
        self.last = 0.0
        """When it was last used, or became ready."""

    @property
    def busy(self) -> bool:
        """Whether requests are open."""
        return any(lease.busy for lease in self.leases)

    @property
    def wanted(self) -> bool:
        """Whether requests are open, or wait for it."""
        return self.waiting > 0 or self.busy

    @property
    def until(self) -> float:
        """When it may go, if nothing happens before."""
        if self._keep_alive is None or self.wanted:
            return float("inf")
        return self.last + self._keep_alive

    def recall(self) -> None:
        for lease in list(self.leases):
            lease.recalled()

    def end(self, now: float) -> None:
        """The engine is gone."""
        if self.wanted:
            self.last = now
        leases, self.leases = self.leases, set()
        for lease in leases:
            lease.ended()
