"""Waking whoever waits for a change."""

from __future__ import annotations

import asyncio


class Bell:
    """Each ring wakes all who wait at that moment; they look for themselves what has changed."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def ring(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def heard(self, until: float | None = None) -> bool:
        """Wait for the next ring; false if the loop's clock came to `until` first."""
        try:
            async with asyncio.timeout_at(until):
                return await self._next.wait()
        except TimeoutError:
            return False
