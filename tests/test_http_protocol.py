"""What a caller can make the server hold, and take for a request, before its token was looked at."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.answers import read_body, send_body
from proxy.http_protocol import MOST_BYTES, MOST_LINES, MOST_UNREAD
from tests.support.connections import connected, said_to
from tests.support.relay import KEY, relaying
from tests.support.servers import DEADLINE
from tests.support.simulated_time import simulate

pytestmark = pytest.mark.anyio

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
SMUGGLED = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
UPGRADE = b"connection: upgrade\r\nupgrade: h2c\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"

REFUSED: dict[str, list[bytes]] = {
    "many headers": [HEAD + b"x: y\r\n" * (MOST_LINES + 1) + b"\r\n"],
    "large headers": [HEAD + b"x: " + b"y" * MOST_BYTES + b"\r\n\r\n"],
    "headers that are large together": [HEAD + (b"x: " + b"y" * 1000 + b"\r\n") * 70 + b"\r\n"],
    "a long target": [b"GET /" + b"a" * MOST_BYTES + b" HTTP/1.1\r\nhost: x\r\n\r\n"],
    "a header without an end": [HEAD + b"x: ", *[b"y" * 2**16] * (MOST_UNREAD // 2**16 + 1)],
    "large trailers": [HEAD + CHUNKED + b"0\r\nx: " + b"y" * MOST_BYTES + b"\r\n\r\n"],
    "a tunnel": [b"CONNECT x:80 HTTP/1.1\r\nhost: x:80\r\n\r\n" + SMUGGLED],
    "a tunnel to a path": [b"CONNECT /healthz HTTP/1.1\r\nhost: x\r\n\r\n" + SMUGGLED],
    "two lengths beside an upgrade": [HEAD + UPGRADE + CHUNKED[:-2] + b"content-length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED],
    "lengths that differ beside an upgrade": [
        HEAD + UPGRADE + b"content-length: 5\r\ncontent-length: 0\r\n\r\n" + SMUGGLED
    ],
    "a coding that is not the last": [HEAD + UPGRADE + b"transfer-encoding: chunked, x\r\n\r\n0\r\n\r\n" + SMUGGLED],
    "many headers beside an upgrade": [HEAD + UPGRADE + b"x: y\r\n" * (MOST_LINES - 2) + b"\r\n"],
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


# ------------------------------------------------------------ upgrades


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """What the app was asked, as one line."""
    body = await read_body(scope, receive, 10**6)
    headers = dict(scope["headers"])
    seen = b" ".join((scope["method"].encode(), scope["path"].encode(), headers.get(b"upgrade", b"-"), body))
    await send_body(send, b"[" + seen + b"]")


def seen(said: bytes) -> list[bytes]:
    return re.findall(rb"\[(.*?)\]", said, re.S)


JAVA = (
    b"POST /a?b=%20 HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 11\r\nHost: x\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAB\r\nUpgrade: h2c\r\nUser-Agent: Java-http-client/17\r\n\r\n"
    b'{"say":"hi}'
)
CHUNKS = b"5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\nx-trailer: z\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
INNER = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"

UPGRADED: dict[str, tuple[bytes, list[bytes]]] = {
    "a length": (JAVA, [b'POST /a h2c {"say":"hi}']),
    "chunks": (b"POST /c HTTP/1.1\r\nhost: x\r\n" + UPGRADE + CHUNKED + CHUNKS, [b"POST /c h2c hello, world"]),
    "no body": (b"GET /g HTTP/1.1\r\nhost: x\r\n" + UPGRADE + b"\r\n", [b"GET /g h2c "]),
    "an empty body": (HEAD + UPGRADE + b"content-length: 0\r\n\r\n", [b"POST /v1/chat/completions h2c "]),
    "a request as the body": (
        HEAD + UPGRADE + b"content-length: %d\r\n\r\n" % len(INNER) + INNER,
        [b"POST /v1/chat/completions h2c " + INNER],
    ),
    "a request as a chunk": (
        HEAD + UPGRADE + CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER),
        [b"POST /v1/chat/completions h2c " + INNER],
    ),
    "a web socket": (
        b"GET /w HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: keep-alive, Upgrade\r\n\r\n",
        [b"GET /w websocket "],
    ),
    "several upgrades": (
        b"PUT /s HTTP/1.1\r\nhost: x\r\nupgrade: a\r\nUPGRADE: b, c\r\nconnection:upgrade\r\n"
        b"Connection: x ,\tupgrade,\r\n"
        b"content-length: 2\r\n\r\nhi",
        [b"PUT /s b, c hi"],
    ),
    "an upgrade that nothing asks for": (
        HEAD + b"upgrade: h2c\r\ncontent-length: 2\r\n\r\nhi",
        [b"POST /v1/chat/completions h2c hi"],
    ),
    "one, then another": (JAVA + JAVA, [b'POST /a h2c {"say":"hi}'] * 2),
    "one behind a plain request": (INNER + JAVA, [b"GET / - ", b'POST /a h2c {"say":"hi}']),
    "one before a plain request": (JAVA + INNER, [b'POST /a h2c {"say":"hi}', b"GET / - "]),
}


@pytest.mark.parametrize(("request_", "requests"), UPGRADED.values(), ids=UPGRADED)
async def test_an_upgrade_is_ignored_wherever_the_request_is_cut(request_: bytes, requests: list[bytes]) -> None:
    wire = request_ + LAST
    expected = [*requests, b"GET /last - "]
    for cut in range(len(wire)):
        said = await said_to(echo, (wire[:cut], wire[cut:]))
        assert seen(said) == expected, cut
        assert said.count(b"HTTP/1.1 200 ") == len(expected)
    assert seen(await said_to(echo, (wire[i : i + 1] for i in range(len(wire))))) == expected


ENDS: dict[str, tuple[bytes, list[bytes]]] = {
    "it says close": (
        HEAD + b"connection: close, upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi",
        [b"POST /v1/chat/completions h2c hi"],
    ),
    "it says close, though more comes": (
        HEAD + b"connection: close, upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi" + INNER,
        [b"POST /v1/chat/completions h2c hi"],
    ),
    "it is HTTP/1.0": (
        b"POST /o HTTP/1.0\r\nhost: x\r\n" + UPGRADE + b"content-length: 2\r\n\r\nhi",
        [b"POST /o h2c hi"],
    ),
}


@pytest.mark.parametrize(("request_", "requests"), ENDS.values(), ids=ENDS)
async def test_a_connection_ends_after_an_upgraded_request_if(request_: bytes, requests: list[bytes]) -> None:
    said = await said_to(echo, (request_,))
    assert seen(said) == requests
    assert b"connection: close" in said


async def test_a_body_beside_an_upgrade_is_no_request(tmp_path: Path) -> None:
    """One without a token is refused, and what its body asks for nobody hears."""
    async with relaying(tmp_path) as rig:
        length = b"content-length: %d\r\n\r\n" % len(SMUGGLED)
        said = await answers(rig.relay.port, [HEAD + UPGRADE + length, SMUGGLED, LAST])
        assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"401", b"401"]


async def test_a_web_socket_is_refused_in_order(tmp_path: Path) -> None:
    path = b"/client/v4/accounts/abc/ai/run/@cf/deepgram/flux"
    wire = (
        b"GET %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\r\n"
    )
    async with relaying(tmp_path) as rig:
        said = await answers(rig.relay.port, [wire % (path, KEY.encode()), LAST])
        assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"501", b"401"]


async def test_a_trailer_is_no_header() -> None:
    wire = b"POST /t HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + CHUNKED + b"2\r\nhi\r\n0\r\nupgrade: x\r\n\r\n"
    assert seen(await said_to(echo, (wire,))) == [b"POST /t - hi"]


# Without an end; what is held of them, too.
AROUND: dict[str, list[bytes]] = {
    "a trailer without an end": [HEAD + CHUNKED + b"0\r\nx: ", *[b"y" * 2**16] * (MOST_UNREAD // 2**16 + 1)],
    "a chunk without content": [HEAD + CHUNKED + b"5;x=", *[b"y" * 2**16] * (MOST_UNREAD // 2**16 + 1)],
}


@pytest.mark.parametrize("pieces", AROUND.values(), ids=AROUND)
async def test_what_stands_around_a_body_is_bounded(pieces: list[bytes]) -> None:
    with contextlib.suppress(ConnectionError):
        assert (await said_to(echo, pieces)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("pieces", AROUND.values(), ids=AROUND)
async def test_an_answered_request_is_not_answered_again(tmp_path: Path, pieces: list[bytes]) -> None:
    async with relaying(tmp_path) as rig:
        said = await answers(rig.relay.port, pieces)
        assert not said or (said.startswith(b"HTTP/1.1 401 ") and said.count(b"HTTP/1.1 ") == 1)


BROKEN: dict[str, list[bytes]] = {
    "behind a request that is not answered": [INNER + b"nonsense\r\n\r\n"],
    "behind two of them": [INNER + INNER + b"nonsense\r\n\r\n"],
    "in the body of one that waits for its turn": [INNER + HEAD + CHUNKED + b"nonsense\r\n"],
}


@pytest.mark.parametrize("pieces", BROKEN.values(), ids=BROKEN)
async def test_nonsense_is_not_answered_in_place_of_a_request(pieces: list[bytes]) -> None:
    with contextlib.suppress(ConnectionError):
        assert await said_to(echo, pieces) == b""


async def test_nonsense_in_a_body_is_answered() -> None:
    said = await said_to(echo, [HEAD + CHUNKED + b"nonsense\r\n"])
    assert said.startswith(b"HTTP/1.1 400 ") and said.endswith(b"Invalid HTTP request received.")


async def test_nonsense_in_a_body_does_not_cut_the_answer_that_came_before() -> None:
    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await send_body(send, b"x" * 4 * 2**20)

    assert (await said_to(large, [HEAD + CHUNKED, b"nonsense\r\n"])).count(b"x") == 4 * 2**20


# ------------------------------------------------------------ requests behind each other


def numbered(count: int, padding: int) -> bytes:
    requests = [b"GET /%d HTTP/1.1\r\nhost: x\r\nx: %b\r\n\r\n" % (i, b"y" * padding) for i in range(count)]
    return b"".join(requests) + LAST


async def test_requests_behind_each_other_are_answered_in_order() -> None:
    said = await said_to(echo, [numbered(3000, 0)])
    assert seen(said) == [*(b"GET /%d - " % i for i in range(3000)), b"GET /last - "]


def test_of_requests_behind_one_that_takes_long_few_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a client sends ahead, and though the app listens for its leaving."""
    held: list[RequestResponseCycle] = []
    count, seconds = 8000, 10

    class Counted(RequestResponseCycle):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            held.append(self)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/0":
            await receive()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await receive()
        await send_body(send, b"[%b]" % scope["path"].encode())

    async def scene() -> None:
        async with connected(slow) as (reader, writer):
            writer.write(numbered(count, padding=1000))
            await asyncio.sleep(seconds / 2)
            assert len(held) < 10
            assert writer.transport.get_write_buffer_size() > 0
            assert seen(await reader.read()) == [*(b"/%d" % i for i in range(count)), b"/last"]
        assert len(held) == count + 1

    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", Counted)
    simulate(scene())


@pytest.mark.parametrize("answered", [0, 1])
async def test_who_is_answered_is_seen_to_leave_though_another_request_waits(answered: int) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["method"] == "GET":
            return await send_body(send, b"")
        begun.set()
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    async with asyncio.timeout(DEADLINE):
        async with connected(slow) as (_, writer):
            writer.write(INNER * answered + HEAD + b"content-length: 0\r\n\r\n" + INNER)
            await begun.wait()
        await left.wait()


async def test_what_is_behind_an_answer_that_closes_is_not_done() -> None:
    done = []

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        done.append(scope["path"])
        await send_body(send, b"[%b]" % scope["path"].encode(), headers=[(b"connection", b"close")])

    with contextlib.suppress(ConnectionError):
        assert seen(await said_to(closing, [numbered(9, padding=1000)])) == [b"/0"]
    assert done == ["/0"]
