"""Places that callers share, so that nobody who brings much work keeps the others waiting."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """So many `places`, of which one owner has at most `most` at a time. Owners who wait take turns, a place each."""

    def __init__(self, places: int, most: int) -> None:
        self._free = places
        self._most = most
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Who waits, by owner; the owner whose turn is next comes first."""

    @asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[None]:
        """A place for the length of the block. Whoever stops waiting takes nobody's turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._let_in()
        try:
            await turn
            yield
        finally:
            if not turn.cancelled():
                self._leave(owner)

    def _let_in(self) -> None:
        while self._free and (owner := self._next()) is not None:
            waiting = self._waiting[owner]
            turn = waiting.popleft()
            left = turn.cancelled()  # the owner's turn is the next one's then
            if not left or not waiting:
                del self._waiting[owner]
            if left:
                continue
            if waiting:
                self._waiting[owner] = waiting  # at the end
            self._free -= 1
            self._held[owner] += 1
            turn.set_result(None)

    def _next(self) -> str | None:
        return next((owner for owner in self._waiting if self._held[owner] < self._most), None)

    def _leave(self, owner: str) -> None:
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._let_in()
