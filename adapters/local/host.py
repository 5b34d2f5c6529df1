"""The supervisor in a thread of its own, beside whatever else the process does."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from adapters.local.condition import Probe
from adapters.local.control_server import listening
from adapters.local.folders import FolderRefused, control_socket, make_private
from adapters.local.pace import Pace
from adapters.local.process import Launcher
from adapters.local.spec import EngineSpec
from adapters.local.supervisor import Supervisor

log = logging.getLogger("relay.engines")

_BACKLOG = 128


class SupervisorRefused(RuntimeError):
    """The supervisor cannot run here; the message says why."""


@contextmanager
def supervised(
    specs: Sequence[EngineSpec],
    *,
    probe: Probe,
    state_dir: Path,
    surroundings: Mapping[str, str],
    memory_budget: int | None = None,
    pace: Pace | None = None,
) -> Iterator[None]:
    """Local engines can be had through `control_socket(state_dir)` within the block, and are gone when it is left.

    It knows what is drained of remote ones, too; without any engine nothing is started. `surroundings` are the
    environment variables that engines inherit, less the relay's own. Raises SupervisorRefused; where all engines are
    remote that is a warning in the log, for they can be used all the same.
    """
    if not specs:
        yield
        return
    launch = Launcher(state_dir=state_dir, surroundings=surroundings)
    supervisor = Supervisor(specs, launch=launch, probe=probe, memory_budget=memory_budget, pace=pace)
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(_control(control_socket(state_dir)))
        except SupervisorRefused as exc:
            if any(spec.is_local for spec in specs):
                raise
            log.warning("engines cannot be drained here: %s", exc)
            yield
            return
        host = _Host(supervisor, listener)
        host.start()
        try:
            yield
        finally:
            host.stop()


class _Host:
    def __init__(self, supervisor: Supervisor, listener: socket.socket) -> None:
        self._supervisor = supervisor
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        # No daemon for want of care: a relay that ends without `stop` must not wait, and its engines end by themselves.
        self._thread = threading.Thread(target=self._main, name="engines", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._stop.set)
        except RuntimeError:  # the loop is closed: the supervisor has failed, which its log tells
            pass
        self._thread.join()

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except Exception:
            log.exception("the supervisor of local engines has failed; restart the relay to have them back")

    async def _serve(self) -> None:
        async with self._supervisor.running(), listening(self._supervisor, self._listener):
            await self._stop.wait()


@contextmanager
def _control(path: Path) -> Iterator[socket.socket]:
    """The control socket, ours alone. Raises SupervisorRefused."""
    with _alone(path.parent), _listener(path) as listener:
        yield listener


@contextmanager
def _listener(path: Path) -> Iterator[socket.socket]:
    """Connections wait in it until the thread has begun."""
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            path.unlink(missing_ok=True)  # of a relay that was killed
            listener.bind(os.fspath(path))
            path.chmod(0o600)
            listener.listen(_BACKLOG)
        except OSError as exc:
            raise SupervisorRefused(f"{path}: cannot listen here ({exc.strerror})") from exc
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raises SupervisorRefused where another process holds the folder, or nobody can."""
    try:
        make_private(folder)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FolderRefused as exc:
        raise SupervisorRefused(str(exc)) from exc
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            problem = "another relay runs the engines of this state directory; --state-dir gives this one its own"
            raise SupervisorRefused(f"{folder}: {problem}") from exc
        yield
    finally:
        os.close(lock)
