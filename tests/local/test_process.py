"""One life of an engine's process."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.local import guard
from adapters.local.address import EngineAddress
from adapters.local.condition import Condition
from adapters.local.folders import engine_lock, engine_socket, log_file, run_folder
from adapters.local.look import look
from adapters.local.process import EngineProcess, Launcher, LaunchFailed, describe, engine_environment
from adapters.local.spec import EngineSpec
from tests.support.engines import fake
from tests.support.processes import environment_of, is_alive, parent_of, until_gone, written_pids, zombies
from tests.support.servers import DEADLINE

KILLED = "it was ended by SIGKILL, as the system does where memory runs out"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="waits for processes by pidfd"),
]


def launcher(state_dir: Path, surroundings: Mapping[str, str] | None = None, **options: Any) -> Launcher:
    return Launcher(state_dir=state_dir, surroundings={"PATH": os.defpath} | dict(surroundings or {}), **options)


async def until_ready(spec: EngineSpec, process: EngineProcess) -> None:
    async with asyncio.timeout(DEADLINE):
        while await look(spec, process.address) is not Condition.READY:
            assert is_alive(process.pid or 0), process.last_line
            await asyncio.sleep(0)


def guard_of(process: EngineProcess) -> int:
    return parent_of(process.pid or 0)


async def asked(address: EngineAddress, path: str) -> dict[str, Any]:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=address.uds)) as client:
        answer: dict[str, Any] = (await client.get(address.url.removesuffix("/v1") + path)).json()
        return answer


@pytest.mark.parametrize("place", ["--socket", "--port"])
async def test_it_answers_where_it_was_told_to_listen_and_is_gone_afterwards(tmp_path: Path, place: str) -> None:
    spec = fake(place=place, directory=tmp_path)
    async with launcher(tmp_path)(spec) as process:
        await until_ready(spec, process)
        assert await asked(process.address, "/process") == {"pid": process.pid, "directory": str(tmp_path)}
    assert process.pid is not None and not is_alive(process.pid)
    assert await process.wait() == "it was ended by SIGTERM"
    assert zombies() == []
    assert await look(spec, process.address) is Condition.GONE


async def test_a_port_that_the_operator_names_is_kept(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spec = fake(place="--port", port=port)
    for _ in range(2):  # also when it was in use a moment ago
        async with launcher(tmp_path)(spec) as process:
            assert process.address == EngineAddress(f"http://127.0.0.1:{port}/v1")
            await until_ready(spec, process)


async def test_a_port_of_another_process_is_not_taken_for_the_engine(tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        spec = fake(place="--port", port=stranger.getsockname()[1])
        with pytest.raises(LaunchFailed, match=f"port {spec.port} cannot be used: another process listens there"):
            async with launcher(tmp_path)(spec):
                pytest.fail("it must not start")


async def test_the_relays_secrets_are_not_passed_on(tmp_path: Path) -> None:
    spec = fake(environment={"OWN": "1", "RELAY_NAMED": "by the operator", "HOME": "/own"})
    surroundings = {
        "CLOUDFLARE_API_TOKEN": "secret",
        "CLOUDFLARE_ACCOUNT_ID": "secret",
        "RELAY_TOKENS": "secret",
        "relay_tokens": "secret",
        "NOTIFY_SOCKET": "the service manager's",
        "HOME": "/home",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    async with launcher(tmp_path, surroundings)(spec) as process:
        await until_ready(spec, process)
        seen = await asked(process.address, "/environment")
        assert b"secret" not in environment_of(guard_of(process))
    assert "secret" not in seen.values() and "NOTIFY_SOCKET" not in seen
    assert {
        "OWN": "1",
        "RELAY_NAMED": "by the operator",
        "HOME": "/own",
        "CUDA_VISIBLE_DEVICES": "0",
    }.items() <= seen.items()


def test_output_of_python_engines_comes_at_once_unless_told_otherwise() -> None:
    assert engine_environment({}, {}) == {"PYTHONUNBUFFERED": "1"}
    assert engine_environment({"PYTHONUNBUFFERED": ""}, {}) == {"PYTHONUNBUFFERED": ""}


async def test_what_it_writes_is_kept_apart_and_private(tmp_path: Path) -> None:
    spec = fake("--say", "\x1b[1mLoading\x1b[0m\r 10%\r 20%")
    async with launcher(tmp_path)(spec) as process:
        await until_ready(spec, process)
    log = log_file(tmp_path, "fake")
    assert b"Loading" in log.read_bytes() and b"listening" in log.read_bytes()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600 and stat.S_IMODE(log.parent.stat().st_mode) == 0o700


async def test_an_endless_log_stays_bounded_and_does_not_stall_the_engine(tmp_path: Path) -> None:
    spec, limit = fake("--log-endlessly"), 65536
    log = log_file(tmp_path, "fake")
    older = log.with_name("log.1")
    async with launcher(tmp_path, log_limit=limit)(spec) as process:
        await until_ready(spec, process)
        async with asyncio.timeout(DEADLINE):
            while not older.exists():
                await look(spec, process.address)
        first = older.stat().st_ino
        async with asyncio.timeout(DEADLINE):
            while older.stat().st_ino == first:
                await look(spec, process.address)
        assert log.stat().st_size <= limit and older.stat().st_size <= limit
    assert {file.name for file in log.parent.iterdir()} == {"log", "log.1"}


async def test_sigterm_that_is_ignored_is_followed_by_sigkill(tmp_path: Path) -> None:
    spec = fake("--ignore-sigterm")
    async with launcher(tmp_path, grace=0.2)(spec) as process:
        await until_ready(spec, process)
    assert await process.wait() == KILLED
    assert not is_alive(process.pid or 0)


async def test_its_offspring_ends_with_it(tmp_path: Path) -> None:
    offspring = tmp_path / "offspring"
    spec = fake("--offspring", offspring)
    async with launcher(tmp_path)(spec) as process:
        await until_ready(spec, process)
        pids = written_pids(offspring)
        assert len(pids) == 2 and all(map(is_alive, pids))
    assert not any(map(is_alive, pids))


async def test_a_crash_is_told_in_words(tmp_path: Path) -> None:
    spec = fake("--crash-at-start", 3, "--say", "out of memory")
    async with launcher(tmp_path)(spec) as process:
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == "it ended with status 3"
    assert process.last_line == "out of memory"


async def test_a_guard_that_is_killed_takes_the_engines_group_with_it(tmp_path: Path) -> None:
    offspring = tmp_path / "offspring"
    spec = fake("--offspring", offspring)
    async with launcher(tmp_path)(spec) as process:
        await until_ready(spec, process)
        child, daemon = written_pids(offspring)
        if os.getsid(child) != process.pid:
            child, daemon = daemon, child
        parent = guard_of(process)
        os.kill(parent, signal.SIGKILL)
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == KILLED
    await until_gone(process.pid or 0)
    await until_gone(child)
    os.kill(daemon, signal.SIGKILL)  # documented: only a guard finds what has left the group
    await until_gone(daemon)


async def test_a_guard_that_does_not_end_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.local.process._MARGIN", 0.0)
    spec = fake("--ignore-sigterm")
    async with launcher(tmp_path, grace=0.2)(spec) as process:
        await until_ready(spec, process)
        parent = guard_of(process)
        os.kill(parent, signal.SIGSTOP)
    await until_gone(parent)
    await until_gone(process.pid or 0)


def is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def open_files(process: int) -> set[Path]:
    return {entry.resolve() for entry in Path(f"/proc/{process}/fd").iterdir()}


async def test_its_guard_holds_its_place_until_nothing_of_it_is_left(tmp_path: Path) -> None:
    lock = engine_lock(run_folder(tmp_path), "fake")
    spec = fake()
    async with launcher(tmp_path)(spec) as process:
        await until_ready(spec, process)
        assert not is_free(lock)
        assert lock not in open_files(process.pid or 0), "what the engine starts could hold it for ever"
    assert is_free(lock)


async def test_a_start_waits_until_what_an_earlier_relay_has_left_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = engine_lock(run_folder(tmp_path), "fake")
    lock.parent.mkdir()
    socket_of_old = engine_socket(lock.parent, "fake")
    socket_of_old.write_text("")
    with lock.open("w") as earlier:
        fcntl.flock(earlier, fcntl.LOCK_EX)
        monkeypatch.setattr("adapters.local.process._MARGIN", 0.0)
        with pytest.raises(LaunchFailed, match="what an earlier relay has started of it does not end"):
            async with launcher(tmp_path, grace=0.1)(fake()):
                pytest.fail("it must not start")
        assert socket_of_old.exists(), "the earlier one still listens there"
    async with launcher(tmp_path)(fake()) as process:
        await until_ready(fake(), process)


async def test_a_guard_that_cannot_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "__file__", str(tmp_path / "none.py"))
    async with launcher(tmp_path)(fake()) as process:
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == "it ended with status 2"
    assert process.pid is None and "No such file" in process.last_line


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match=r"its process cannot be started in .*/nowhere: No such file"):
        async with launcher(tmp_path)(fake(directory=tmp_path / "nowhere")):
            pytest.fail("it must not start")


async def test_a_run_folder_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(LaunchFailed, match="run: cannot be used"):
        async with launcher(tmp_path)(fake()):
            pytest.fail("it must not start")


STATUSES = {
    0: "it ended with status 0",
    guard.NOT_FOUND: "its command was not found (status 127)",
    guard.NOT_EXECUTABLE: "its command cannot be executed (status 126)",
    128 + 9: KILLED,
    -15: "it was ended by SIGTERM",
    255: "it ended with status 255",
}


@pytest.mark.parametrize(("status", "text"), STATUSES.items())
def test_an_exit_status_in_words(status: int, text: str) -> None:
    assert describe(status) == text
