"""Clients that take nothing of an answer: on sockets of both event loops, in the clear and under TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send

from proxy.http_flow import PatientTransport, Untaken
from proxy.http_protocol import HttpProtocol
from proxy.http_timing import Patience
from tests.support.certificates import write_pair
from tests.support.servers import DEADLINE, serving

PIECE = b"x" * 2**16
PIECES = 1_000
"""Far more than the kernel's buffers of a connection can hold."""


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """uvloop's connections pause, close and abort in code of their own."""
    return "asyncio", {"use_uvloop": request.param}


async def never_read(port: int, context: ssl.SSLContext | None) -> asyncio.StreamWriter:
    """A client that has asked and takes no more than its buffers do."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    _, writer = await asyncio.open_connection(
        sock=sock, limit=2**10, ssl=context, server_hostname="relay.example" if context else None
    )
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    return writer


@pytest.mark.anyio
@pytest.mark.parametrize("secure", [False, True], ids=["in the clear", "under TLS"])
async def test_who_answers_a_client_that_takes_nothing_is_told_that_it_left(
    secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpProtocol, "patience", Patience(send=0.05))
    told = asyncio.Event()
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return await send({"type": "lifespan.shutdown.complete"})
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.ensure_future(receive())  # noqa: TID251 - the app of a test; it is awaited
        while not gone.done() and sent < PIECES:
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            sent += 1
            await asyncio.sleep(0)
        assert (await gone)["type"] == "http.disconnect"
        told.set()

    options = {name: str(tmp_path / file) for name, file in write_pair(tmp_path).items()} if secure else {}
    context = ssl.create_default_context(cafile=tmp_path / "cert.pem") if secure else None
    async with serving(app, **options) as served, asyncio.timeout(DEADLINE):
        if context is not None:
            context.check_hostname = False  # the certificate has no name that is looked at nowadays
        writer = await never_read(served.port, context)
        await told.wait()
        writer.transport.abort()
    assert 0 < sent < PIECES


@pytest.mark.anyio
async def test_under_tls_who_reads_on_gets_an_answer_to_its_end(
    anyio_backend: tuple[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if anyio_backend[1]["use_uvloop"]:
        pytest.skip("its 30 seconds are compiled in")
    monkeypatch.setattr("asyncio.constants.SSL_SHUTDOWN_TIMEOUT", 0.05)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return await send({"type": "lifespan.shutdown.complete"})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": PIECE * PIECES})

    options = {name: str(tmp_path / file) for name, file in write_pair(tmp_path).items()}
    context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    context.check_hostname = False
    async with serving(app, **options) as served, asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=context, limit=2**10)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readline()
        await asyncio.sleep(0.5)  # far longer than TLS has
        answer = await reader.read()
        writer.transport.abort()
    assert answer.endswith(b"x\r\n0\r\n\r\n") and len(answer) > len(PIECE) * PIECES


# ---------------------------------------------------------------- what is known of a connection

Told = tuple[int, int, int] | Exception | None


class Wire:
    """A transport, its socket and its loop, of which a test says what waits, and what the system tells."""

    def __init__(self, *, secure: bool = False) -> None:
        self._secure = secure
        self.waiting = 0
        self.told: Told = None
        self.closed = False
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def get_extra_info(self, name: str) -> object:
        return {"sslcontext": object() if self._secure else None, "socket": self}[name]

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if isinstance(self.told, Exception):
            raise self.told
        return b"" if self.told is None else struct.pack("=24xI92xQ16xI", *self.told)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def call_later(self, pause: float, call: Callable[..., None], *args: float) -> None:
        self.calls.append((pause, lambda: call(*args)))


def read(count: int) -> Told:
    """So many bytes are with the client, and more are on their way."""
    return 1, count, 0


NONE, SILENT = (0, 9, 0), OSError()
# For each look: the place, whether nothing can be added, what waits, what the system tells, and the finding.
Look = tuple[int, bool, int, Told, bool]
IN_THE_CLEAR: dict[str, list[Look]] = {
    "not taken": [(1, True, 9, None, False), (1, True, 9, None, True), (1, True, 9, None, True)],
    "taken from": [(1, True, 9, None, False), (1, True, 8, None, False), (1, True, 8, None, True)],
    "let go and held again": [(1, True, 9, None, False), (2, True, 9, None, False), (2, True, 9, None, True)],
    "a little more": [(1, True, 9, None, False), (1, True, 10, None, True)],
    "on its way": [(1, False, 9, None, False), (1, False, 9, None, False)],
    "no more on its way": [(1, False, 9, None, False), (1, True, 9, None, False), (1, True, 9, None, True)],
    "nothing waits": [(1, True, 0, None, False), (1, True, 0, None, False)],
    "nothing waited": [(1, True, 0, None, False), (1, True, 9, None, False), (1, True, 9, None, True)],
    "no TCP": [(1, True, 9, SILENT, False), (1, True, 9, SILENT, True)],
    "read further on": [(1, True, 9, read(4), False), (1, True, 9, read(5), False), (1, True, 9, read(5), True)],
    "all left to the system": [(1, True, 0, read(4), False), (1, True, 0, read(4), False)],
}
UNDER_TLS: dict[str, list[Look]] = {
    "not taken": [(1, True, 0, read(4), False), (1, True, 0, read(4), True)],
    "not taken from the first byte": [(1, True, 0, read(0), False), (1, True, 0, read(0), True)],
    "not sent even": [(1, True, 0, (0, 4, 1), False), (1, True, 0, (0, 4, 1), True)],
    "read further on": [(1, True, 0, read(4), False), (1, True, 0, read(5), False), (1, True, 0, read(5), True)],
    "on its way": [(1, False, 0, read(4), False), (1, False, 0, read(4), False)],
    "nothing waits": [(1, True, 0, NONE, False), (1, True, 0, NONE, False)],
    "a system that does not tell": [(1, True, 9, SILENT, False), (1, True, 9, SILENT, False)],
    "a system that has no such word": [(1, True, 9, AttributeError(), False), (1, True, 9, AttributeError(), False)],
    "a system that tells less": [(1, True, 9, None, False), (1, True, 9, None, False)],
}
LOOKS = {f"{name}, in the clear": (False, looks) for name, looks in IN_THE_CLEAR.items()} | {
    f"{name}, under TLS": (True, looks) for name, looks in UNDER_TLS.items()
}


@pytest.mark.parametrize(("secure", "looks"), LOOKS.values(), ids=LOOKS)
def test_a_client_stands_still_where_nothing_falls(secure: bool, looks: list[Look]) -> None:
    wire = Wire(secure=secure)
    untaken = Untaken(cast(asyncio.Transport, wire))
    for place, is_fixed, wire.waiting, wire.told, stands in looks:
        assert untaken.stands(place, is_fixed=is_fixed) is stands


def patient(wire: Wire) -> PatientTransport:
    return PatientTransport(cast(asyncio.Transport, wire), cast(asyncio.AbstractEventLoop, wire))


@pytest.mark.parametrize("told", [NONE, SILENT], ids=["all is taken", "the system does not tell"])
def test_a_connection_is_closed_at_once_where_nothing_is_known_to_wait(told: Told) -> None:
    wire = Wire(secure=True)
    wire.told = told
    patient(wire).close()
    assert wire.closed and not wire.calls


def test_a_connection_under_tls_is_closed_when_all_has_been_taken() -> None:
    wire = Wire(secure=True)
    transport = patient(wire)
    wire.told = read(4)
    assert not transport.is_closing()
    transport.close()
    transport.close()
    assert transport.is_closing() and not wire.closed
    for _ in range(12):
        (pause, look), wire.calls = wire.calls[0], wire.calls[1:]
        assert not wire.calls and pause <= 0.5
        look()
    assert not wire.closed
    wire.told = NONE
    wire.calls.pop()[1]()
    assert wire.closed and not wire.calls
