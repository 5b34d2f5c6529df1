"""HTTP as bytes on a socket, for what well-behaved clients and servers never show."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tests.support.relay import KEY
from tests.support.servers import DEADLINE

Play = Callable[[asyncio.StreamWriter], Awaitable[None]]
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Head(NamedTuple):
    """Header names in lower case."""

    status: int
    headers: dict[str, str]


class Connection:
    """A client's connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> Head:
        async with asyncio.timeout(DEADLINE):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return Head(int(first.split(" ")[1]), headers)

    async def answer(self) -> tuple[Head, bytes]:
        """One whole answer of known length; the connection stays open."""
        head = await self.head()
        async with asyncio.timeout(DEADLINE):
            return head, await self._reader.readexactly(int(head.headers["content-length"]))

    async def until(self, needle: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self._reader.readuntil(needle)

    async def to_end(self) -> bytes:
        """All that comes until the peer closes the connection. Raises TimeoutError if it stays open."""
        async with asyncio.timeout(DEADLINE):
            return await self._reader.read()

    def reset(self) -> None:
        """Hang up without a word: the peer gets a reset."""
        reset(self._writer)


@asynccontextmanager
async def connected(port: int, *, receive_buffer: int | None = None) -> AsyncIterator[Connection]:
    """A connection to a port of this machine. `receive_buffer` in bytes bounds what the kernel takes in advance."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    reader, writer = await asyncio.open_connection(sock=sock, limit=2**16)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection by RST, as a process that dies does."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def request(method: str, target: str, body: bytes = b"", *, token: str | None = KEY, **headers: str) -> bytes:
    """A request; underscores in header names stand for dashes."""
    lines = [f"{method} {target} HTTP/1.1", "host: relay", f"content-length: {len(body)}"]
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chat_request(body: dict[str, Any], **headers: str) -> bytes:
    return request("POST", "/v1/chat/completions", json.dumps(body).encode(), **headers)


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def dechunked(body: bytes) -> tuple[bytes, bool]:
    """What a chunked body holds, and whether it came to its proper end."""
    data = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return data, True
        data, body = data + body[:length], body[length + 2 :]
    return data, False


@asynccontextmanager
async def playing(play: Play) -> AsyncIterator[str]:
    """A server that reads each request whole and leaves the answer to `play`; gives its address."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next((line[15:] for line in head.split("\r\n") if line.startswith("content-length:")), "0")
            await reader.readexactly(int(length))
            await play(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the caller has gone; what that means is for the test to see
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
