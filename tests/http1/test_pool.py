"""Who gets which connection, and when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import anyio
import httpx
import pytest

from adapters.http1.connection import Connection, Keeper
from adapters.http1.pool import Pool
from adapters.http1.route import Route, route_to
from tests.support.scripted import PATIENCE
from tests.support.simulated_time import simulated

pytestmark = pytest.mark.anyio


class Socket(asyncio.Transport):
    """A transport without a peer."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False
        self.closed = asyncio.Event()
        self.lost = False
        self.protocol: Connection | None = None

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True
        self.closed.set()
        asyncio.get_running_loop().call_soon(self.lose)

    def lose(self) -> None:
        assert self.protocol is not None
        self.lost = True
        self.protocol.connection_lost(None)


class Dialer:
    """Opens connections to nowhere; waits before each for as long as `hold` is unset."""

    def __init__(self) -> None:
        self.opened: list[Connection] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.errors: list[Exception] = []

    async def dial(self, route: Route, keeper: Keeper) -> Connection:
        await self.hold.wait()
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop()
        connection, socket = Connection(route.host, keeper), Socket()
        socket.protocol = connection
        connection.connection_made(socket)
        self.opened.append(connection)
        return connection


@pytest.fixture
async def dialer() -> Dialer:
    return Dialer()


A, B, C = (route_to(httpx.URL(f"http://{name}.test")) for name in "abc")


async def take(pool: Pool, route: Route) -> Connection:
    return pool.kept(route) or await pool.connect(route, PATIENCE)


def socket_of(connection: Connection) -> Socket:
    socket = connection._transport
    assert isinstance(socket, Socket)
    return socket


async def turns(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_the_connection_used_last_is_used_next(dialer: Dialer) -> None:
    pool = Pool(dialer.dial, 10, 60)
    first, second = await take(pool, A), await take(pool, A)
    pool.release(second)
    pool.release(first)
    assert await take(pool, A) is first
    assert await take(pool, A) is second
    assert await take(pool, B) not in (first, second)
    await pool.aclose()


async def test_a_connection_that_closes_is_not_given_out(dialer: Dialer) -> None:
    pool = Pool(dialer.dial, 2, 60)
    told, untold = await take(pool, A), await take(pool, A)
    pool.release(told)
    pool.release(untold)
    told.connection_lost(None)
    socket_of(untold).aborted = True  # its end is known to the loop alone
    again = [await take(pool, A), await take(pool, A)]
    assert not {told, untold} & set(again)
    await pool.aclose()


async def test_a_full_pool_gives_up_the_connection_that_was_idle_longest(dialer: Dialer) -> None:
    pool = Pool(dialer.dial, 2, 60)
    older, newer = await take(pool, A), await take(pool, B)
    pool.release(older)
    await asyncio.sleep(0.01)
    pool.release(newer)
    await take(pool, C)
    assert (older.gone, newer.gone) == (True, False)
    await pool.aclose()


async def asking(pool: Pool, route: Route, name: str, served: list[str], work: Callable[[Connection], None]) -> None:
    connection = await take(pool, route)
    served.append(name)
    await asyncio.sleep(0)
    work(connection)


@pytest.mark.parametrize("routes", [[A, A, A, A], [A, B, A, B], [B, C, B, A]])
@pytest.mark.parametrize("ends", ["released", "aborted"])
async def test_whoever_came_first_is_served_first(dialer: Dialer, routes: list[Route], ends: str) -> None:
    pool = Pool(dialer.dial, 1, 60)
    held = await take(pool, A)
    served: list[str] = []
    work = pool.release if ends == "released" else Connection.abort
    with anyio.fail_after(PATIENCE):
        async with asyncio.TaskGroup() as group:
            for name, route in enumerate(routes):
                group.create_task(asking(pool, route, str(name), served, work))
                await turns()
            assert served == []
            work(held)
            group.create_task(asking(pool, A, "late", served, work))
    assert served == ["0", "1", "2", "3", "late"]
    await pool.aclose()


async def test_a_slot_is_free_again_after_a_connection_that_failed(dialer: Dialer) -> None:
    pool = Pool(dialer.dial, 1, 60)
    for _ in range(3):
        dialer.errors.append(httpx.ConnectError("no"))
        with pytest.raises(httpx.ConnectError):
            await take(pool, A)
    assert not (await take(pool, A)).gone
    await pool.aclose()


async def test_a_connection_that_is_lost_while_it_is_opened_takes_no_slot(dialer: Dialer) -> None:
    async def dial(route: Route, keeper: Keeper) -> Connection:
        connection = await dialer.dial(route, keeper)
        connection.connection_lost(None)
        return connection

    pool = Pool(dial, 1, 60)
    for _ in range(3):
        assert (await take(pool, A)).gone
    await pool.aclose()


async def test_a_connection_that_dies_on_its_way_to_who_waited_is_replaced(dialer: Dialer) -> None:
    pool = Pool(dialer.dial, 1, 60)
    held = await take(pool, A)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(take(pool, A))
        await turns()
        pool.release(held)
        socket_of(held).aborted = True
    assert waiting.result() is not held
    await pool.aclose()


@pytest.mark.parametrize("release", [True, False])
@pytest.mark.parametrize("route", [A, B])
@pytest.mark.parametrize("dying", [True, False])
async def test_who_leaves_just_at_their_turn_leaves_it_to_the_next(
    dialer: Dialer, route: Route, release: bool, dying: bool
) -> None:
    pool = Pool(dialer.dial, 1, 60)
    held = await take(pool, A)
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(take(pool, route))
        next_ = group.create_task(take(pool, A))
        await turns()
        if release:
            pool.release(held)
        else:
            held.abort()
        if dying:
            held.abort()
        leaving.cancel()
    assert leaving.cancelled()
    assert not next_.result().gone
    await pool.aclose()


async def test_the_queue_ends_in_a_pool_timeout_and_a_slow_host_in_a_connect_timeout(dialer: Dialer) -> None:
    pool = Pool(dialer.dial, 1, 60)
    dialer.hold.clear()
    with pytest.raises(httpx.ConnectTimeout, match=r"a\.test within 0\.01 seconds"):
        await pool.connect(A, 0.01)
    dialer.hold.set()
    held = await take(pool, A)
    with pytest.raises(httpx.PoolTimeout, match="All 1 connections"):
        await pool.connect(A, 0.01)
    held.abort()
    assert not (await take(pool, A)).gone
    await pool.aclose()


@simulated
async def test_idle_connections_are_closed_in_time_by_one_timer() -> None:
    pool = Pool(Dialer().dial, 10, 0.05)
    early, late, busy = [await take(pool, route) for route in (A, B, A)]
    pool.release(early)
    await asyncio.sleep(0.03)
    pool.release(late)
    with anyio.fail_after(PATIENCE):
        await socket_of(early).closed.wait()
        assert not late.gone
        await socket_of(late).closed.wait()
    assert not busy.gone
    await pool.aclose()


async def test_closing_wakes_all_who_wait_and_waits_for_all_sockets(dialer: Dialer) -> None:
    pool = Pool(dialer.dial, 2, 60)
    used, idle = await take(pool, A), await take(pool, A)
    pool.release(idle)
    idle = await take(pool, A)
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(outcome(take(pool, A))) for _ in range(2)]
        await turns()
        await pool.aclose()
        assert [socket_of(connection).lost for connection in (used, idle)] == [True, True]
    assert [task.result() for task in waiting] == ["ConnectError", "ConnectError"]
    for connection in dialer.opened:
        pool.forget(connection)  # what comes late does no harm
    assert await outcome(pool.connect(A, None)) == "ConnectError"


async def test_a_connection_that_is_ready_after_the_end_is_closed(dialer: Dialer) -> None:
    pool = Pool(dialer.dial, 1, 60)
    dialer.hold.clear()
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(take(pool, A))
        await turns()
        await pool.aclose()
        dialer.hold.set()
    assert opening.result().gone


async def test_a_connection_that_is_given_back_after_the_end_is_closed(dialer: Dialer) -> None:
    pool = Pool(dialer.dial, 1, 60)
    connection = Connection("a.test", pool)
    pool._closed = True
    connection.connection_made(socket := Socket())
    socket.protocol = connection
    pool.release(connection)
    assert socket.aborted


async def outcome(work: Awaitable[Connection]) -> str:
    try:
        await work
    except httpx.TransportError as exc:
        return type(exc).__name__
    return "connected"


@pytest.mark.parametrize("seed", range(20))
async def test_no_slot_is_lost_or_gained_whoever_leaves_whenever(dialer: Dialer, seed: int) -> None:
    chance = random.Random(seed)
    limit = chance.randint(1, 3)
    pool = Pool(dialer.dial, limit, 60)
    most = 0

    async def user() -> None:
        nonlocal most
        try:
            connection = await take(pool, chance.choice((A, B)))
        except httpx.ConnectError:
            return
        try:
            most = max(most, sum(not c.gone for c in dialer.opened))
            await turns(chance.randint(0, 3))
        except asyncio.CancelledError:
            connection.abort()
            raise
        chance.choice((pool.release, Connection.abort))(connection)

    with anyio.fail_after(PATIENCE):
        async with asyncio.TaskGroup() as group:
            for _ in range(60):
                task = group.create_task(user())
                if chance.random() < 0.3:
                    dialer.errors[:] = [httpx.ConnectError("no")]
                await turns(chance.randint(0, 4))
                if chance.random() < 0.4:
                    task.cancel()
        dialer.errors.clear()
        held = [await take(pool, A) for _ in range(limit)]
        assert await outcome(pool.connect(A, 0.001)) == "PoolTimeout"
    assert len(set(held)) == limit
    assert most <= limit
    await pool.aclose()
