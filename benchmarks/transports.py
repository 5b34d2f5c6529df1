"""What one upstream call costs through each HTTP engine: `python -m benchmarks.transports`.

The choice in `adapters/transport.py` rests on this table. Only the client's side is counted, with the CPU clock of this
process; the engines get the same prebuilt requests. The last row is what the kernel and uvloop take by themselves: the
same bytes through a protocol that looks for their end alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from typing import cast

import httpx
import uvloop
from rich.console import Console
from rich.table import Table

from adapters.transport import open_transport
from benchmarks.processes import started_upstream

CALLS = 4000
STREAMS = 50
CHUNKS = 200
CALL = b'{"prompt":"Hello, how are you today?"}'
STREAM = b'{"stream":true,"prompt":"chunks=%d interval=20"}' % CHUNKS


def engines() -> dict[str, Callable[[], httpx.AsyncBaseTransport]]:
    """Every engine that is installed, by name."""
    found: dict[str, Callable[[], httpx.AsyncBaseTransport]] = {
        "adapters.transport": lambda: open_transport(connect_timeout=10),
        "httpx.AsyncHTTPTransport": httpx.AsyncHTTPTransport,
    }
    try:
        found["httpx-aiohttp"] = import_module("httpx_aiohttp").AiohttpTransport
    except ModuleNotFoundError:
        pass
    return found


class Caller:
    """Calls the upstream's native route through one engine."""

    def __init__(self, transport: httpx.AsyncBaseTransport, port: int) -> None:
        self._transport = transport
        self._url = httpx.URL(f"http://127.0.0.1:{port}/client/v4/accounts/bench/ai/run/@cf/meta/llama-3.2-1b-instruct")
        self._timeout = {"connect": 10.0, "read": 130.0, "write": 130.0, "pool": 10.0}

    def _request(self, body: bytes) -> httpx.Request:
        headers = httpx.Headers(
            [
                (b"host", self._url.netloc),
                (b"authorization", b"Bearer 0123456789abcdef0123456789abcdef"),
                (b"content-type", b"application/json"),
                (b"accept", b"*/*"),
                (b"accept-encoding", b"identity"),
                (b"user-agent", b"bench"),
                (b"content-length", b"%d" % len(body)),
            ]
        )
        extensions = {"timeout": self._timeout}
        return httpx.Request("POST", self._url, headers=headers, stream=httpx.ByteStream(body), extensions=extensions)

    async def call(self) -> None:
        response = await self._transport.handle_async_request(self._request(CALL))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        pieces = [piece async for piece in response.stream]
        await response.stream.aclose()
        assert b"quick brown" in b"".join(pieces)

    async def stream(self) -> None:
        response = await self._transport.handle_async_request(self._request(STREAM))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        frames = 0
        async for piece in response.stream:
            frames += piece.count(b"data: ")
        await response.stream.aclose()
        assert frames == CHUNKS + 2


class Bare(asyncio.Protocol):
    """Connections that write prepared bytes and wait for an answer's last ones."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._ends: asyncio.Future[None] | None = None
        self._end = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        if data.endswith(self._end) and self._ends is not None:
            self._ends.set_result(None)

    async def ask(self, body: bytes, end: bytes) -> None:
        assert self._transport is not None
        self._end, self._ends = end, asyncio.get_running_loop().create_future()
        head = b"POST /ai/run/x HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)
        await self._ends

    def close(self) -> None:
        assert self._transport is not None
        self._transport.abort()


async def _floor(port: int) -> list[float]:
    """`_measure`'s figures with nothing in between."""
    loop = asyncio.get_running_loop()
    peers = [(await loop.create_connection(Bare, "127.0.0.1", port))[1] for _ in range(STREAMS)]
    free = list(peers)

    async def ask(body: bytes, end: bytes) -> None:
        peer = free.pop()
        await peer.ask(body, end)
        free.append(peer)

    figures = [await _cost(partial(ask, CALL, b"}"), CALLS, concurrency) for concurrency in (1, 32)]
    streamed = await _cost(partial(ask, STREAM, b"\r\n0\r\n\r\n"), STREAMS, STREAMS)
    for peer in peers:
        peer.close()
    return [*figures, streamed / CHUNKS]


async def _cost(work: Callable[[], Awaitable[None]], times: int, concurrency: int) -> float:
    """CPU microseconds of this process for each of `times` runs."""

    async def worker() -> None:
        for _ in range(times // concurrency):
            await work()

    before = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
    return (time.process_time() - before) / times * 1e6


async def _measure(transport: httpx.AsyncBaseTransport, port: int) -> list[float]:
    caller = Caller(transport, port)
    async with transport:
        await _cost(caller.call, 320, 32)  # warm up: connections, caches
        alone = await _cost(caller.call, CALLS, 1)
        together = await _cost(caller.call, CALLS, 32)
        streamed = await _cost(caller.stream, STREAMS, STREAMS)
    return [alone, together, streamed / CHUNKS]


def _short(figure: float) -> str:
    return f"{figure:.1f}" if figure < 20 else f"{figure:.0f}"


def main() -> None:
    table = Table("engine", "call, 1 at a time", "call, 32 at once", f"chunk, {STREAMS} streams", title="CPU µs")
    with started_upstream() as port:
        for name, engine in engines().items():
            table.add_row(name, *map(_short, uvloop.run(_measure(engine(), port))))
        table.add_row("sockets alone", *map(_short, uvloop.run(_floor(port))))
    Console().print(table)


if __name__ == "__main__":
    main()
