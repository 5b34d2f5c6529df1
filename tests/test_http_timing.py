"""How long a client may take: real sockets, simulated time."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from proxy.answers import read_body, send_body
from proxy.http_protocol import PIECE, HttpProtocol
from proxy.http_timing import Patience
from tests.support.connections import connected
from tests.support.relay import KEY, relaying
from tests.support.servers import DEADLINE
from tests.support.simulated_time import simulate

KIB = 2**10
LATE = 100
"""Seconds after which the app does what its path says it does late."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads a body and tells its size, or answers before it does, or is late."""
    path = scope["path"]
    if path == "/late":
        await asyncio.sleep(LATE)
    try:
        size = 0 if path == "/unread" else len(await read_body(scope, receive, 10**9))
    except HTTPException as exc:
        headers = [(name.lower().encode(), value.encode()) for name, value in (exc.headers or {}).items()]
        return await send_body(send, b"the body did not come", status=exc.status_code, headers=headers)
    if path == "/begun":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(LATE)
        await send({"type": "http.response.body", "body": b"begun"})
    else:
        await send_body(send, b"%d bytes" % size)


def post(path: bytes = b"/", length: int = 0, *headers: bytes) -> bytes:
    return b"\r\n".join((b"POST %b HTTP/1.1" % path, b"host: x", b"content-length: %d" % length, *headers, b"", b""))


def padded(head: bytes, size: int) -> bytes:
    """The same request, so many bytes long."""
    return head[:-2] + b"x: ".ljust(size - len(head) - 2, b"y") + b"\r\n\r\n"


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
Script = Sequence[tuple[float, bytes]]


def drips(piece: bytes, every: float, count: int) -> list[tuple[float, bytes]]:
    return [(every * (i + 1), piece) for i in range(count)]


# What is sent when, in seconds; the statuses that come back; when the connection ends.
ENDED: dict[str, tuple[Script, list[int], float]] = {
    "nothing at all": ([], [], 75),
    "half a head": ([(0, b"POST / HT")], [408], 30),
    "a head in drips": ([(0, b"GET / HTTP/1.1\r\nx: "), *drips(b"y", 7, 9)], [408], 30),
    "a head that begins later": ([(50, b"GET")], [408], 80),
    "blank lines alone": ([(0, b"\r\n"), (20, b"\r\n")], [], 30),
    "half a head after a request": ([(0, post()), (20, b"GET ")], [200, 408], 50),
    "half a head behind a request": ([(0, post() + b"GET ")], [200, 408], 30),
    "half a head behind one that is answered late": ([(0, post(b"/late") + b"GET ")], [200, 408], 120),
    "half a head while an answer goes out": ([(0, post(b"/begun") + b"GET ")], [200, 408], 120),
    "blank lines behind requests that wait": (
        [(0, padded(post(b"/begun"), PIECE - len(post())) + post() + b"\r\n")],
        [200, 200],
        130,
    ),
    "half a request after a request": ([(0, post()), (20, post(b"/", 10))], [200, 408], 80),
    "silence after a request": ([(0, post())], [200], 75),
    "silence after a request whose body came last": ([(0, post(b"/unread", 4)), (30, b"body")], [200], 105),
    "no body": ([(0, post(b"/", 100))], [408], 60),
    "a body that stops": ([(0, post(b"/", 200 * KIB) + b"x" * 100 * KIB), (50, b"x" * KIB)], [408], 110),
    "a body in drips": ([(0, post(b"/", 100)), *drips(b"x", 7, 9)], [408], 60),
    "a body that is slow for its size": ([(0, post(b"/", 999 * KIB)), *drips(b"x" * 1587, 3.1, 99)], [408], 117),
    "chunks without content": ([(0, CHUNKED + b"5;x="), *drips(b"y", 7, 9)], [408], 60),
    "trailers in drips": ([(0, CHUNKED + b"2\r\nhi\r\n0\r\nx: "), *drips(b"y", 7, 9)], [408], 60),
    "the body of an answered request": (
        [(20, post(b"/unread", 10**6)), *((20 + at, piece) for at, piece in drips(b"x" * KIB, 0.7, 99))],
        [200],
        80,
    ),
    "a body that nobody asks for until late": ([(0, post(b"/late", 10))], [408], LATE),
}


async def played(script: Script) -> tuple[bytes, float]:
    """All that came back, and when the connection ended, in seconds."""
    loop = asyncio.get_running_loop()
    async with connected(app) as (reader, writer), asyncio.TaskGroup() as group:
        begin = loop.time()

        async def send() -> None:
            for at, piece in script:
                await asyncio.sleep(begin + at - loop.time())
                writer.write(piece)

        sending = group.create_task(send())
        said = await reader.read()
        sending.cancel()
        return said, loop.time() - begin


def statuses(said: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", said)]


@pytest.mark.parametrize(("script", "answered", "end"), ENDED.values(), ids=ENDED)
def test_a_client_that_does_not_go_on_is_let_go(script: Script, answered: list[int], end: float) -> None:
    async def scene() -> None:
        said, ended = await played(script)
        assert statuses(said) == answered
        assert ended == pytest.approx(end, abs=0.5)
        assert said.count(b"connection: close") == answered.count(408)

    simulate(scene())


STEADY = [(0.0, post(b"/", 400 * KIB)), *drips(b"x" * 10 * KIB, 5, 40)]
SERVED: dict[str, tuple[Script, bytes]] = {
    "a slow head": ([(0, post()[:20]), (29, post()[20:])], b"0 bytes"),
    "a slow body": (STEADY, b"%d bytes" % (400 * KIB)),
    "a body with pauses": ([(0, post(b"/", 2)), (30, b"x"), (59, b"y")], b"2 bytes"),
    "a body that the app does not read for long": (
        [(0, post(b"/late", 80 * KIB) + b"x" * 70 * KIB), (LATE + 55, b"x" * 10 * KIB)],
        b"%d bytes" % (80 * KIB),
    ),
    "a body behind a request that is answered late": ([(0, post(b"/late") + post(b"/", 2)), (5, b"hi")], b"2 bytes"),
    "a body that waits behind an answer": (
        [(0, post(b"/begun") + post(b"/", 80 * KIB) + b"x" * 50 * KIB), (LATE + 55, b"x" * 30 * KIB)],
        b"%d bytes" % (80 * KIB),
    ),
    "half a head that waits behind an answer": (
        [
            (0, padded(post(b"/begun"), PIECE - len(post())) + post()),
            (5, post(b"/", 2)[:20]),
            (LATE + 25, post(b"/", 2)[20:] + b"hi"),
        ],
        b"2 bytes",
    ),
    "a late answer behind a body that came last": (
        [(0, post(b"/unread", 4)), (5, b"body" + post(b"/late", 2) + b"hi")],
        b"2 bytes",
    ),
    "a body that waits for 100": ([(0, post(b"/late", 2, b"expect: 100-continue")), (LATE + 29, b"hi")], b"2 bytes"),
    "a late answer": ([(0, post(b"/late"))], b"0 bytes"),
}


@pytest.mark.parametrize(("script", "answer"), SERVED.values(), ids=SERVED)
def test_a_slow_client_is_served(script: Script, answer: bytes) -> None:
    async def scene() -> None:
        said, _ = await played(script)
        assert said.endswith(answer)
        assert set(statuses(said)) <= {100, 200}

    simulate(scene())


def test_a_connection_that_its_client_ends_has_no_timer_left() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        async with connected(app) as (_, writer):
            writer.write(b"GET")
        begin = loop.time()
        await asyncio.sleep(0.1)
        assert loop.time() - begin < 0.2
        assert all(handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]  # asyncio's own list

    simulate(scene())


MIB = 2**20
SIZE = 4 * MIB
"""Of an answer: far more than the sockets hold."""


class Answers:
    """Answers with so many bytes, at once or in pieces; `left` is when it heard that nobody is there any more."""

    def __init__(self, *headers: tuple[bytes, bytes], pieces: int = 1) -> None:
        self._headers = headers
        self._pieces = pieces
        self.left: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        length = (b"content-length", b"%d" % SIZE)
        await send({"type": "http.response.start", "status": 200, "headers": [length, *self._headers]})
        for i in range(self._pieces):
            piece = b"x" * (SIZE // self._pieces)
            await send({"type": "http.response.body", "body": piece, "more_body": i < self._pieces - 1})
        await receive()
        self.left = asyncio.get_running_loop().time()


ANSWERS = {
    "a whole answer": lambda: Answers(),
    "a whole answer, the last of its connection": lambda: Answers((b"connection", b"close")),
    "one in pieces": lambda: Answers(pieces=64),
}
EVERY_ANSWER = pytest.mark.parametrize("make", ANSWERS.values(), ids=ANSWERS)


@EVERY_ANSWER
@pytest.mark.parametrize("ahead", [b"", post()], ids=["one request", "another behind it"])
def test_a_client_that_takes_nothing_of_its_answer_is_let_go(make: Callable[[], Answers], ahead: bytes) -> None:
    async def scene() -> None:
        app = make()
        async with connected(app) as (reader, writer):
            writer.write(post() + ahead)
            begin = asyncio.get_running_loop().time()
            await asyncio.sleep(10 * LATE)
            assert 0 < (await reader.read()).count(b"x") < SIZE // 2
        if app.left != begin:  # a whole answer is done at once
            assert app.left is not None and 60 <= app.left - begin <= 120

    simulate(scene())


@EVERY_ANSWER
def test_a_client_that_takes_something_now_and_then_gets_all(make: Callable[[], Answers]) -> None:
    async def scene() -> None:
        async with connected(make()) as (reader, writer):
            writer.write(post())
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(SIZE // MIB * 2):
                await asyncio.sleep(55)
                assert await reader.readexactly(MIB // 2) == b"x" * (MIB // 2)

    simulate(scene())


DIALECTS = {
    "OpenAI's": ("/v1/chat/completions", lambda told: told["error"]["code"] == "request_timeout"),
    "Cloudflare's": (
        "/client/v4/accounts/abc/ai/run/@cf/meta/llama-3.2-1b-instruct",
        lambda told: told["errors"][0]["code"] == 3007 and told["success"] is False,
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "is_told"), DIALECTS.values(), ids=DIALECTS)
async def test_a_body_that_stops_is_told_in_the_callers_dialect(
    path: str, is_told: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpProtocol, "patience", Patience(body=0.05))
    async with relaying(tmp_path) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.relay.port)
        writer.write(post(path.encode(), 100, b"authorization: Bearer %b" % KEY.encode()) + b'{"model":')
        async with asyncio.timeout(DEADLINE):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 408 ") and b"connection: close" in head
    assert callable(is_told) and is_told(json.loads(body))


@pytest.mark.anyio
async def test_nobody_without_a_token_holds_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpProtocol, "patience", Patience(body=0.05))
    async with relaying(tmp_path) as rig:
        with socket.create_connection(("127.0.0.1", rig.relay.port)) as connection:
            reader, writer = await asyncio.open_connection(sock=connection)
            writer.write(post(b"/v1/chat/completions", 100))
            async with asyncio.timeout(DEADLINE):
                assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
            writer.close()
