"""A client that leaves takes its upstream call with it, whatever the call was doing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.app import create_app
from proxy.handover import Retries
from tests.support.cloudflare import HELLO, FakeCloudflare, Script, Step, failure, frames, held, hello, stream
from tests.support.raw_http import Connection, chat_request, connected, request
from tests.support.relay import MODEL, asking, settings_for
from tests.support.servers import DEADLINE, Served, serving
from tests.support.simulated_time import simulated

SOON = 1.0
"""Seconds, simulated, within which the upstream call of a client that left has to be over."""


class Watched:
    """The relay, telling when it has begun with a request and when it has done with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.begun = asyncio.Event()
        self.done = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        self.begun.set()
        try:
            await self._app(scope, receive, send)
        finally:
            self.done.set()


@asynccontextmanager
async def watched(
    state_dir: Path, retries: Retries | None = None, **flags: object
) -> AsyncIterator[tuple[Watched, Served, FakeCloudflare]]:
    cloudflare = FakeCloudflare()
    async with serving(cloudflare) as upstream:
        settings = settings_for(state_dir, upstream.url, **flags)
        app = Watched(create_app(settings, settings.tokens, retries=retries or Retries(2, 0.0)))
        async with serving(app) as relay:
            yield app, relay, cloudflare


async def called(cloudflare: FakeCloudflare) -> None:
    async with asyncio.timeout(DEADLINE):
        await cloudflare.asked_to_run()


PIECE = frames({"response": "Hello"})
WAITING: dict[str, tuple[bool, Callable[[asyncio.Event], Script], bytes]] = {
    "a whole answer has not begun": (False, lambda never: held(never, HELLO), b""),
    "a whole answer has begun": (False, lambda never: stream(b'{"result"', Step(b":", never)), b""),
    "a stream's headers have not come": (True, lambda never: held(never, hello), b""),
    "a stream's first frame has not come": (True, lambda never: stream(b": hi\n\n", Step(PIECE, never)), b""),
    "a stream is in its middle": (True, lambda never: stream(PIECE, Step(PIECE, never)), b"Hello"),
    "a stream's usage has not come": (
        True,
        lambda never: stream(frames({"response": "Hello STOP"}), Step(PIECE, never)),
        b"Hello",
    ),
}


@pytest.mark.parametrize("leave", [Connection.reset, None], ids=["reset", "close"])
@pytest.mark.parametrize(("streamed", "script", "seen"), WAITING.values(), ids=WAITING)
@simulated
async def test_the_upstream_call_is_cancelled_within_a_second(
    tmp_path: Path,
    streamed: bool,
    script: Callable[[asyncio.Event], Script],
    seen: bytes,
    leave: Callable[[Connection], None] | None,
) -> None:
    async with watched(tmp_path) as (app, relay, cloudflare):
        cloudflare.script(MODEL, script(asyncio.Event()))
        async with connected(relay.port) as connection:
            await connection.send(chat_request(asking(stream=streamed, stop="STOP")))
            await called(cloudflare)
            if seen:
                await connection.until(seen)
            if leave is not None:
                leave(connection)
        async with asyncio.timeout(SOON):
            await cloudflare.runs[0].gone.wait()
            await app.done.wait()
        assert len(cloudflare.runs) == 1


@simulated
async def test_a_client_that_leaves_after_a_keep_alive_is_noticed(tmp_path: Path) -> None:
    async with watched(tmp_path, keepalive=0.02) as (app, relay, cloudflare):
        cloudflare.script(MODEL, held(asyncio.Event(), hello))
        async with connected(relay.port) as connection:
            await connection.send(chat_request(asking(stream=True)))
            await connection.until(b'"delta":{}')
        async with asyncio.timeout(SOON):
            await cloudflare.runs[0].gone.wait()
            await app.done.wait()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@simulated
async def test_a_client_that_leaves_during_a_pause_is_not_tried_for_again(tmp_path: Path, streamed: bool) -> None:
    async with watched(tmp_path, Retries(2, 4.0)) as (app, relay, cloudflare):
        cloudflare.script(MODEL, failure(502, 1, "AiError: it failed"))
        async with connected(relay.port) as connection:
            await connection.send(chat_request(asking(stream=streamed)))
            await called(cloudflare)
            async with asyncio.timeout(DEADLINE):
                await cloudflare.runs[0].gone.wait()
            assert not app.done.is_set()
        async with asyncio.timeout(SOON):
            await app.done.wait()
        assert len(cloudflare.runs) == 1


@simulated
async def test_every_call_of_one_request_is_cancelled(tmp_path: Path) -> None:
    async with watched(tmp_path) as (app, relay, cloudflare):
        cloudflare.script(MODEL, held(asyncio.Event(), HELLO))
        async with connected(relay.port) as connection:
            await connection.send(chat_request(asking(n=3)))
            async with asyncio.timeout(DEADLINE):
                while len(cloudflare.runs) < 3:
                    cloudflare.arrived.clear()
                    await cloudflare.arrived.wait()
        async with asyncio.timeout(SOON):
            for asked in cloudflare.runs:
                await asked.gone.wait()
            await app.done.wait()


@simulated
async def test_a_client_that_leaves_before_its_request_is_whole_causes_no_call(tmp_path: Path) -> None:
    async with watched(tmp_path) as (app, relay, cloudflare):
        cloudflare.script(MODEL, hello)
        async with connected(relay.port) as connection:
            whole = request("POST", "/v1/chat/completions", b'{"model": "' + MODEL.encode() + b'"}')
            await connection.send(whole[:-5])
            async with asyncio.timeout(DEADLINE):
                await app.begun.wait()
            assert not app.done.is_set()
        async with asyncio.timeout(SOON):
            await app.done.wait()
        assert cloudflare.runs == []
