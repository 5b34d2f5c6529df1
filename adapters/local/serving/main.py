"""The process of the relay's own engine: loads one model, serves it at a Unix socket.

    python -m adapters.local.serving.main SOCKET --model FOLDER [--name NAME] ...

Nobody is answered before everything is loaded: until then there is no socket. What is under way is told line by line
on standard output. Exit status 78 means that this can never work, 70 that the engine failed; in both cases the last
line says why.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from adapters.local.own import FAILED, REFUSED
from adapters.local.serving.app import create_app
from adapters.local.serving.folder import Refused
from adapters.local.serving.loading import load
from adapters.local.serving.options import read_options

_BACKLOG = 1024
_KEEP_ALIVE = 600  # seconds; the relay's pool is the one to let go
_GRACE = 5  # seconds for answers under way; the supervisor has waited for them, and kills after ten


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    path, options = read_options(arguments)
    try:
        check_place(path)
        loaded = load(options, tell)
    except Refused as exc:
        tell(str(exc))
        return REFUSED
    deaths: list[str] = []

    def on_death(reason: str) -> None:
        deaths.append(reason)
        server.should_exit = True

    server = make_server(create_app(loaded.model, on_death))
    try:
        loaded.start()
        with listening(path) as listener:
            tell(f"serving {', '.join(options.names)}")
            server.run(sockets=[listener])
    except Refused as exc:
        tell(str(exc))
        return REFUSED
    finally:
        loaded.close()
    if deaths:
        tell(deaths[0])
    return FAILED if deaths else 0


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Ends in order on SIGTERM and SIGINT."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal that stopped it once more after its orderly end, which is a success here.
        signal.signal(number, server.handle_exit)
    return server


def check_place(path: Path) -> None:
    """Raises Refused unless a socket may lie there: nothing else is ever removed for it."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Refused(f"{path.name}, where the socket is to lie, is another kind of file: move it away")


def listening(path: Path) -> socket.socket:
    """A socket that this user alone can connect to, in place of an older one. Raises Refused."""
    check_place(path)
    listener = socket.socket(socket.AF_UNIX)
    path.unlink(missing_ok=True)
    listener.bind(os.fspath(path))
    path.chmod(0o600)
    listener.listen(_BACKLOG)
    return listener


def tell(line: str) -> None:
    sys.stdout.write(line if line.endswith("\r") else f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
