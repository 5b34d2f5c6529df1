"""The control socket: what a worker process and the supervisor tell one another, over a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from adapters.errors import Fault, RelayError
from adapters.local import messages
from adapters.local.address import EngineAddress
from adapters.local.condition import Condition
from adapters.local.control import EngineClient
from adapters.local.control_server import listening
from adapters.local.engine import Engine
from adapters.local.pace import Pace
from adapters.local.spec import EngineSpec
from adapters.local.status import EngineStatus, State
from adapters.local.supervisor import Supervisor
from tests.local.stage import Stage
from tests.support.servers import DEADLINE

pytestmark = pytest.mark.anyio
PACE = Pace(check_interval=0.05, recheck_interval=0.01, recall_timeout=DEADLINE, drain_timeout=DEADLINE)


class Rig(NamedTuple):
    stage: Stage
    engine: Engine
    path: Path

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[EngineClient]:
        async with EngineClient(self.path) as client:
            yield client

    async def until(self, holds: Callable[[EngineStatus], bool]) -> None:
        """Wait until the engine's status is so."""
        async with asyncio.timeout(DEADLINE):
            while not holds(self.engine.status()):
                await self.engine._bell.heard(asyncio.get_running_loop().time() + 0.05)


@asynccontextmanager
async def supervising(tmp_path: Path, pace: Pace = PACE, keep_alive: float | None = None) -> AsyncIterator[Rig]:
    stage, path = Stage(), tmp_path / "control.sock"
    spec = EngineSpec(name="fake", command=("fake",), keep_alive=keep_alive)
    remote = EngineSpec(name="remote", urls=("http://10.0.0.1/v1",))
    supervisor = Supervisor([spec, remote], launch=stage.launch, probe=stage.probe, pace=pace)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        async with asyncio.timeout(3 * DEADLINE), supervisor.running(), listening(supervisor, listener):
            yield Rig(stage, supervisor.engine("fake"), path)


def is_busy(status: EngineStatus) -> bool:
    return status.busy


def is_idle(status: EngineStatus) -> bool:
    return status.state is State.READY and not status.busy


async def test_fifty_requests_of_two_workers_start_one_engine(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as one, rig.worker() as other:
        rig.stage.load_time = 0.1
        leaving = asyncio.Barrier(50)

        async def request(client: EngineClient) -> str:
            async with client.lease("fake") as address:
                await leaving.wait()
                return address.url

        async with asyncio.TaskGroup() as group:
            requests = [group.create_task(request(client)) for client in (one, other) for _ in range(25)]
        assert {task.result() for task in requests} == {"http://127.0.0.1:1/v1"}
        await rig.until(is_idle)
        assert len(rig.stage.runs) == 1


async def test_later_requests_ask_nobody(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client:
        async with client.lease("fake"):
            pass
        turned: list[bool] = []
        asyncio.get_running_loop().call_soon(turned.append, True)
        async with client.lease("fake"), client.lease("fake"):
            assert not turned  # nothing was waited for


async def test_the_first_request_makes_it_busy_and_the_last_one_idle(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client:
        async with client.lease("fake"):
            await rig.until(is_busy)
            async with client.lease("fake"):
                pass
            assert (await client.status())[0].busy
        await rig.until(is_idle)
        async with client.lease("fake"):
            await rig.until(is_busy)


async def test_a_worker_hears_of_the_start(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client:
        rig.stage.load_time = 0.2
        heard: list[str] = []
        async with client.lease("fake", heard.append), client.lease("fake"):
            pass
        assert heard == ["starting"]


async def test_an_engine_that_crashes_is_replaced_for_the_next_request(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client:
        async with client.lease("fake") as first:
            rig.stage.run.crash()
            client.report_failure("fake")  # its connection was reset
            async with client.lease("fake") as second:
                assert second != first and len(rig.stage.runs) == 2
            client.report_failure("fake")  # late, of the run before: harms nobody
        async with client.lease("fake") as third:
            assert third == second


async def test_a_report_of_what_nobody_holds_is_nothing(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client:
        client.report_failure("fake")
        async with client.lease("fake"):
            pass
        client.report_failure("other")
        client.report_failure("fake")  # with no request open
        async with client.lease("fake"):
            assert len(rig.stage.runs) == 1


async def test_requests_after_a_report_wait_for_what_the_supervisor_sees(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client:
        async with client.lease("fake"):
            rig.stage.condition = Condition.GONE
            client.report_failure("fake")
            rig.stage.checks = 0
            async with asyncio.TaskGroup() as group:
                fresh = group.create_task(_address(client))
                await rig.until(lambda status: status.starts == 2)
                rig.stage.condition = Condition.READY
            assert fresh.result() == "http://127.0.0.1:2/v1" and rig.stage.checks >= 3


async def _address(client: EngineClient) -> str:
    async with client.lease("fake") as address:
        return address.url


async def test_an_idle_engine_is_stopped_though_workers_remember_it(tmp_path: Path) -> None:
    async with supervising(tmp_path, keep_alive=0.05) as rig, rig.worker() as one, rig.worker() as other:
        for client in (one, other):
            async with client.lease("fake"):
                pass
        await rig.until(lambda status: status.state is State.STOPPED)
        async with one.lease("fake") as address:
            assert address.url == "http://127.0.0.1:2/v1"


async def test_stopping_waits_for_open_requests_and_new_ones_get_a_new_engine(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client, rig.worker() as operator:
        async with asyncio.TaskGroup() as group:
            async with client.lease("fake") as old:
                stopping = group.create_task(operator.stop("fake"))
                await rig.until(lambda status: client._link is not None and not client._link.holds)  # recalled
                fresh = group.create_task(_address(client))
                await rig.until(lambda status: status.waiting > 0)
                assert not stopping.done() and not fresh.done()
        assert fresh.result() != old.url
        assert len(rig.stage.runs) == 2


async def test_the_operator_starts_and_stops_and_sees(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as operator:
        assert [(engine.name, engine.state) for engine in await operator.status()] == [("fake", State.STOPPED)]
        heard: list[str] = []
        rig.stage.load_time = 0.1
        started = await operator.start("fake", heard.append)
        assert (started.state, started.pid, heard) == (State.READY, 1, ["starting"])
        assert (await operator.stop("fake")).state is State.STOPPED
        assert rig.stage.running == 0


async def test_who_leaves_while_it_starts_is_not_waited_for(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client:
        rig.stage.answers.clear()
        async with asyncio.TaskGroup() as group:
            requests = [group.create_task(_address(client)) for _ in range(3)]
            await rig.until(lambda status: status.waiting == 1)
            requests[0].cancel()
            await asyncio.wait([requests[0]])
            await client.status()
            assert rig.engine.status().waiting == 1
            requests[1].cancel()
            requests[2].cancel()
            await rig.until(lambda status: status.waiting == 0)
        rig.stage.answers.set()
        await rig.until(is_idle)
        assert len(rig.stage.runs) == 1


async def test_who_leaves_in_the_moment_the_engine_comes_leaves_nothing(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client:
        rig.stage.answers.clear()
        async with asyncio.TaskGroup() as group:
            request = group.create_task(_address(client))
            await rig.until(lambda status: status.waiting == 1)
            link = client._link
            assert link is not None
            take = link._take_engine

            def take_and_leave(number: int, address: object) -> None:
                take(number, address)  # type: ignore[arg-type]  # passed on
                request.cancel()

            link._take_engine = take_and_leave  # type: ignore[method-assign]  # the moment is hard to meet
            rig.stage.answers.set()
        assert request.cancelled()
        await rig.until(is_idle)


async def test_requests_that_meet_at_the_first_connection_share_one_lease(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client, rig.worker() as other:
        await other.start("fake")  # so that the answer comes before the last of them has asked
        urls = await asyncio.gather(*(_address(client) for _ in range(200)))
        assert set(urls) == {"http://127.0.0.1:1/v1"}
        await rig.until(is_idle)


async def test_a_client_takes_whatever_crosses_its_cancellation(tmp_path: Path) -> None:
    asked = asyncio.Event()
    heard: list[messages.FromClient] = []

    async def supervisor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ask = messages.parse_from_client(await reader.readline())
        assert isinstance(ask, messages.Ask)
        asked.set()
        cancel = messages.parse_from_client(await reader.readline())
        for late in (
            messages.Progress(ask.id, "starting"),
            messages.Ready(ask.id, EngineAddress("http://127.0.0.1:1/v1")),
            messages.Refused(ask.id, "OVERLOADED", "late"),
            messages.Recall(ask.id),
            messages.Gone(ask.id),
            messages.Done(ask.id, []),
        ):
            writer.write(messages.dump(late))
        heard.extend([ask, cancel, messages.parse_from_client(await reader.readline())])
        writer.close()

    server = await asyncio.start_unix_server(supervisor, tmp_path / "control.sock")
    async with asyncio.timeout(DEADLINE), server, EngineClient(tmp_path / "control.sock") as client:
        async with asyncio.TaskGroup() as group:
            request = group.create_task(_address(client))
            await asked.wait()
            request.cancel()
        link = client._link
        assert link is not None
        while not link.closed:  # noqa: ASYNC110  # a deadline is set
            await asyncio.sleep(0)
    assert heard == [messages.Ask(1, "fake"), messages.Cancel(1), messages.Return(1)]


async def test_an_answer_that_comes_too_late_is_given_back_to_the_supervisor(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig:
        reader, writer = await asyncio.open_unix_connection(rig.path)
        writer.write(messages.dump(messages.Ask(7, "fake")))
        line = await reader.readline()
        while isinstance(messages.parse_from_supervisor(line), messages.Progress):
            line = await reader.readline()
        assert isinstance(messages.parse_from_supervisor(line), messages.Ready)
        writer.write(messages.dump(messages.Cancel(7)))  # too late
        writer.write(messages.dump(messages.Return(7)))
        writer.write(messages.dump(messages.Return(7)))
        writer.write(messages.dump(messages.Use(7, True)))
        writer.write(messages.dump(messages.Report(7)))
        await rig.until(is_idle)
        writer.close()


async def test_a_worker_that_dies_gives_everything_back(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig:
        async with rig.worker() as client, client.lease("fake"):
            await rig.until(is_busy)
            link = client._link
            assert link is not None
            link._writer.transport.abort()
            await rig.until(is_idle)
        reader, writer = await asyncio.open_unix_connection(rig.path)
        rig.stage.answers.clear()
        rig.stage.run.crash()
        await rig.until(lambda status: status.starts == 2)
        writer.write(messages.dump(messages.Ask(1, "fake")))
        await rig.until(lambda status: status.waiting == 1)
        writer.transport.abort()
        await rig.until(lambda status: status.waiting == 0)


REFUSED = {
    "unknown": ("other", "There is no local engine 'other'."),
    "remote": ("remote", "There is no local engine 'remote'."),
}


@pytest.mark.parametrize(("name", "message"), REFUSED.values(), ids=REFUSED)
async def test_an_engine_that_is_not_here(tmp_path: Path, name: str, message: str) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client:
        for attempt in (client.start(name), client.stop(name), _never(client, name)):
            with pytest.raises(RelayError) as caught:
                await attempt
            assert (caught.value.fault, caught.value.message) == (Fault.UPSTREAM_MISCONFIGURED, message)


async def _never(client: EngineClient, name: str) -> None:
    async with client.lease(name):
        pytest.fail("there is no such engine")


async def test_a_failed_start_is_told_to_each_who_waits(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig, rig.worker() as client:
        rig.stage.crash_at_start = True
        results = await asyncio.gather(*(_address(client) for _ in range(5)), return_exceptions=True)
        errors = [error for error in results if isinstance(error, RelayError)]
        assert len({id(error) for error in errors}) == 5
        assert {error.message for error in errors} == {"The engine 'fake' cannot be used: it ended with status 1."}
        assert all(error.retry_after is not None for error in errors)


async def test_without_a_supervisor_there_is_a_precise_error(tmp_path: Path) -> None:
    async with EngineClient(tmp_path / "nobody") as client:
        with pytest.raises(RelayError) as caught:
            await _address(client)
    assert caught.value.fault is Fault.UPSTREAM_UNREACHABLE
    assert caught.value.message == (
        "The supervisor of the relay's local engines cannot be reached (No such file or directory); "
        "is the relay still running?"
    )


async def test_a_supervisor_that_ends_is_told_to_all_who_wait(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group, EngineClient(tmp_path / "control.sock") as client:
        async with supervising(tmp_path) as rig:
            async with client.lease("fake") as address:
                pass
            rig.stage.answers.clear()
            rig.stage.run.crash()
            await rig.until(lambda status: status.starts == 2)
            waiting = [group.create_task(_refusal(client)) for _ in range(2)]
            await rig.until(lambda status: status.waiting == 1)
        for task in waiting:
            assert "(it has closed the connection)" in (await task).message
        assert "Connection refused" in (await _refusal(client)).message
    assert address.url


async def _refusal(client: EngineClient) -> RelayError:
    with pytest.raises(RelayError) as caught:
        await _address(client)
    return caught.value


async def test_a_supervisor_that_comes_back_is_found_again(tmp_path: Path) -> None:
    async with EngineClient(tmp_path / "control.sock") as client:
        for _ in range(2):
            async with supervising(tmp_path), client.lease("fake") as address:
                assert address.url == "http://127.0.0.1:1/v1"
            (tmp_path / "control.sock").unlink()


NONSENSE = {
    "no JSON": b"garbage\n",
    "a field too few": b'{"type": "ask"}\n',
    "too long": b"x" * (messages.LIMIT + 2),
    "nested too deeply": b'{"x":' * 100_000 + b"\n",
    "one id for two questions": messages.dump(messages.Ask(1, "fake")) * 2,
}


@pytest.mark.parametrize("line", NONSENSE.values(), ids=NONSENSE)
async def test_a_client_that_talks_nonsense_is_cut_off(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervising(tmp_path) as rig:
        reader, writer = await asyncio.open_unix_connection(rig.path)
        writer.write(line)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()
        async with rig.worker() as client:
            assert len(await client.status()) == 1
    assert "was cut off" in caplog.text


async def test_a_client_that_asks_twice_under_one_id_leaves_nothing_behind(tmp_path: Path) -> None:
    async with supervising(tmp_path) as rig:
        reader, writer = await asyncio.open_unix_connection(rig.path)
        for _ in range(2):
            writer.write(messages.dump(messages.Ask(1, "fake")))
            await rig.until(lambda status: status.state is not State.STARTING and status.starts == 1)
        while await reader.readline():
            pass
        writer.close()
        await rig.until(lambda status: not status.busy)


async def test_a_client_that_does_not_read_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.local.control_server._LONGEST_BACKLOG", 10_000)
    async with supervising(tmp_path) as rig:
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(rig.path))
            deaf.setblocking(False)
            question = messages.dump(messages.Command(1, "status"))
            with pytest.raises(ConnectionError):
                while True:
                    await asyncio.get_running_loop().sock_sendall(deaf, question * 100)


async def test_a_supervisor_that_talks_nonsense_is_left(tmp_path: Path) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"nonsense\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(nonsense, tmp_path / "control.sock")
    async with server, EngineClient(tmp_path / "control.sock") as client:
        assert "has closed the connection" in (await _refusal(client)).message
