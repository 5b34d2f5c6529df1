"""The supervisor in its thread, with real engines, real workers and real ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from adapters.errors import RelayError
from adapters.local.address import EngineAddress
from adapters.local.condition import Condition
from adapters.local.control import EngineClient
from adapters.local.folders import control_socket, log_file, run_folder
from adapters.local.host import SupervisorRefused, supervised
from adapters.local.look import look
from adapters.local.pace import Pace
from adapters.local.spec import EngineSpec
from adapters.local.status import EngineStatus, State
from tests.support.engines import fake, fake_command
from tests.support.processes import children_of, is_alive, until_gone, written_pids, zombies
from tests.support.servers import DEADLINE, serving
from tests.support.vllm import FakeVllm

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="waits for processes by pidfd"),
]
ROOT = Path(__file__).parents[2]
CHAT = {"model": "fake", "messages": [{"role": "user", "content": "Hello"}]}
SURROUNDINGS = {"PATH": os.defpath}


@asynccontextmanager
async def supervising(state_dir: Path, *specs: EngineSpec, **options: Any) -> AsyncIterator[EngineClient]:
    """A client of a supervisor in a thread of this process."""
    with supervised(specs, probe=look, state_dir=state_dir, surroundings=SURROUNDINGS, **options):
        async with asyncio.timeout(3 * DEADLINE), EngineClient(control_socket(state_dir)) as client:
            yield client
    assert zombies() == []


def calling(address: EngineAddress) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=address.uds)
    return httpx.AsyncClient(transport=transport, base_url=address.url, timeout=DEADLINE)


async def chat(client: EngineClient) -> str:
    async with client.lease("fake") as address, calling(address) as engine:
        answer = (await engine.post("/chat/completions", json=CHAT)).json()
        return str(answer["choices"][0]["message"]["content"])


async def status(client: EngineClient) -> EngineStatus:
    return (await client.status())[0]


async def until_stopped(client: EngineClient) -> None:
    while (await status(client)).state is not State.STOPPED:
        pass


async def test_fifty_requests_wait_for_one_start(tmp_path: Path) -> None:
    gate, starts = tmp_path / "gate", tmp_path / "starts"
    os.mkfifo(gate)
    async with supervising(tmp_path, fake("--gate", gate, "--starts", starts)) as client:
        async with asyncio.TaskGroup() as group:
            requests = [group.create_task(chat(client)) for _ in range(50)]
            await asyncio.to_thread(gate.write_bytes, b"x")
        assert {task.result() for task in requests} == {"Hello from the engine"}
    assert len(written_pids(starts)) == 1 and not any(map(is_alive, written_pids(starts)))


async def test_an_engine_that_is_killed_is_another_for_the_next_request(tmp_path: Path) -> None:
    async with supervising(tmp_path, fake()) as client:
        await chat(client)
        first = (await status(client)).pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until_gone(first)
        answer = ""
        while not answer:
            try:
                answer = await chat(client)
            except httpx.TransportError:  # as the dispatcher does
                client.report_failure("fake")
        second = await status(client)
        assert second.pid not in (None, first) and second.starts == 2


async def test_an_engine_that_dies_in_a_stream_is_another_for_the_next_request(tmp_path: Path) -> None:
    async with supervising(tmp_path, fake("--crash-mid-stream")) as client:
        async with client.lease("fake") as address, calling(address) as engine:
            answer = await engine.post("/chat/completions", json={**CHAT, "stream": True})
            assert "Hello" in answer.text and "[DONE]" not in answer.text
            client.report_failure("fake")
        assert await chat(client) == "Hello from the engine"
        assert (await status(client)).starts == 2


async def test_an_engine_that_ends_now_and_then_is_always_there(tmp_path: Path) -> None:
    async with supervising(tmp_path, fake("--exit-after", 2), pace=Pace(first_backoff=0.01)) as client:
        answers = 0
        while answers < 6:
            try:
                answers += await chat(client) == "Hello from the engine"
            except httpx.TransportError:
                client.report_failure("fake")
        assert (await status(client)).starts >= 3


async def test_an_idle_engine_is_stopped_and_its_memory_is_free(tmp_path: Path) -> None:
    async with supervising(tmp_path, fake("--fill-memory", 64, keep_alive=0.2)) as client:
        await chat(client)
        pid = (await status(client)).pid
        assert pid is not None
        await until_gone(pid)
        await until_stopped(client)
        assert await chat(client) == "Hello from the engine"


async def test_an_engine_makes_room_for_another(tmp_path: Path) -> None:
    specs = [fake(name=name, memory=6, keep_alive=None) for name in ("fake", "other")]
    async with supervising(tmp_path, *specs, memory_budget=10) as client:
        await chat(client)
        async with client.lease("other"):
            states = {engine.name: engine.state for engine in await client.status()}
        assert states == {"fake": State.STOPPED, "other": State.BUSY}


FAILING = {
    "crashes": (fake("--crash-at-start", 3), "it ended with status 3"),
    "hangs": (fake("--hang-at-start", start_timeout=0.3), "it was not ready after 0.3 seconds"),
    "fills memory": (
        EngineSpec(
            name="fake",
            profile="llama-server",
            command=(
                *("sh", "-c", 'ulimit -v 400000; exec "$0" "$@"'),
                *(*fake_command(), "--socket", "{socket}", "--fill-memory", "4000"),
            ),
        ),
        "it ended with status 1",
    ),
    "talks garbage": (fake("--garbage", start_timeout=0.3), "it was not ready after 0.3 seconds"),
    "is not there": (
        EngineSpec(name="fake", command=("/no/such/engine", "{port}")),
        "its command was not found (status 127)",
    ),
}


@pytest.mark.parametrize(("spec", "reason"), FAILING.values(), ids=FAILING)
async def test_an_engine_that(tmp_path: Path, spec: EngineSpec, reason: str) -> None:
    async with supervising(tmp_path, spec) as client:
        with pytest.raises(RelayError) as caught:
            await chat(client)
        assert caught.value.message == f"The engine 'fake' cannot be used: {reason}."
        seen = await status(client)
        assert (seen.state, seen.error, seen.pid) == (State.FAILED, reason, None)


async def test_what_an_engine_says_while_it_loads_is_progress(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    heard: list[str] = []
    told = asyncio.Event()

    def hear(text: str) -> None:
        heard.append(text)
        if text.endswith("Loading shard 3"):
            told.set()

    async with supervising(tmp_path, fake("--gate", gate, "--say", "\x1b[1mLoading shard 3\x1b[0m")) as client:
        async with asyncio.TaskGroup() as group:
            group.create_task(client.start("fake", hear))
            await told.wait()
            await asyncio.to_thread(gate.write_bytes, b"x")
    assert heard[-1].startswith("starting for ") and b"Loading" in log_file(tmp_path, "fake").read_bytes()


@asynccontextmanager
async def child(module: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.support.{module}", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def test_worker_processes_share_an_engine_and_one_that_is_killed_gives_it_back(tmp_path: Path) -> None:
    path = str(control_socket(tmp_path))
    async with supervising(tmp_path, fake(keep_alive=0.3)) as client:
        async with child("engine_worker", path, "fake") as one, child("engine_worker", path, "fake") as other:
            assert await line_of(one) == await line_of(other) != ""
            assert (await status(client)).starts == 1
            one.kill()
            await one.wait()
            assert (await status(client)).busy
            other.kill()
            await until_stopped(client)


async def test_a_relay_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    offspring = tmp_path / "offspring"
    specs = msgspec.json.encode([fake("--offspring", offspring)]).decode()
    async with asyncio.timeout(3 * DEADLINE), child("engine_host", str(tmp_path), specs) as relay:
        assert await line_of(relay) == "running"
        async with EngineClient(control_socket(tmp_path)) as client:
            pid = (await client.start("fake")).pid
        pids = [pid or 0, *written_pids(offspring)]
        assert len(pids) == 3 and all(map(is_alive, pids))
        relay.kill()
        for gone in pids:
            await until_gone(gone)
    with pytest.raises(RelayError, match="Connection refused"):
        async with EngineClient(control_socket(tmp_path)) as client:
            await client.status()
    async with supervising(tmp_path, fake()) as client:  # what was left over is in nobody's way
        assert await chat(client) == "Hello from the engine"


async def test_one_state_directory_has_one_supervisor(tmp_path: Path) -> None:
    async with supervising(tmp_path, fake()) as client:
        with pytest.raises(SupervisorRefused, match="another relay runs the engines of this state directory"):
            async with supervising(tmp_path, fake()):
                pytest.fail("there are two")
        assert await chat(client) == "Hello from the engine"


REMOTE = EngineSpec(name="remote", urls=("http://127.0.0.1:1/v1",))


async def test_without_engines_there_is_no_supervisor(tmp_path: Path) -> None:
    with supervised([], probe=look, state_dir=tmp_path, surroundings={}):
        assert os.listdir(tmp_path) == []


async def test_remote_engines_have_one_for_what_is_drained(tmp_path: Path) -> None:
    async with supervising(tmp_path, REMOTE) as client:
        assert [(str(found.place), found.state) for found in await client.drain("remote")] == [("remote/1", "drained")]
        assert await client.status() == []


async def test_a_second_relay_of_remote_engines_alone_runs_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervising(tmp_path, REMOTE):
        async with supervising(tmp_path, REMOTE) as client:
            assert [found.state for found in await client.drain("remote")] == ["drained"], "of the first one"
    assert "engines cannot be drained here" in caplog.text and "another relay runs the engines" in caplog.text


def test_a_folder_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(SupervisorRefused, match="run: cannot be used"):
        with supervised([fake()], probe=look, state_dir=tmp_path, surroundings={}):
            pytest.fail("it must not start")


def test_a_socket_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    control_socket(tmp_path).mkdir(parents=True)
    with pytest.raises(SupervisorRefused, match="control.sock: cannot listen here"):
        with supervised([fake()], probe=look, state_dir=tmp_path, surroundings={}):
            pytest.fail("it must not start")


async def test_a_fault_of_the_supervisor_is_logged_and_ends_its_engines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    starts = tmp_path / "starts"

    async def faulty(spec: EngineSpec, address: EngineAddress) -> Condition:
        if written_pids(starts):
            raise ZeroDivisionError
        return Condition.LOADING

    spec = fake("--starts", starts)
    with supervised([spec], probe=faulty, state_dir=tmp_path, surroundings=SURROUNDINGS):
        async with asyncio.timeout(2 * DEADLINE), EngineClient(control_socket(tmp_path)) as client:
            with pytest.raises(RelayError, match="has closed the connection"):
                await client.start("fake")
            (thread,) = (thread for thread in threading.enumerate() if thread.name == "engines")
            await asyncio.to_thread(thread.join)  # so that the end of the block meets a thread that is over
    assert "the supervisor of local engines has failed" in caplog.text
    assert not any(map(is_alive, written_pids(starts)))


async def test_sockets_are_private(tmp_path: Path) -> None:
    async with supervising(tmp_path, fake()):
        assert control_socket(tmp_path).stat().st_mode & 0o777 == 0o600
        assert run_folder(tmp_path).stat().st_mode & 0o777 == 0o700
    assert not control_socket(tmp_path).exists()


# ---------------------------------------------------------------- `relay serve`


@asynccontextmanager
async def served(
    state_dir: Path, spec: EngineSpec, first_line: Callable[[str], object] = len, **environ: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`relay serve` with one engine, once it can be called; `first_line` gets what it prints first, its address."""
    place = {"command": list(spec.command)} if spec.command else {"url": list(spec.urls)}
    settings = {"name": spec.name, "profile": spec.profile, **place, "models": ["fake-model"]}
    table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    (state_dir / "relay.toml").write_text(f"[[engines]]\n{table}\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy.cli", "serve"),
        cwd=state_dir,
        env={
            **os.environ,
            "RELAY_TOKENS": "sk-test-0123456789abcdef",
            "RELAY_STATE_DIR": str(state_dir),
            "RELAY_PORT": "0",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            **environ,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        first_line(await line_of(process))
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


WORKERS = pytest.mark.parametrize("workers", ["1", "2"])


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
async def test_engines_end_with_the_relay(tmp_path: Path, workers: str, number: signal.Signals) -> None:
    async with asyncio.timeout(4 * DEADLINE), served(tmp_path, fake(), RELAY_WORKERS=workers) as relay:
        async with EngineClient(control_socket(tmp_path)) as client:
            pid = (await client.start("fake")).pid
            assert pid is not None
            async with client.lease("fake") as address, calling(address) as engine:
                environment = (await engine.get(address.url.removesuffix("/v1") + "/environment")).json()
        assert not any(name.startswith(("RELAY_", "CLOUDFLARE_")) for name in environment)
        workers_of_it = children_of(relay.pid)
        relay.send_signal(number)
        await relay.wait()
        for worker in workers_of_it:
            await until_gone(worker)
        await until_gone(pid)
        assert relay.returncode == (-signal.SIGKILL if number is signal.SIGKILL else 0)


async def test_a_second_relay_of_the_same_engines_does_not_start(tmp_path: Path) -> None:
    async with asyncio.timeout(4 * DEADLINE), served(tmp_path, fake()), served(tmp_path, fake()) as second:
        assert await second.wait() == 1
        assert second.stderr is not None
        assert b"another relay runs the engines of this state directory" in await second.stderr.read()


@WORKERS
async def test_a_drain_reaches_every_worker_and_waits_for_the_requests_of_all(tmp_path: Path, workers: str) -> None:
    """`farm/1` is drained while streams of all workers are open there; the other replica answers meanwhile."""
    farm = [FakeVllm(), FakeVllm()]
    release = asyncio.Event()
    lines: list[str] = []
    async with asyncio.timeout(4 * DEADLINE), AsyncExitStack() as stack:
        urls = tuple([f"{(await stack.enter_async_context(serving(engine))).url}/v1" for engine in farm])
        spec = EngineSpec(name="farm", profile="vllm", urls=urls)
        await stack.enter_async_context(served(tmp_path, spec, lines.append, RELAY_WORKERS=workers))
        url = lines[0].split()[1]
        operator = await stack.enter_async_context(EngineClient(control_socket(tmp_path)))

        async def ask(text: str, **fields: Any) -> httpx.Response:
            """Over a connection of its own, which any worker may take."""
            headers = {"authorization": "Bearer sk-test-0123456789abcdef"}
            body = {"model": "fake-model", "messages": [{"role": "user", "content": text}], **fields}
            async with httpx.AsyncClient(headers=headers, timeout=DEADLINE, trust_env=False) as client:
                return await client.post(f"{url}/v1/chat/completions", json=body)

        async def drained(told: asyncio.Event) -> list[str]:
            found = await operator.drain("farm", urls[0], on_progress=lambda text: told.set())
            return [status.state for status in found]

        for engine in farm:
            engine.tokens_held = release
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(ask(f"Question {i}", stream=True)) for i in range(24)]
            while sum(engine.running for engine in farm) < len(streams):
                await operator.replicas()
            assert [status.open for status in await operator.replicas()] == [engine.running for engine in farm]
            before = len(farm[0].chats)
            assert before > 0
            told = asyncio.Event()
            draining = group.create_task(drained(told))
            await told.wait()
            later = [group.create_task(ask(f"Later question {i}", stream=True)) for i in range(24)]
            while farm[1].running < len(streams) - before + len(later):
                await operator.replicas()
            assert not draining.done()
            release.set()
        assert draining.result() == ["drained"] and len(farm[0].chats) == before
        assert all(answer.result().text.endswith("data: [DONE]\n\n") for answer in [*streams, *later])
        assert [status.state for status in await operator.drain("farm")] == ["drained", "drained"]
        refused = await asyncio.gather(*(ask("Hi") for _ in range(12)))
        assert {answer.status_code for answer in refused} == {503}
        assert "is drained: it takes no new requests" in refused[0].json()["error"]["message"]
        await operator.resume("farm", "1")
        assert {answer.status_code for answer in [await ask("Hi") for _ in range(8)]} == {200}
        assert len(farm[0].chats) == before + 8
