"""The small parts of the supervisor: addresses, folders, logs, looks, back-off."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.local.address import EngineAddress, choose_address
from adapters.local.backoff import Backoff
from adapters.local.condition import Condition
from adapters.local.folders import FolderRefused, control_socket, engine_socket, log_file, make_private, run_folder
from adapters.local.leased import loading
from adapters.local.logfile import LogFile, clean_line
from adapters.local.look import look
from adapters.local.spec import EngineSpec
from tests.support.servers import DEADLINE

# ---------------------------------------------------------------- addresses


def test_a_command_is_told_its_socket(tmp_path: Path) -> None:
    left_over = tmp_path / "x.sock"
    left_over.touch()
    spec = EngineSpec(name="x", command=("serve", "--host={socket}", '{"a": "{socket}"}'))
    address, command = choose_address(spec, left_over)
    assert address == EngineAddress("http://localhost/v1", str(left_over))
    assert command == ("serve", f"--host={left_over}", f'{{"a": "{left_over}"}}')
    assert not left_over.exists()


def test_a_command_is_told_a_port_that_is_free(tmp_path: Path) -> None:
    address, command = choose_address(EngineSpec(name="x", command=("serve", "{port}")), tmp_path / "x")
    port = int(command[1])
    assert address == EngineAddress(f"http://127.0.0.1:{port}/v1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


# ---------------------------------------------------------------- folders


def test_all_paths_follow_from_the_state_directory(tmp_path: Path) -> None:
    short = Path("/var/lib/relay")
    assert run_folder(short) == short / "run"
    assert control_socket(short) == short / "run" / "control.sock"
    assert log_file(short, "my-engine") == short / "engines" / "my-engine" / "log"


def test_a_state_directory_too_deep_for_a_socket_gets_a_short_folder(tmp_path: Path) -> None:
    one, other = tmp_path / ("x" * 90), tmp_path / ("y" * 90)
    assert run_folder(one) == run_folder(one) != run_folder(other)
    for path in (control_socket(one), engine_socket(run_folder(one), "e" * 200)):
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(FileNotFoundError):
            probe.connect(str(path))  # and not: path too long


def test_folders_are_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    make_private(folder)
    folder.chmod(0o755)
    make_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_not_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(FolderRefused, match="another user's, or no folder"):
        make_private(tmp_path / "link")
    with pytest.raises(FolderRefused, match="cannot be used"):
        make_private(tmp_path / "real" / ("x" * 300))
    monkeypatch.setattr(os, "getuid", lambda: -1)
    with pytest.raises(FolderRefused, match="another user's"):
        make_private(tmp_path / "real")


# ---------------------------------------------------------------- logs

LINES = {
    "plain": (b"Loading model", "Loading model"),
    "coloured": (b"\x1b[1;32mINFO\x1b[0m ready", "INFO ready"),
    "with a title": (b"\x1b]0;title\x07ready", "ready"),
    "control characters": (b"a\x00b\tc\x7f", "a b c"),
    "no text": (b"\xff\xfe", "\ufffd\ufffd"),
    "long": (b"x" * 300, "x" * 199 + "…"),
}


@pytest.mark.parametrize(("line", "text"), LINES.values(), ids=LINES)
def test_a_line_of_a_terminal_as_text(line: bytes, text: str) -> None:
    assert clean_line(line) == text


LAST = {
    "nothing yet": ([b""], ""),
    "finished": ([b"one\ntwo\n\n"], "two"),
    "unfinished": ([b"one\ntw", b"o"], "two"),
    "painted over": ([b" 10%\r 20%\r", b" 30%\r"], "30%"),
    "endless": ([b"x" * 9000], "x" * 199 + "…"),
}


@pytest.mark.parametrize(("pieces", "line"), LAST.values(), ids=LAST)
def test_the_last_line(tmp_path: Path, pieces: list[bytes], line: str) -> None:
    log = LogFile(tmp_path / "log")
    for piece in pieces:
        log.write(piece)
    log.close()
    assert log.last_line == line


def test_a_log_turns_over_also_from_one_start_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in (b"1" * 60, b"2" * 60, b"3" * 60):
        log = LogFile(path, limit=100)
        log.write(text)
        log.close()
    assert path.read_bytes() == b"3" * 60 and path.with_name("log.1").read_bytes() == b"2" * 60
    log = LogFile(path, limit=100)
    log.write(b"4" * 250)
    log.close()
    log.close()
    assert path.read_bytes() == b"4" * 50 and path.with_name("log.1").read_bytes() == b"4" * 100


def test_a_log_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "log").mkdir()
    log = LogFile(tmp_path / "log")
    log.write(b"one\n")
    log.write(b"two\n")
    assert log.last_line == "two"
    assert len(caplog.records) == 1 and "cannot be written" in caplog.text


# ---------------------------------------------------------------- back-off


def test_pauses_double_up_to_a_limit_and_a_good_run_makes_up_for_them() -> None:
    backoff = Backoff(first=1.0, longest=10.0, good=60.0)
    assert [backoff.failed(None) for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert backoff.failed(59.0) == 10.0
    assert backoff.failed(60.0) == 0.0
    assert [backoff.failed(1.0), backoff.failures] == [2.0, 2]
    backoff.reset()
    assert [backoff.failed(None) for _ in range(2000)][-1] == 10.0


# ---------------------------------------------------------------- looks


@asynccontextmanager
async def saying(answer: bytes | None, path: Path | None = None) -> AsyncIterator[tuple[EngineAddress, list[bytes]]]:
    """A server that says the same to all; `None`: nothing, for as long as the block lasts."""
    heard: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await over.wait()
        else:
            writer.write(answer)
        writer.close()

    if path is not None:
        server = await asyncio.start_unix_server(serve, path)
        address = EngineAddress("http://localhost/v1", str(path))
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = EngineAddress(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    try:
        yield address, heard
    finally:
        over.set()
        server.close()
        await asyncio.sleep(0)


LOOKS = {
    "ready": (b"HTTP/1.1 200 OK\r\n\r\n", "llama-server", Condition.READY),
    "loading": (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "llama-server", Condition.LOADING),
    "wrong key": (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "vllm", Condition.READY),
    "no list of models": (b"HTTP/1.0 404\r\n\r\n", "openai", Condition.READY),
    "no health": (b"HTTP/1.1 404 Not Found\r\n\r\n", "vllm", Condition.GONE),
    "broken": (b"HTTP/1.1 500 Oops\r\n\r\n", "vllm", Condition.GONE),
    "garbage": (b"\x00\xff garbage\r\n", "vllm", Condition.GONE),
    "other garbage": (b"HTTP/1.1 ok\r\n", "vllm", Condition.GONE),
    "another protocol": (b"RTSP/1.0 200 OK\r\n\r\n", "vllm", Condition.GONE),
    "nothing": (b"", "vllm", Condition.GONE),
    "no end": (b"x" * 100_000, "vllm", Condition.GONE),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("answer", "profile", "condition"), LOOKS.values(), ids=LOOKS)
async def test_a_look_at_an_engine_that_is(answer: bytes, profile: str, condition: Condition) -> None:
    async with saying(answer) as (address, heard), asyncio.timeout(DEADLINE):
        assert await look(EngineSpec(name="x", profile=profile), address) is condition
    assert heard[0].startswith(b"GET /v1/models " if profile == "openai" else b"GET /health ")
    assert b"authorization" not in heard[0]


@pytest.mark.anyio
async def test_a_look_at_a_socket_with_a_key(tmp_path: Path) -> None:
    async with saying(LOOKS["ready"][0], tmp_path / "x") as (address, heard), asyncio.timeout(DEADLINE):
        assert await look(EngineSpec(name="x", profile="vllm", api_key="k"), address) is Condition.READY
    assert b"\r\nauthorization: Bearer k\r\n" in heard[0]
    assert await look(EngineSpec(name="x", profile="vllm"), address) is Condition.GONE


@pytest.mark.anyio
async def test_a_look_is_as_long_as_its_caller_wants() -> None:
    async with saying(None) as (address, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await look(EngineSpec(name="x", profile="vllm"), address)


LOADING = {
    "a share": ("starting for 3 s: Loading shards: 42% Completed | 1/4", "loading gpu 42%"),
    "a share with a point": ("starting for 3 s: 99.5 %", "loading gpu 99%"),
    "the whole": ("starting for 3 s: 100%|####|", "loading gpu 100%"),
    "no share": ("starting for 3 s: GET /secret 1000% 12 percent", "loading gpu"),
    "nothing": ("", "loading gpu"),
}


@pytest.mark.parametrize(("progress", "text"), LOADING.values(), ids=LOADING)
def test_of_a_start_a_client_hears_a_share_and_no_word_of_the_log(progress: str, text: str) -> None:
    assert loading("gpu", progress) == text
