"""What a caller can make the server hold, and take for a request, before its token was looked at."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.http_protocol import MOST_BYTES, MOST_LINES, MOST_UNREAD
from tests.support.relay import KEY, relaying
from tests.support.servers import DEADLINE

pytestmark = pytest.mark.anyio

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
SMUGGLED = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
UPGRADE = b"connection: upgrade\r\nupgrade: h2c\r\n"

REFUSED: dict[str, list[bytes]] = {
    "many headers": [HEAD + b"x: y\r\n" * (MOST_LINES + 1) + b"\r\n"],
    "large headers": [HEAD + b"x: " + b"y" * MOST_BYTES + b"\r\n\r\n"],
    "headers that are large together": [HEAD + (b"x: " + b"y" * 1000 + b"\r\n") * 70 + b"\r\n"],
    "a long target": [b"GET /" + b"a" * MOST_BYTES + b" HTTP/1.1\r\nhost: x\r\n\r\n"],
    "a header without an end": [HEAD + b"x: ", *[b"y" * 2**16] * (MOST_UNREAD // 2**16 + 1)],
    "a body beside an upgrade": [HEAD + UPGRADE + b"content-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED],
    "one that comes later": [HEAD + UPGRADE + b"content-length: %d\r\n\r\n" % len(SMUGGLED), SMUGGLED],
    "one in chunks": [HEAD + UPGRADE + b"transfer-encoding: chunked\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n", SMUGGLED],
}


async def answers(port: int, pieces: list[bytes]) -> bytes:
    """Everything that the server says until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(DEADLINE):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
    except ConnectionError:
        return b""  # it closed while we were still sending
    finally:
        writer.close()


@pytest.mark.parametrize("pieces", REFUSED.values(), ids=REFUSED)
async def test_such_a_head_is_refused_and_nothing_behind_it_is_read(tmp_path: Path, pieces: list[bytes]) -> None:
    async with relaying(tmp_path) as rig:
        said = await answers(rig.relay.port, pieces)
        assert said.count(b"HTTP/1.1 ") <= 1 and b" 200 " not in said
        assert not said or said.startswith(b"HTTP/1.1 400 ")


SERVED: dict[str, bytes] = {
    "a large head": (b"x: " + b"y" * 1000 + b"\r\n") * 60,
    "an upgrade without a body": b"connection: upgrade, close\r\nupgrade: websocket\r\n",
    "an upgrade with an empty body": b"connection: upgrade, close\r\nupgrade: h2c\r\ncontent-length: 0\r\n",
}


@pytest.mark.parametrize("headers", SERVED.values(), ids=SERVED)
async def test_any_other_is_served(tmp_path: Path, headers: bytes) -> None:
    async with relaying(tmp_path) as rig:
        close = b"" if b"close" in headers else b"connection: close\r\n"
        said = await answers(rig.relay.port, [b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + headers + close + b"\r\n"])
        assert said.startswith(b"HTTP/1.1 200 ")


async def test_a_large_body_is_no_large_head(tmp_path: Path) -> None:
    body = b" " * (3 * MOST_UNREAD) + b"{}"
    head = HEAD + b"authorization: Bearer %b\r\nconnection: close\r\n" % KEY.encode()
    async with relaying(tmp_path) as rig:
        said = await answers(rig.relay.port, [head + b"content-length: %d\r\n\r\n" % len(body), body])
        assert said.startswith(b"HTTP/1.1 400 ") and b"model" in said
