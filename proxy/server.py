"""Runs the relay under uvicorn: one process or several, with a start that tells and an end that drains."""

from __future__ import annotations

import asyncio
import errno
import logging
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.supervisors import Multiprocess

from adapters.local.host import SupervisorRefused, supervised
from adapters.local.look import look
from proxy import logs
from proxy.app import create_app
from proxy.commands.options import read_settings, surroundings
from proxy.commands.start_text import local_url, relay_command, start_text
from proxy.commands.tokens import ensure_token
from proxy.drain import Drain
from proxy.metrics import keep_figures_in_memory, shared_figures
from proxy.settings import Settings
from proxy.sources import SourceOptions

log = logging.getLogger("relay")

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BACKLOG = 2048
_KEEP_ALIVE = 75  # seconds; clients keep idle connections for a minute or so, and must not be the slower to let go
_GRACE = 5.0  # seconds after the drain's deadline for the last errors to go out
_START_PATIENCE = 30.0


def run(settings: Settings, options: SourceOptions) -> int:
    """Serve until told to stop; the exit status. Workers read the same settings again from `options`."""
    logs.configure(settings.log_level, settings.log_format)
    keep_figures_in_memory()
    tokens, created = ensure_token(settings)
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as exc:
        advice = "; is a relay running already? --port takes another" if exc.errno == errno.EADDRINUSE else ""
        reason = exc.strerror or exc
        click.echo(f"error: cannot listen on {settings.host}:{settings.port}: {reason}{advice}", err=True)
        return 1
    port = listener.getsockname()[1]
    text = start_text(
        settings,
        tokens[0],
        created,
        settings.host,
        port,
        command=relay_command(sys.argv[0], Path.cwd()),
        terminal=sys.stdout.isatty(),
    )
    hop = secrets.token_hex(8)
    with ExitStack() as stack:
        stack.enter_context(listener)
        try:
            stack.enter_context(_engines(settings))  # before the first worker, and until the last answer is out
        except SupervisorRefused as exc:
            click.echo(f"error: {exc}", err=True)
            return 1
        if settings.workers == 1:
            server = _Server(_config(settings, _app(settings, tokens, hop)), lambda: click.echo(text))
            for number in _STOP_SIGNALS:
                # uvicorn raises the signal that stopped it once more after its orderly end, which is a success here.
                signal.signal(number, server.handle_exit)
            server.run(sockets=[listener])
            return 0 if server.started else 1
        create_app(settings, tokens)  # what a worker could not start with is told here, and once
        click.echo(text)
        config = _config(settings, _Worker(options, tokens, hop))
        config.factory = True
        _Workers(config, [listener], stack.enter_context(shared_figures())).run()
    return 0


@contextmanager
def background(settings: Settings) -> Iterator[str]:
    """A relay in a thread of this process, on a free loopback port; gives its base URL.

    It logs what is wrong with the relay itself, unless the settings name a level: all else its caller hears as an
    answer. Raises RuntimeError if it does not start.
    """
    level = "error" if settings.origins["log_level"] == "default" else settings.log_level
    keep_figures_in_memory()
    tokens, _ = ensure_token(settings)
    ready = threading.Event()
    with logs.configured(level, settings.log_format), _listen("127.0.0.1", 0) as listener, _engines(settings):
        server = _Server(_config(settings, _app(settings, tokens, secrets.token_hex(8))), ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            if not ready.wait(_START_PATIENCE):
                raise RuntimeError("the relay did not start")
            yield local_url(settings, "127.0.0.1", listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


class _Server(uvicorn.Server):
    """uvicorn's server; `announce` is called once it serves."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._announce()


class _Workers(Multiprocess):
    """uvicorn's supervisor of several processes, which lets go of the port when they do.

    With its copy of the socket open, newcomers would wait in the backlog for workers that take no more, and be
    reset at the end; closed, they are refused and can go elsewhere. `on_end` is told the id of each that is gone.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], on_end: Callable[[int], None]) -> None:
        super().__init__(config, sockets=sockets)
        self._on_end = on_end
        self._ids: set[int] = set()

    def keep_subprocess_alive(self) -> None:
        before = self._ids | self._running()
        super().keep_subprocess_alive()
        self._ids = self._running()
        for gone in before - self._ids:
            self._on_end(gone)

    def _running(self) -> set[int]:
        return {process.pid for process in self.processes if process.pid is not None}

    def terminate_all(self) -> None:
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


class _Draining:
    """The app, told by the signals that stop uvicorn that its time is limited.

    uvicorn waits for what is running and then cancels it; only before that can a stream still say what
    became of it. In a worker process the server is not ours to subclass, but the signals are.
    """

    def __init__(self, app: ASGIApp, drain: Drain, deadline: float) -> None:
        self._app = app
        self._drain = drain
        self._deadline = deadline
        self._interrupts = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in _STOP_SIGNALS:
                self._chain(number, loop)
        await self._app(scope, receive, send)

    def _chain(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        previous = signal.getsignal(number)

        def handle(received: int, frame: FrameType | None) -> None:
            self._interrupts += received == signal.SIGINT
            if self._interrupts == 2:
                # uvicorn would cut every stream on the spot; they can still say what became of them.
                loop.call_soon_threadsafe(self._drain.expire)
                return
            loop.call_soon_threadsafe(self._stop, loop)
            if callable(previous):
                previous(received, frame)

        signal.signal(number, handle)

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._drain.started:
            return
        if self._drain.running:
            log.info(
                "stopping: %d answers under way have %g seconds; Ctrl-C again ends them now",
                self._drain.running,
                self._deadline,
            )
        self._drain.start()
        loop.call_later(self._deadline, self._drain.expire)


@dataclass(frozen=True)
class _Worker:
    """Makes the app of a worker process, which reads the same settings again from the same sources."""

    options: SourceOptions
    tokens: tuple[str, ...]
    hop: str

    def __call__(self) -> ASGIApp:
        _end_with_parent()
        settings = read_settings(self.options)
        logs.configure(settings.log_level, settings.log_format)
        return _app(settings, self.tokens, self.hop)

    def __repr__(self) -> str:
        return "_Worker(***)"


def _end_with_parent() -> None:
    """A worker whose parent was killed is to stop in order: it would hold the port for ever, and has no engines."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # it is uvicorn's, which spawned us

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _app(settings: Settings, tokens: tuple[str, ...], hop: str) -> ASGIApp:
    drain = Drain()
    return _Draining(create_app(settings, tokens, drain=drain, hop=hop), drain, settings.shutdown_timeout)


def _engines(settings: Settings) -> AbstractContextManager[None]:
    """The local engines, which exist once however many workers there are."""
    return supervised(
        settings.engines,
        probe=look,
        state_dir=settings.state_dir,
        surroundings=surroundings(),
        memory_budget=settings.engines_memory,
    )


def _config(settings: Settings, app: Callable[..., Any]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http="proxy.http_protocol:HttpProtocol",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        root_path=settings.root_path,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.shutdown_timeout + _GRACE),
    )


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a busy port is told before anything else happens. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio switches Nagle's delay off only where it is.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.set_inheritable(True)
    except OSError:
        listener.close()
        raise
    return listener
