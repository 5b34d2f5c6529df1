"""A slow client slows the upstream; what lies in between is bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.types import Send

from proxy.http_protocol import HttpProtocol
from proxy.http_timing import Patience
from tests.support.cloudflare import USAGE, Asked, frames
from tests.support.raw_http import chat_request, connected, dechunked
from tests.support.relay import MODEL, asking, calling, relaying
from tests.support.servers import DEADLINE
from tests.support.streams import chunks, text_of

pytestmark = pytest.mark.anyio

PIECE = "x" * 16_000
PIECES = 4_000
"""64 MB in all: several times what the kernel's buffers of two connections can hold."""
BOUND = 24 * 2**20
"""Bytes that may be under way while nobody reads; nearly all of them are the kernel's."""
QUIET = 0.4
"""Seconds without a step after which a sender counts as held back."""


class Flood:
    """An upstream that sends as fast as it may."""

    def __init__(self, pieces: int) -> None:
        self._pieces = pieces
        self.sent = 0
        self.step = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, asked: Asked, send: Send) -> None:
        frame = frames({"response": PIECE})
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(self._pieces):
            await send({"type": "http.response.body", "body": frame, "more_body": True})
            self.sent += len(frame)
            self.step.set()
            await asyncio.sleep(0)  # uvicorn's send returns without giving way while its buffer has room
        await send({"type": "http.response.body", "body": frames({"response": "", "usage": USAGE}, "[DONE]")})
        self.ended.set()

    async def held_back(self) -> None:
        """Wait until no more is taken from it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                self.step.clear()
                try:
                    async with asyncio.timeout(QUIET):
                        await self.step.wait()
                except TimeoutError:
                    return


async def test_a_client_that_does_not_read_stops_the_upstream(tmp_path: Path) -> None:
    flood = Flood(PIECES)
    async with relaying(tmp_path, keepalive=0.05) as rig:
        rig.cloudflare.script(MODEL, flood)
        async with connected(rig.relay.port, receive_buffer=2**14) as connection:
            await connection.send(chat_request(asking(stream=True)))
            await connection.head()
            await flood.held_back()
            assert 0 < flood.sent < BOUND and not flood.ended.is_set()

            async with calling(rig.url) as other:  # nobody else has to wait
                assert (await other.get("/v1/models")).status_code == 200

            before = flood.sent
            while flood.sent == before:
                await connection.until(b"\n\n")
        async with asyncio.timeout(DEADLINE):
            await rig.cloudflare.runs[0].gone.wait()
        assert flood.sent < BOUND + 2**20 and not flood.ended.is_set()


async def test_a_client_that_never_reads_is_let_go_and_so_is_the_upstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flood = Flood(PIECES)
    async with relaying(tmp_path) as rig:
        brief = {rig.relay.port: Patience(send=0.05)}  # the upstream, which is served by the same code, could wait
        at_port = property(lambda connection: brief.get(connection.server[1], Patience()))
        monkeypatch.setattr(HttpProtocol, "patience", at_port)
        rig.cloudflare.script(MODEL, flood)
        async with connected(rig.relay.port, receive_buffer=2**12) as connection:
            await connection.send(chat_request(asking(stream=True)))
            async with asyncio.timeout(DEADLINE):
                await rig.cloudflare.asked_to_run()
                await rig.cloudflare.runs[0].gone.wait()
        assert flood.sent < BOUND and not flood.ended.is_set()


async def test_a_client_that_reads_late_gets_everything(tmp_path: Path) -> None:
    flood = Flood(PIECES // 4)
    async with relaying(tmp_path, keepalive=0.05) as rig:
        rig.cloudflare.script(MODEL, flood)
        async with connected(rig.relay.port, receive_buffer=2**14) as connection:
            await connection.send(chat_request(asking(stream=True), connection="close"))
            await connection.head()
            await flood.held_back()
            body, ended = dechunked(await connection.to_end())
        assert ended and flood.ended.is_set()
        assert len(text_of(chunks(body))) == len(PIECE) * (PIECES // 4)
