"""A limit on each of many short waits, kept by one lazy timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Silence:
    """Calls `expire` when a wait lasts too long.

    The timer is not made anew for every wait: it looks, when it rings, for how long the present one has lasted. A wait
    costs a look at the clock.
    """

    __slots__ = ("_expire", "_loop", "_timer", "seconds", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self.seconds: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.since: float | None = None
        """When the present wait began, by the loop's clock; `None` while nobody waits."""

    def limit(self, seconds: float | None) -> None:
        """What each wait from now on may last; `None`: as long as it takes."""
        self.end()
        self.seconds = seconds
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self._look)

    def end(self) -> None:
        """No more waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        assert self.seconds is not None
        waited = 0.0 if self.since is None else self._loop.time() - self.since
        left = self.seconds - waited
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._timer = None
            self._expire()
