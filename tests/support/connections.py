"""One connection to an app, served by the relay's own HTTP protocol on a pair of connected sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from proxy.http_protocol import HttpProtocol

_TURNS = 3
"""Turns of the event loop in which a piece that was sent has been read."""


@asynccontextmanager
async def connected(
    app: ASGIApp, *, keep_alive: int = 75
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The client's end, in whatever event loop the test has; `keep_alive` is in seconds.

    What is sent is there at once, so that time may be simulated: no network is between them.
    """
    config = uvicorn.Config(app, ws="none", log_config=None, access_log=False, timeout_keep_alive=keep_alive)
    config.load()
    state = ServerState()
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(
        lambda: HttpProtocol(config=config, server_state=state, app_state={}), theirs
    )
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        yield reader, writer
    finally:
        writer.close()


async def said_to(app: ASGIApp, pieces: Iterable[bytes]) -> bytes:
    """All that is answered until the connection ends; each piece is read on its own."""
    async with connected(app) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        return await reader.read()
