"""Whatever ends the relay, the guard or the engine: nothing of the engine is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from adapters.local import guard
from tests.support.engines import fake_command
from tests.support.processes import is_alive, until_gone, written_pids
from tests.support.servers import DEADLINE

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="waits for processes by pidfd"),
]
ROOT = Path(__file__).parents[2]


class Guarded(NamedTuple):
    process: asyncio.subprocess.Process
    life_line: socket.socket
    engine: int

    async def status(self) -> int:
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


@asynccontextmanager
async def guarded(*command: object, grace: float = 5.0) -> AsyncIterator[Guarded]:
    """The guard with a command, as `python -m` starts it."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "adapters.local.guard", "--grace", str(grace), "--", *map(str, command)),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=ROOT,
                start_new_session=True,
            )
        try:
            ours.setblocking(False)
            async with asyncio.timeout(DEADLINE):
                engine = int(await asyncio.get_running_loop().sock_recv(ours, 32))
            yield Guarded(process, ours, engine)
        finally:
            ours.close()
            async with asyncio.timeout(2 * DEADLINE):
                await process.wait()


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


async def open_gate(gate: Path) -> None:
    """Wait until a process reads from the FIFO."""
    async with asyncio.timeout(DEADLINE):
        await asyncio.to_thread(gate.write_bytes, b"x")


STATUSES = {
    "success": (shell("exit 0"), 0),
    "failure": (shell("exit 3"), 3),
    "a signal": (shell("kill -SEGV $$"), 128 + signal.SIGSEGV),
    "no such command": (("/no/such/command",), guard.NOT_FOUND),
    "a folder in place of a command": (("/",), guard.NOT_EXECUTABLE),
}


@pytest.mark.parametrize(("command", "status"), STATUSES.values(), ids=STATUSES)
async def test_it_ends_with_the_status_of_its_command(command: tuple[str, ...], status: int) -> None:
    async with guarded(*command) as it:
        assert await it.status() == status


async def tree(tmp_path: Path, *behaviour: object) -> tuple[tuple[str, ...], Path, Path]:
    """A command that has spread when its gate is read, the file of its offspring, and the gate."""
    gate, offspring = tmp_path / "gate", tmp_path / "offspring"
    os.mkfifo(gate)
    return (
        (*fake_command(), "--port", "0", "--offspring", str(offspring), "--gate", str(gate), *map(str, behaviour)),
        offspring,
        gate,
    )


ENDS = {
    "the relay is gone": lambda it: it.life_line.close(),
    "SIGTERM": lambda it: it.process.send_signal(signal.SIGTERM),
    "SIGHUP": lambda it: it.process.send_signal(signal.SIGHUP),
    "the engine has crashed": lambda it: os.kill(it.engine, signal.SIGKILL),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("stubborn", [False, True], ids=["obedient", "ignores SIGTERM"])
async def test_nothing_is_left_when(tmp_path: Path, end: object, stubborn: bool) -> None:
    command, offspring, gate = await tree(tmp_path, *(["--ignore-sigterm"] if stubborn else []))
    async with guarded(*command, grace=0.3 if stubborn else 60.0) as it:
        await open_gate(gate)
        pids = [it.engine, *written_pids(offspring)]
        assert len(pids) == 3 and all(map(is_alive, pids))
        end(it)  # type: ignore[operator]  # pytest's table is untyped
        await it.status()
        assert not any(map(is_alive, pids))


async def test_the_engine_ends_with_a_guard_that_was_killed(tmp_path: Path) -> None:
    async with guarded(*fake_command(), "--port", "0", "--hang-at-start") as it:
        it.process.kill()
        assert await it.status() == -signal.SIGKILL
        await until_gone(it.engine)


async def test_a_relay_that_is_gone_before_it_has_heard_of_the_engine(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "adapters.local.guard", "--", *shell("exec sleep 60")),
            stdin=theirs.fileno(),
            cwd=ROOT,
        )
    async with asyncio.timeout(DEADLINE):
        assert await process.wait() == 128 + signal.SIGTERM


async def test_a_relay_that_has_not_listened_is_gone_all_the_same() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "adapters.local.guard", "--", *shell("exec sleep 60")),
            stdin=theirs.fileno(),
            cwd=ROOT,
        )
    reported = asyncio.Event()
    asyncio.get_running_loop().add_reader(ours, reported.set)
    async with asyncio.timeout(DEADLINE):
        await reported.wait()
        asyncio.get_running_loop().remove_reader(ours)
        ours.close()  # with something unread, which is a reset
        assert await process.wait() == 128 + signal.SIGTERM


async def test_the_engine_is_the_leader_of_its_own_session_and_reads_nothing(tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    async with guarded(*shell(f"read line; echo $? >{told}; exec sleep 60")) as it:
        async with asyncio.timeout(DEADLINE):
            assert await asyncio.to_thread(told.read_text) == "1\n"  # the end of the file
        assert os.getsid(it.engine) == it.engine != it.process.pid
        it.process.terminate()
        assert await it.status() == 128 + signal.SIGTERM


def test_without_a_list_of_processes_there_is_no_offspring_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listdir", lambda folder: (_ for _ in ()).throw(FileNotFoundError(folder)))
    assert guard._offspring(1) == []
    assert guard._parent("no process") == 0


@pytest.mark.parametrize("arguments", [[], ["--"], ["--grace", "1"], ["true"]], ids=str)
def test_it_wants_a_command(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert guard.main(arguments) == 2
    assert capfd.readouterr().err.startswith("usage: ")


async def test_it_loads_nothing_of_the_relay() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-X", "importtime", guard.__file__),
        stderr=asyncio.subprocess.PIPE,
        env={},  # which may hold a coverage's own way into processes
    )
    _, loaded = await process.communicate()
    assert b"usage" in loaded
    assert not any(name in loaded for name in (b"asyncio", b"httpx", b"msgspec", b"subprocess", b"adapters"))
