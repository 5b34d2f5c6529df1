"""A TCP connection to whichever address of a host answers first (RFC 8305, "happy eyeballs").

Not the loops' own: uvloop has none, and tries one address after the other until each has run out of time.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

_HEAD_START = 0.25
"""Seconds that an address has for itself before the next one is tried as well."""

_GONE = 10
"""Seconds after which a peer that acknowledges nothing is given up. An answer may take its time, a packet does not;
where the network is cut without a word, nothing else would tell before the answer is overdue."""

_LIVENESS = [
    (getattr(socket, option), value)
    for option, value in (
        ("TCP_USER_TIMEOUT", 1000 * _GONE),  # what was sent and not acknowledged; in milliseconds, Linux
        ("TCP_KEEPIDLE", _GONE),  # seconds of silence until the peer is asked, by the kernel, whether it is there
        ("TCP_KEEPINTVL", _GONE // 2),
        ("TCP_KEEPCNT", 2),
    )
    if hasattr(socket, option)
]

Address = tuple[socket.AddressFamily, int, Any]
"""Family, protocol, and what `connect` takes."""


async def connected_socket(host: str, port: int) -> socket.socket:
    """Raises OSError, and ValueError for a name that is none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await first_connected([(family, proto, address) for family, _, proto, _, address in found])


async def connected_unix_socket(path: str) -> socket.socket:
    """Raises OSError. Not by the loop's own `create_unix_connection`: uvloop's leaks a handle where that fails."""
    return await _connected((socket.AF_UNIX, 0, path))


async def first_connected(addresses: Sequence[Address]) -> socket.socket:
    """One of them at least. Raises OSError: why the first to fail did so, if all do."""
    if len(addresses) == 1:
        return await _connected(addresses[0])
    return await _Race(_interleaved(addresses)).winner()


def _interleaved(addresses: Sequence[Address]) -> list[Address]:
    """Both families in turns, in the resolver's order: one that leads nowhere costs a single head start."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    return [address for address in chain.from_iterable(zip_longest(first, others)) if address is not None]


async def _connected(address: Address) -> socket.socket:
    family, proto, target = address
    sock = socket.socket(family, socket.SOCK_STREAM, proto)
    try:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _LIVENESS:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        await asyncio.get_running_loop().sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


class _Race:
    def __init__(self, addresses: list[Address]) -> None:
        self._addresses = addresses
        self._winner: socket.socket | None = None
        self._errors: list[OSError] = []
        self._news = asyncio.Event()

    async def winner(self) -> socket.socket:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = []
                for address in self._addresses:
                    tasks.append(group.create_task(self._try(address)))
                    if await self._news_within(_HEAD_START) and self._winner is not None:
                        break
                while not self._decided():
                    await self._news_within(None)
                for task in tasks:
                    task.cancel()
        except BaseException:
            if self._winner is not None:
                self._winner.close()
            raise
        if self._winner is None:
            raise self._errors[0]
        return self._winner

    def _decided(self) -> bool:
        return self._winner is not None or len(self._errors) == len(self._addresses)

    async def _try(self, address: Address) -> None:
        try:
            sock = await _connected(address)
        except OSError as exc:
            self._errors.append(exc)
        else:
            if self._winner is None:
                self._winner = sock
            else:
                sock.close()
        self._news.set()

    async def _news_within(self, seconds: float | None) -> bool:
        """Whether a try has come to its end in this time."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True
