"""Servers that answer with scripted bytes, and requests that enter a transport at its seam."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
PATIENCE = 30.0
"""Seconds after which a test that waits for its peer has failed."""


class Peer:
    """What a scripted server has seen."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.left = asyncio.Event()


@asynccontextmanager
async def serving(handle: Handle, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server whose every connection is `handle`d; gives its address."""

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0, ssl=context)
    scheme = "http" if context is None else "https"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def request_on(reader: asyncio.StreamReader) -> bytes:
    """The next request as it came; `b""` when the client has left."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head + await reader.readexactly(int(length or b"0"))
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def scripted(peer: Peer, *connections: list[bytes | str]) -> Handle:
    """Answer the n-th request of the m-th connection with `connections[m][n]`, then close.

    Bytes are written; `close`, `reset` and `hold` (until the client leaves) are done after the request was read.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        for answer in connections[peer.connections - 1]:
            peer.requests.append(await request_on(reader))
            if isinstance(answer, bytes):
                writer.write(answer)
            elif answer == "reset":
                reset(writer)
            elif answer == "hold":
                await request_on(reader)
                peer.left.set()

    return handle


def cut(wire: bytes, size: int) -> list[bytes]:
    """The bytes in pieces of `size`."""
    return [wire[start : start + size] for start in range(0, len(wire), size)]


def reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def post(url: str, body: bytes = b"{}", **timeout: float | None) -> httpx.Request:
    return httpx.Request("POST", url, content=body, extensions={"timeout": timeout})


async def pieces(response: httpx.Response) -> list[bytes]:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return [piece async for piece in response.stream]


async def answer_of(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> bytes:
    response = await transport.handle_async_request(request)
    try:
        return b"".join(await pieces(response))
    finally:
        await response.aclose()
