"""Clients that take nothing of an answer: on sockets of both event loops, in the clear and under TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send

from proxy.http_flow import Untaken
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


# ---------------------------------------------------------------- what is known of a connection


class Wire:
    """A transport and its socket, of which a test says what waits, or what has been acknowledged."""

    def __init__(self, *, secure: bool = False) -> None:
        self._secure = secure
        self.waiting = 0
        self.acknowledged: int | Exception | None = 0

    def get_extra_info(self, name: str) -> object:
        return {"sslcontext": object() if self._secure else None, "socket": self}[name]

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if isinstance(self.acknowledged, Exception):
            raise self.acknowledged
        return b"" if self.acknowledged is None else struct.pack("=120xQ", self.acknowledged)


HELD = {"is_held": True, "is_whole": False}
WHOLE = {"is_held": False, "is_whole": True}
ON_ITS_WAY = {"is_held": False, "is_whole": False}
# Whether TLS is between; then for each look: the place, how it stands, what waits or was acknowledged, and the finding.
LOOKS: dict[str, tuple[bool, list[tuple[int, dict[str, bool], Any, bool]]]] = {
    "held": (False, [(1, HELD, 9, False), (1, HELD, 9, True), (1, HELD, 9, True)]),
    "held, and taken from": (False, [(1, HELD, 9, False), (1, HELD, 8, False), (1, HELD, 8, True)]),
    "held, let go and held again": (False, [(1, HELD, 9, False), (2, HELD, 9, False), (2, HELD, 9, True)]),
    "held, with a little more": (False, [(1, HELD, 9, False), (1, HELD, 10, True)]),
    "a whole answer": (False, [(1, WHOLE, 9, False), (1, WHOLE, 9, True)]),
    "an answer on its way": (False, [(1, ON_ITS_WAY, 9, False), (1, ON_ITS_WAY, 9, False)]),
    "an answer that has become whole": (False, [(1, ON_ITS_WAY, 9, False), (1, WHOLE, 9, False), (1, WHOLE, 9, True)]),
    "nothing waits": (False, [(1, WHOLE, 0, False), (1, WHOLE, 0, False)]),
    "nothing waited": (False, [(1, WHOLE, 0, False), (1, WHOLE, 9, False), (1, WHOLE, 9, True)]),
    "held under TLS": (True, [(1, HELD, 9, False), (1, HELD, 9, True)]),
    "held under TLS from the first byte": (True, [(1, HELD, 0, False), (1, HELD, 0, True)]),
    "held under TLS, and taken from": (True, [(1, HELD, 9, False), (1, HELD, 10, False), (1, HELD, 10, True)]),
    "a whole answer under TLS": (True, [(1, WHOLE, 9, False), (1, WHOLE, 9, False)]),
    "a system that does not tell": (True, [(1, HELD, OSError(), False), (1, HELD, OSError(), False)]),
    "a system that has no such word": (True, [(1, HELD, AttributeError(), False), (1, HELD, AttributeError(), False)]),
    "a system that tells less": (True, [(1, HELD, None, False), (1, HELD, None, False)]),
}


@pytest.mark.parametrize(("secure", "looks"), LOOKS.values(), ids=LOOKS)
def test_a_client_stands_still_where_nothing_falls(
    secure: bool, looks: list[tuple[int, dict[str, bool], Any, bool]]
) -> None:
    wire = Wire(secure=secure)
    untaken = Untaken(cast(asyncio.Transport, wire))
    for place, how, amount, stands in looks:
        if secure:
            wire.acknowledged = amount
        else:
            wire.waiting = amount
        assert untaken.stands(place, **how) is stands
