"""Real servers on free loopback ports, in the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

DEADLINE = 30.0
"""Seconds after which a wait in a test has failed: many times what it takes, for machines that are slow or stall."""

_TURNS = 10
"""Turns of the event loop after which a connection that was closed is gone."""


class Served:
    """A running server; `stop` begins the orderly end that a signal would begin."""

    def __init__(self, server: _Server, port: int) -> None:
        self._server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self._server.stop()

    async def kill(self) -> None:
        """As if the process had died: nobody listens any more, and every connection is reset."""
        loop = asyncio.get_running_loop()
        for server in self._server.servers:
            for listener in server.sockets:
                loop.remove_reader(listener)  # asyncio trips over a server that is closed while it accepts
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for server in self._server.servers:
            server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Reset every connection."""
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether it shall stop, which adds up over many tests.
        await self.on_tick(0)
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # As uvicorn's own, but for a pause of 0.1 s at every end.
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                await self._wait_tasks_to_complete()
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()
        await self.lifespan.shutdown()


@asynccontextmanager
async def serving(app: ASGIApp, **options: Any) -> AsyncIterator[Served]:
    """`app` under uvicorn until the block is left; what is running then is cancelled after a moment."""
    # The protocol is named because asyncio switches Nagle's delay off only where it is.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(
            app,
            http="proxy.http_protocol:HttpProtocol",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=75,  # as the relay has it: above what clients keep, or both may close at once
            **options,
        )
        server = _Server(config)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(server._serve([listener]))
            try:
                async with asyncio.timeout(DEADLINE):
                    await server.ready.wait()
                yield Served(server, listener.getsockname()[1])
            finally:
                server.stop()
                await asyncio.wait([task])
