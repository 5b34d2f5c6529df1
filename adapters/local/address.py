"""Where an engine listens, and how its command is told."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import msgspec

from adapters.local.spec import EngineSpec

_LOOPBACK = "127.0.0.1"


class EngineAddress(msgspec.Struct, frozen=True):
    """`url` is a base URL that ends in `/v1`; with `uds`, it is reached through that Unix socket."""

    url: str
    uds: str | None = None


class AddressTaken(Exception):
    """Somebody else listens where the engine shall."""


def choose_address(spec: EngineSpec, uds: Path) -> tuple[EngineAddress, tuple[str, ...]]:
    """An address for the next start, and the command that makes the engine listen there.

    `uds` is used where the command has `{socket}`. A port that the operator did not name is one that is free now.
    Raises AddressTaken for one that is not.
    """
    if any("{socket}" in word for word in spec.command):
        uds.unlink(missing_ok=True)  # an engine that was killed has left it
        return EngineAddress("http://localhost/v1", os.fspath(uds)), _filled(spec.command, "{socket}", os.fspath(uds))
    port = _claim(spec.port or 0)
    return EngineAddress(f"http://{_LOOPBACK}:{port}/v1"), _filled(spec.command, "{port}", str(port))


def _filled(command: tuple[str, ...], place: str, value: str) -> tuple[str, ...]:
    # Not `format`: a command may hold braces of its own, JSON for one.
    return tuple(word.replace(place, value) for word in command)


def _claim(port: int) -> int:
    """`port`, or for 0 any, if nobody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was in use a moment ago is free
        try:
            probe.bind((_LOOPBACK, port))
        except OSError as exc:
            reason = "another process listens there" if exc.errno == errno.EADDRINUSE else exc.strerror
            raise AddressTaken(f"port {port} cannot be used: {reason}") from exc
        taken: int = probe.getsockname()[1]
        return taken
