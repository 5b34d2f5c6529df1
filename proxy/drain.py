"""The end of a server's life: no new requests, and a deadline for those under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapters.errors import Fault, RelayError


class Drain:
    """Ends what is still running once its time is up. One per process."""

    def __init__(self) -> None:
        self.started = False
        self._expired = False
        self._limits: set[asyncio.Timeout] = set()

    @property
    def running(self) -> int:
        """How many requests are under way."""
        return len(self._limits)

    def start(self) -> None:
        """The server is to stop: it is no longer ready for anything new."""
        self.started = True

    def expire(self) -> None:
        """End all that is still running now. Its callers get an error, in band if need be."""
        self.started = self._expired = True
        now = asyncio.get_running_loop().time()
        for limit in tuple(self._limits):
            limit.reschedule(now)

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Work that `expire` ends. Raises RelayError (OVERLOADED) when it did."""
        if self._expired:
            raise _stopping()
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            raise _stopping() from None


def _stopping() -> RelayError:
    return RelayError(Fault.OVERLOADED, "The relay is shutting down.")
