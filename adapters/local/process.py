"""One life of an engine's process: its address, its surroundings, its log, its end."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from adapters.local import guard
from adapters.local.address import AddressTaken, EngineAddress, choose_address
from adapters.local.folders import FolderRefused, engine_lock, engine_socket, log_file, make_private, run_folder
from adapters.local.logfile import LIMIT, LogFile
from adapters.local.own import ENVIRONMENT, EXPLAINED
from adapters.local.spec import EngineSpec

SECRET_PREFIXES = ("CLOUDFLARE_", "RELAY_")
_OURS_ALONE = frozenset({"LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"})
_MARGIN = 5.0  # seconds after the grace for the guard to see the last of the engine off
_LAST_WORDS = 1.0  # seconds
_LOOKS_APART = 0.05  # seconds between two looks whether a predecessor is gone


class LaunchFailed(Exception):
    """The engine's process could not be started; the message says why."""


def engine_environment(surroundings: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The relay's own environment without the relay's secrets, and what the operator wants the engine to have."""
    kept = {
        name: value
        for name, value in surroundings.items()
        if not name.upper().startswith(SECRET_PREFIXES) and name not in _OURS_ALONE
    }
    return {"PYTHONUNBUFFERED": "1", **kept, **own}  # unbuffered, so that its progress can be told


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Starts engines. `surroundings` are the relay's environment variables, `grace` seconds from SIGTERM to SIGKILL."""

    state_dir: Path
    surroundings: Mapping[str, str]
    grace: float = guard.GRACE
    log_limit: int = LIMIT

    @asynccontextmanager
    async def __call__(self, spec: EngineSpec) -> AsyncIterator[EngineProcess]:
        """The engine's process, which is gone with all its offspring when the block is left. Raises LaunchFailed."""
        log = LogFile(log_file(self.state_dir, spec.name), self.log_limit)
        ours, theirs = socket.socketpair()
        with ours, closing(log):
            pipe = LogPipe(log)
            with theirs:
                address, child = await self._spawn(spec, theirs, pipe)
            process = EngineProcess(address, child, log, pipe if spec.own is not None else None)
            try:
                await process.take_pid(ours)
                yield process
            finally:
                ours.close()  # this is what tells the guard
                await process.end(self.grace + _MARGIN)
                await pipe.close()

    async def _spawn(
        self, spec: EngineSpec, life_line: socket.socket, pipe: LogPipe
    ) -> tuple[EngineAddress, asyncio.subprocess.Process]:
        folder = run_folder(self.state_dir)
        own = dict(ENVIRONMENT) if spec.own is not None else {}
        try:
            make_private(folder)
            async with pipe.opened() as output, self._place(engine_lock(folder, spec.name)) as lock:
                address, command = choose_address(spec, engine_socket(folder, spec.name))
                options = ("--grace", str(self.grace), "--lock", str(lock), "--")
                child = await asyncio.create_subprocess_exec(
                    # Isolated: nothing in the engine's folder or environment takes the place of the guard's modules.
                    *(sys.executable, "-I", guard.__file__, *options, *command),
                    stdin=life_line.fileno(),
                    stdout=output,
                    stderr=output,
                    env=engine_environment(self.surroundings, {**own, **spec.environment}),
                    cwd=spec.directory,
                    start_new_session=True,  # Ctrl-C is for the relay, which ends its engines in order
                    pass_fds=(lock,),
                )
        except (AddressTaken, FolderRefused) as exc:
            raise LaunchFailed(str(exc)) from exc
        except OSError as exc:
            where = f" in {spec.directory}" if spec.directory else ""
            raise LaunchFailed(f"its process cannot be started{where}: {exc.strerror}") from exc
        return address, child

    @asynccontextmanager
    async def _place(self, path: Path) -> AsyncIterator[int]:
        """A lock that says that the engine is there, for its guard to hold until nothing of it is left.

        A relay that was killed leaves guards which still see their engines off: what these have, port, socket or the
        memory of a GPU, is not to be had before. Raises LaunchFailed.
        """
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                async with asyncio.timeout(self.grace + _MARGIN):
                    while not _locked(lock):  # noqa: ASYNC110  # another process's, which tells nobody
                        await asyncio.sleep(_LOOKS_APART)
            except TimeoutError:
                raise LaunchFailed("what an earlier relay has started of it does not end") from None
            yield lock
        finally:
            os.close(lock)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class LogPipe(asyncio.Protocol):
    """Writes down what comes out of a pipe. Not one of asyncio's own to a child: `wait` could depend on its end."""

    def __init__(self, log: LogFile) -> None:
        self._log = log
        self._transport: asyncio.ReadTransport | None = None
        self._ended = asyncio.Event()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[int]:
        """The writing end, to be inherited within the block; the reading one stays open if nothing is raised there."""
        reading, writing = os.pipe()
        try:
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.connect_read_pipe(lambda: self, open(reading, "rb", buffering=0))  # noqa: ASYNC230  # no file to wait for
            try:
                yield writing
            except BaseException:
                self._transport.close()
                raise
        finally:
            os.close(writing)

    def data_received(self, data: bytes) -> None:
        self._log.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()

    async def drained(self) -> bool:
        """Whether all has been written, for nobody is left who could write more; waits a moment for that."""
        try:
            async with asyncio.timeout(_LAST_WORDS):
                await self._ended.wait()
        except TimeoutError:  # someone who got away may hold the other end
            return False
        return True

    async def close(self) -> None:
        """Once it is drained, or after a moment."""
        assert self._transport is not None
        if not await self.drained():
            self._transport.close()
            await self._ended.wait()


class EngineProcess:
    """A running engine behind its guard."""

    def __init__(
        self, address: EngineAddress, child: asyncio.subprocess.Process, log: LogFile, last_words: LogPipe | None
    ) -> None:
        """`last_words`: the engine is our own, and its last line may be its explanation."""
        self.address = address
        self.pid: int | None = None
        """The engine's own, not the guard's; known from when the guard has told it."""
        self._child = child
        self._log = log
        self._last_words = last_words

    @property
    def last_line(self) -> str:
        """What the engine wrote last."""
        return self._log.last_line

    async def wait(self) -> str:
        """How it ended, in words, once it has."""
        status = await self._child.wait()
        if self._last_words is not None and status in EXPLAINED:
            await self._last_words.drained()
            return self._log.last_line or describe(status)
        return describe(status)

    async def take_pid(self, life_line: socket.socket) -> None:
        """Read the guard's one line. Nothing comes from a guard that has failed, which `wait` tells."""
        life_line.setblocking(False)
        line = await asyncio.get_running_loop().sock_recv(life_line, 32)
        self.pid = int(line) if line else None

    async def end(self, patience: float) -> None:
        """Wait for the guard, which was told by its life-line, and do its work if it cannot."""
        try:
            async with asyncio.timeout(patience):
                status = await self._child.wait()
        except TimeoutError:
            self._child.kill()
            status = await self._child.wait()
        if status < 0 and self.pid is not None:  # the guard was killed: the kernel ends the engine, and we its group
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return


def describe(status: int) -> str:
    """An exit status of the guard, which is its engine's, as a phrase that follows the engine's name."""
    if status == guard.NOT_FOUND:
        return "its command was not found (status 127)"
    if status == guard.NOT_EXECUTABLE:
        return "its command cannot be executed (status 126)"
    number = status - 128 if status > 128 else -status
    if number > 0 and number in signal.valid_signals():
        why = ", as the system does where memory runs out" if number == signal.SIGKILL else ""
        return f"it was ended by {signal.Signals(number).name}{why}"
    return f"it ended with status {status}"
