"""Which of a host's addresses is used."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from adapters.http1 import race
from adapters.http1.race import Address, connected_socket, first_connected
from tests.support.scripted import PATIENCE

pytestmark = pytest.mark.anyio


@contextmanager
def listening(host: str, *, full: bool = False) -> Iterator[Address]:
    """An address that accepts; `full`: one that leaves whoever comes without an answer."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind((host, 0))
        listener.listen(0 if full else 100)
        for _ in range(3 * full):  # more than its queue holds
            guest = stack.enter_context(socket.socket(family))
            guest.setblocking(False)
            guest.connect_ex(listener.getsockname())
        yield family, socket.IPPROTO_TCP, listener.getsockname()


def closed(host: str) -> Address:
    with listening(host) as address:
        return address


@pytest.fixture
def stalled() -> Iterator[Address]:
    with listening("127.0.0.1", full=True) as address:
        yield address


@pytest.fixture
def open_() -> Iterator[Address]:
    with listening("127.0.0.2") as address:
        yield address


async def peer_of(*addresses: Address) -> object:
    async with asyncio.timeout(PATIENCE):
        sock = await first_connected(addresses)
    with sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.getblocking()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # else a network that is cut in silence is told by nobody
            assert 0 < sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 10_000
            assert 0 < sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 10
        return sock.getpeername()


async def test_a_single_address_is_used_as_it_is(open_: Address) -> None:
    assert await peer_of(open_) == open_[2]


async def test_an_address_that_refuses_is_passed_over_at_once(open_: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "_HEAD_START", 10 * PATIENCE)
    assert await peer_of(closed("127.0.0.1"), open_) == open_[2]


async def test_an_address_that_is_silent_is_passed_over_after_a_moment(stalled: Address, open_: Address) -> None:
    assert await peer_of(stalled, open_) == open_[2]


async def test_the_first_address_is_preferred(open_: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "_HEAD_START", PATIENCE)
    with listening("127.0.0.3") as other:
        assert await peer_of(open_, other) == open_[2]


async def test_two_that_answer_at_once_leave_one_connection(open_: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "_HEAD_START", 0)
    with listening("127.0.0.3") as other:
        for _ in range(20):
            assert await peer_of(open_, other) in (open_[2], other[2])  # a socket left open warns, which fails the test


async def test_the_other_family_is_second_whatever_the_resolver_says(
    stalled: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    async def noted(address: Address) -> socket.socket:
        tried.append(address)
        return await connected(address)

    connected = race._connected
    monkeypatch.setattr(race, "_connected", noted)
    monkeypatch.setattr(race, "_HEAD_START", 0.05)
    with listening("::1") as other:
        assert await peer_of(stalled, stalled, stalled, other) == other[2]
    assert tried[:2] == [stalled, other]


async def test_the_first_reason_is_told_if_all_fail() -> None:
    with pytest.raises(ConnectionRefusedError):
        await first_connected([closed("127.0.0.1"), closed("127.0.0.2"), closed("::1")])


@pytest.mark.parametrize("head_start", [0.01, 10.0])
async def test_giving_up_leaves_no_socket(stalled: Address, monkeypatch: pytest.MonkeyPatch, head_start: float) -> None:
    monkeypatch.setattr(race, "_HEAD_START", head_start)
    for addresses in ([stalled], [stalled, stalled]):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await first_connected(addresses)


async def test_giving_up_at_any_step_leaves_no_socket(open_: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor at the very one at which there is a winner: a socket left open warns, which fails the test."""
    monkeypatch.setattr(race, "_HEAD_START", 0)
    with listening("127.0.0.3") as other:
        for step in range(3000):
            async with asyncio.TaskGroup() as group:
                racing = group.create_task(first_connected([open_, other]))
                for _ in range(step // 3):
                    await asyncio.sleep(0)
                racing.cancel()
            if not racing.cancelled():
                racing.result().close()
                return
    raise AssertionError("it never came to its end")  # pragma: no cover - it does


async def test_a_host_with_addresses_of_both_families_is_reached_by_either() -> None:
    with listening("127.0.0.1") as address:
        sock = await connected_socket("localhost", address[2][1])
        assert sock.getpeername() == address[2]
        sock.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".test"])
async def test_a_name_that_leads_nowhere_is_an_error(host: str) -> None:
    with pytest.raises((OSError, ValueError)):
        await connected_socket(host, 80)
