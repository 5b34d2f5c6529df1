"""Connections that are kept for the next request, and a bound on how many there are."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import httpx

from adapters.http1.connection import Connection, Keeper
from adapters.http1.route import Route

Dial = Callable[[Route, Keeper], Awaitable[Connection]]


class _Waiter:
    """Somebody in the queue; `turn` brings a kept connection of this route, or leave to open one."""

    __slots__ = ("route", "turn")

    def __init__(self, route: Route, turn: asyncio.Future[Connection | None]) -> None:
        self.route = route
        self.turn = turn


class Pool:
    """At most `limit` connections at once, to all hosts together and idle ones included.

    A request takes the connection of its route that was used last; else it opens one, in place of the one that has
    been idle longest if there are `limit`; else it waits, first come, first served. There is nobody in the queue while
    a connection is idle.
    """

    def __init__(self, dial: Dial, limit: int, keepalive: float) -> None:
        """`keepalive`: seconds for which an unused connection is kept."""
        self._dial = dial
        self._limit = limit
        self._keepalive = keepalive
        self._loop = asyncio.get_running_loop()
        self._slots = limit
        self._live: dict[Connection, Route] = {}
        self._idle: dict[Route, dict[Connection, float]] = {}  # since when, oldest first
        self._queue: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._open: set[Connection] = set()
        self._emptied: asyncio.Future[None] | None = None
        self._closed = False

    def kept(self, route: Route) -> Connection | None:
        """A connection that is idle and alive."""
        idle = self._idle.get(route)
        while idle:
            connection, _ = idle.popitem()
            if not connection.closing:
                return connection
            connection.abort()
        return None

    async def connect(self, route: Route, limit: float | None) -> Connection:
        """A connection, within `limit` seconds.

        Raises PoolTimeout, ConnectTimeout, ConnectError and ProxyError. Whoever gets it has to bring an exchange on it
        to its end, or abort it.
        """
        waiting = True
        try:
            async with asyncio.timeout(limit):
                connection = await self._turn(route)
                waiting = False
                if connection is None:
                    connection = await self._opened(route)
                return connection
        except TimeoutError:
            if waiting:
                raise httpx.PoolTimeout(f"All {self._limit} connections are in use.") from None
            raise httpx.ConnectTimeout(f"No connection to {route.host} within {limit} seconds.") from None

    async def aclose(self) -> None:
        """Break off whatever is under way; returns when all sockets are closed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.turn.done():
                waiter.turn.set_result(None)
        for connection in list(self._live):
            connection.abort()
        if self._open:
            self._emptied = self._loop.create_future()
            await self._emptied

    # What connections tell

    def release(self, connection: Connection) -> None:
        if self._closed:
            connection.abort()
            return
        route = self._live[connection]
        waiter = self._next()
        if waiter is None:
            self._idle.setdefault(route, {})[connection] = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._keepalive, self._sweep)
        elif waiter.route is route:
            waiter.turn.set_result(connection)
        else:
            self._queue.appendleft(waiter)
            connection.abort()

    def discard(self, connection: Connection) -> None:
        route = self._live.pop(connection, None)
        if route is None:
            return  # it was none of ours yet
        if idle := self._idle.get(route):
            idle.pop(connection, None)
        self._free()

    def forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    # Slots

    async def _turn(self, route: Route) -> Connection | None:
        """Wait for one's turn: with a kept connection, or `None` and a slot for a new one."""
        while True:
            if not self._slots:
                self._evict()
            if self._slots:
                self._slots -= 1
                return None
            waiter = _Waiter(route, self._loop.create_future())
            self._queue.append(waiter)
            try:
                connection = await waiter.turn
            except asyncio.CancelledError:
                self._give_back(waiter)
                raise
            if connection is None or not connection.closing:
                return connection
            connection.abort()

    def _give_back(self, waiter: _Waiter) -> None:
        """Somebody has left; perhaps just when it was their turn."""
        if not waiter.turn.done() or waiter.turn.cancelled():
            return  # `_next` passes over it
        connection = waiter.turn.result()
        if connection is None:
            self._free()
        elif connection.closing:
            connection.abort()
        else:
            self.release(connection)

    async def _opened(self, route: Route) -> Connection:
        """A new connection, in a slot that was taken for it."""
        try:
            if self._closed:
                raise httpx.ConnectError("The transport is closed.")
            connection = await self._dial(route, self)
        except BaseException:
            self._free()
            raise
        if connection.gone:
            self._free()  # what has become of it is told by its first exchange
            return connection
        self._live[connection] = route
        self._open.add(connection)
        if self._closed:
            connection.abort()
        return connection

    def _free(self) -> None:
        """One connection less; the next in the queue may open one."""
        waiter = self._next()
        if waiter is None:
            self._slots += 1
        else:
            waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.turn.done():
                return waiter
        return None

    # Idle connections

    def _evict(self) -> None:
        """Close the connection that has been idle longest."""
        oldest = [next(iter(idle.items())) for idle in self._idle.values() if idle]
        if oldest:
            connection, _ = min(oldest, key=lambda item: item[1])
            connection.abort()

    def _sweep(self) -> None:
        """Close what has been idle for too long, and come back when the next one will have been."""
        self._timer = None
        now = self._loop.time()
        due = [
            connection
            for idle in self._idle.values()
            for connection, since in idle.items()
            if since + self._keepalive <= now
        ]
        for connection in due:
            connection.abort()
        rest = [next(iter(idle.values())) for idle in self._idle.values() if idle]
        if rest:
            self._timer = self._loop.call_later(min(rest) + self._keepalive - now, self._sweep)
