"""How many requests an engine gets at once, and who waits for a place: first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class QueueFull(Exception):
    """There is no place, and none to wait for in time."""


class Admission:
    """At most `limit` at once, and at most `queue` who wait. Both may be changed at any time."""

    def __init__(self, limit: int, queue: int) -> None:
        self.limit = limit
        self.queue = queue
        self.open = 0
        """How many are in."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, patience: float) -> AsyncIterator[None]:
        """A place for the length of the block, after a wait of at most `patience` seconds; 0 is no wait.

        Raises QueueFull. Leaving while one waits gives the place in the queue to the next.
        """
        await self._enter(patience)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, patience: float) -> None:
        if self.open < self.limit and not self._waiting:
            self.open += 1
            return
        if patience <= 0 or len(self._waiting) >= self.queue:
            raise QueueFull
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(patience):
                await turn
        except TimeoutError:
            self._give_up(turn)
            raise QueueFull from None
        except BaseException:
            self._give_up(turn)
            raise

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif not turn.cancelled():  # it came just as its owner left
            self._leave()

    def _leave(self) -> None:
        self.open -= 1
        while self._waiting and self.open < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.open += 1
                turn.set_result(None)
