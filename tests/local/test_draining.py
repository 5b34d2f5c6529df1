"""Draining: the operator says it once, every worker process follows, and what is under way is waited for.

Over a real control socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from adapters.errors import Fault, RelayError
from adapters.local import messages
from adapters.local.control import EngineClient
from adapters.local.control_server import listening
from adapters.local.drain_watch import DrainWatch
from adapters.local.draining import Draining
from adapters.local.own import OwnModel
from adapters.local.pace import Pace
from adapters.local.spec import EngineSpec
from adapters.local.status import Place, PlaceStatus, Sighting
from adapters.local.supervisor import Supervisor
from adapters.replica import FRESH, ReplicaStatus, State
from tests.local.stage import Stage
from tests.support.servers import DEADLINE

pytestmark = pytest.mark.anyio

FARM = EngineSpec(name="farm", urls=("http://10.0.0.1/v1", "http://10.0.0.2/v1"))
GPU = EngineSpec(name="gpu", command=("fake",))
PAIR = [
    EngineSpec(name=f"own-{i}", group="own", command=("fake",), own=OwnModel(folder=Path("/models/m"))) for i in (0, 1)
]
SPECS = [FARM, GPU, *PAIR]
ALL = [Place("farm", "1"), Place("farm", "2"), Place("gpu", ""), Place("own", "own-0"), Place("own", "own-1")]


def status(name: str, state: State = State.UP, open: int = 0, **changes: object) -> ReplicaStatus:
    fields: dict[str, object] = {
        **{"name": name, "state": state, "weight": 1.0, "open": open, "waiting": 0, "first_token": None},
        **{"tokens_per_second": None, "looked": 1.0, "reason": "", "last_error": None, "failed": None, **changes},
    }
    return ReplicaStatus(**fields)  # type: ignore[arg-type]  # a table of them reads better


class PlayedEngine:
    """An engine of a worker process whose replicas are what the test says."""

    def __init__(self, name: str, *replicas: ReplicaStatus) -> None:
        self.name = name
        self.replicas = list(replicas)
        self.drained: set[str] = set()
        self.looks = 0

    def drain(self, names: Collection[str]) -> None:
        self.drained = set(names)

    def status(self) -> Sequence[ReplicaStatus]:
        self.looks += 1
        return self.replicas


class Worker:
    """A process of the relay with a farm of two, and a local engine."""

    def __init__(self) -> None:
        self.farm = PlayedEngine("farm", status("1"), status("2"))
        self.gpu = PlayedEngine("gpu", status("", looked=None))

    @property
    def drained(self) -> list[set[str]]:
        return [self.farm.drained, self.gpu.drained]

    @asynccontextmanager
    async def running(self, path: Path) -> AsyncIterator[Worker]:
        async with DrainWatch(path, [self.farm, self.gpu]).running():
            yield self


@asynccontextmanager
async def supervising(folder: Path, survey_timeout: float = DEADLINE) -> AsyncIterator[Path]:
    stage, path = Stage(), folder / "control.sock"
    pace = Pace(survey_timeout=survey_timeout, survey_interval=0.01)
    supervisor = Supervisor(SPECS, launch=stage.launch, probe=stage.probe, pace=pace)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        async with asyncio.timeout(3 * DEADLINE), supervisor.running(), listening(supervisor, listener):
            yield path


@asynccontextmanager
async def rigged(
    folder: Path, workers: int = 2, survey_timeout: float = DEADLINE
) -> AsyncIterator[tuple[EngineClient, list[Worker]]]:
    """An operator and the relay's processes."""
    async with supervising(folder, survey_timeout) as path, EngineClient(path) as operator, AsyncExitStack() as stack:
        yield operator, [await stack.enter_async_context(Worker().running(path)) for _ in range(workers)]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():  # noqa: ASYNC110  # a deadline is set
            await asyncio.sleep(0)


def states(replicas: Sequence[PlaceStatus]) -> dict[str, str]:
    return {str(replica.place): replica.state for replica in replicas}


# ---------------------------------------------------------------- what is meant

MEANT: dict[str, tuple[str, str, list[Place]]] = {
    "all of an engine": ("farm", "", ALL[:2]),
    "by its place": ("farm", "2", [ALL[1]]),
    "by its URL": ("farm", "http://10.0.0.1/v1", [ALL[0]]),
    "a local one": ("gpu", "", [ALL[2]]),
    "all devices": ("own", "", ALL[3:]),
    "a device by its name": ("own", "own-1", [ALL[4]]),
    "a device by its place": ("own", "1", [ALL[3]]),
    "a device alone": ("own-1", "", [ALL[4]]),
}


@pytest.mark.parametrize(("name", "replica", "places"), MEANT.values(), ids=MEANT)
def test_replicas_are_meant_by(name: str, replica: str, places: list[Place]) -> None:
    assert Draining(SPECS, 1.0).find(name, replica) == places


UNKNOWN = {
    "an engine": ("barn", "", "The relay that runs has no engine 'barn'."),
    "a replica": (
        "farm",
        "3",
        "The engine 'farm' has no replica '3'; it has 1 (http://10.0.0.1/v1), 2 (http://10.0.0.2/v1).",
    ),
    "a device": ("own", "x", "The engine 'own' has no replica 'x'; it has 1 (own/own-0), 2 (own/own-1)."),
}


@pytest.mark.parametrize(("name", "replica", "message"), UNKNOWN.values(), ids=UNKNOWN)
async def test_what_is_not_there_is_told(tmp_path: Path, name: str, replica: str, message: str) -> None:
    async with rigged(tmp_path) as (operator, workers):
        for attempt in (operator.drain(name, replica), operator.resume(name, replica)):
            with pytest.raises(RelayError) as caught:
                await attempt
            assert (caught.value.fault, caught.value.message) == (Fault.UPSTREAM_MISCONFIGURED, message)
        assert workers[0].drained == [set(), set()]


# ---------------------------------------------------------------- who hears of it


async def test_every_process_knows_by_the_time_the_operator_does(tmp_path: Path) -> None:
    async with rigged(tmp_path) as (operator, workers):
        assert states(await operator.drain("farm", "2")) == {"farm/2": "drained"}
        assert [worker.drained for worker in workers] == [[{"2"}, set()]] * 2
        assert states(await operator.drain("gpu")) == {"gpu": "drained"}
        assert [worker.drained for worker in workers] == [[{"2"}, {""}]] * 2
        assert states(await operator.resume("farm")) == {"farm/1": "up", "farm/2": "up"}
        assert [worker.drained for worker in workers] == [[set(), {""}]] * 2


async def test_a_process_that_starts_later_knows_before_its_first_request(tmp_path: Path) -> None:
    async with supervising(tmp_path) as path, EngineClient(path) as operator:
        assert states(await operator.drain("farm", "1")) == {"farm/1": "drained"}, "nobody serves it"
        async with Worker().running(path) as late:
            assert late.drained == [{"1"}, set()]


async def test_without_a_supervisor_a_process_starts_all_the_same_and_finds_it_when_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.local.drain_watch._PAUSE", 0.01)
    path = tmp_path / "control.sock"
    async with Worker().running(path) as worker:
        for name in ("1", "2"):
            async with supervising(tmp_path), EngineClient(path) as operator:
                await operator.drain("farm", name)
                await until(lambda name=name: worker.farm.drained == {name})  # type: ignore[misc]  # binds now
            path.unlink()
            assert worker.farm.drained == {name}, "what was said last holds"


async def test_a_supervisor_that_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("adapters.local.drain_watch._PATIENCE", 0.01)
    async with _supervisor(tmp_path, []) as (path, _), Worker().running(path) as worker:
        assert worker.drained == [set(), set()]
    assert "does not say what is drained" in caplog.text


@asynccontextmanager
async def _supervisor(
    folder: Path, says: Sequence[bytes], answers: Iterable[bytes] = ()
) -> AsyncIterator[tuple[Path, list[bytes]]]:
    """One that says `says` to each who connects, and `answers` to what it hears first, which it notes."""
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.writelines(says)
            heard.append(await reader.readline())
            writer.writelines(answers)
            await reader.read()
        except ConnectionError:
            pass  # whoever has had enough of nonsense
        finally:
            writer.close()

    path = folder / "control.sock"
    async with asyncio.timeout(DEADLINE), await asyncio.start_unix_server(talk, path):
        yield path, heard


NONSENSE = {"no message": b"nonsense\n", "without an end": b"x" * (messages.LIMIT + 2)}


@pytest.mark.parametrize("line", NONSENSE.values(), ids=NONSENSE)
async def test_a_supervisor_that_talks_nonsense_is_asked_again(
    tmp_path: Path, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.local.drain_watch._PAUSE", 0.01)
    monkeypatch.setattr("adapters.local.drain_watch._PATIENCE", 0.01)
    told = messages.dump(messages.Drained([Place("farm", "1")]))
    async with _supervisor(tmp_path, [messages.dump(messages.Survey(1)), line]) as (path, heard):
        async with Worker().running(path) as worker:
            await until(lambda: len(heard) > 2)
            assert worker.drained == [set(), set()]
    path.unlink()
    async with _supervisor(tmp_path, [messages.dump(messages.Progress(1, "not for it")), told]) as (path, _):
        async with Worker().running(path) as worker:
            await until(lambda: worker.farm.drained == {"1"})


# ---------------------------------------------------------------- what is under way


async def test_a_drain_waits_for_what_is_under_way_in_any_process(tmp_path: Path) -> None:
    async with rigged(tmp_path) as (operator, workers):
        for worker, count in zip(workers, (2, 1), strict=True):
            worker.farm.replicas[0] = status("1", State.DRAINING, open=count)
        told: asyncio.Queue[str] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(operator.drain("farm", on_progress=told.put_nowait))
            assert await told.get() == "3 requests under way"
            assert states(await operator.replicas())["farm/1"] == "draining"
            await until(lambda: workers[0].farm.looks > 4)
            assert told.empty(), "the same is told once"
            workers[0].farm.replicas[0] = status("1", State.DRAINING)
            assert await told.get() == "1 request under way" and not draining.done()
            workers[1].farm.replicas[0] = status("1", State.DRAINING)
        assert states(draining.result()) == {"farm/1": "drained", "farm/2": "drained"}
        assert told.empty()


async def test_who_does_not_wait_hears_what_is_still_under_way(tmp_path: Path) -> None:
    async with rigged(tmp_path) as (operator, workers):
        workers[1].farm.replicas[0] = status("1", State.DRAINING, open=4)
        (replica,) = await operator.drain("farm", "1", wait=False)
        assert (replica.state, replica.open, replica.address) == ("draining", 4, "http://10.0.0.1/v1")


async def test_who_leaves_a_drain_leaves_it_in_force(tmp_path: Path) -> None:
    async with rigged(tmp_path) as (operator, workers):
        workers[0].farm.replicas[0] = status("1", State.DRAINING, open=1)
        told = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(operator.drain("farm", "1", on_progress=lambda text: told.set()))
            await told.wait()
            waiting.cancel()
        assert states(await operator.replicas())["farm/1"] == "draining"
        assert workers[0].farm.drained == {"1"}


async def test_a_process_that_does_not_answer_keeps_a_drain_waiting_until_it_is_gone(tmp_path: Path) -> None:
    async with rigged(tmp_path, workers=1, survey_timeout=0.2) as (operator, _):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
        writer.write(messages.dump(messages.Watch()))
        assert messages.parse_from_supervisor(await reader.readline()) == messages.Drained([])
        told: asyncio.Queue[str] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(operator.drain("farm", "1", on_progress=told.put_nowait))
            assert await told.get() == "a worker process does not answer"
            writer.write(messages.dump(messages.Seen(1, [])))  # too late
            writer.write(messages.dump(messages.Seen(99, [])))  # of no question
            assert not draining.done()
            writer.transport.abort()
        assert states(draining.result()) == {"farm/1": "drained"}


async def test_a_process_that_goes_while_it_is_asked_has_nothing_under_way(tmp_path: Path) -> None:
    async with rigged(tmp_path, workers=0) as (operator, _):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
        writer.write(messages.dump(messages.Watch()))
        await reader.readline()
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(operator.replicas())
            assert isinstance(messages.parse_from_supervisor(await reader.readline()), messages.Survey)
            writer.close()
        assert set(states(looking.result()).values()) == {"unknown"}


# ---------------------------------------------------------------- how replicas are seen

SEEN: dict[str, tuple[ReplicaStatus, ReplicaStatus, tuple[str, int, int, str]]] = {
    "the worst of all counts": (
        status("1", State.DOWN, reason="it is gone"),
        status("1", State.UP),
        ("down", 0, 0, "it is gone"),
    ),
    "requests are added, the engine's own are not": (
        status("1", open=2, waiting=5),
        status("1", State.BUSY, open=3, waiting=4),
        ("busy", 5, 5, ""),
    ),
    "one sees, the other has not looked": (
        status("1", looked=None),
        status("1", State.RESTING),
        ("resting", 0, 0, ""),
    ),
    "nobody has looked lately": (status("1", looked=None), status("1", looked=FRESH + 1), ("unknown", 0, 0, "")),
    "who answers requests is up": (status("1", looked=None, open=1), status("1", looked=None), ("up", 1, 0, "")),
}


@pytest.mark.parametrize(("one", "other", "shown"), SEEN.values(), ids=SEEN)
async def test_the_views_of_all_processes_are_one(
    tmp_path: Path, one: ReplicaStatus, other: ReplicaStatus, shown: tuple[str, int, int, str]
) -> None:
    async with rigged(tmp_path) as (operator, workers):
        for worker, view in zip(workers, (one, other), strict=True):
            worker.farm.replicas[0] = view
        replica = (await operator.replicas())[0]
        assert (replica.place, replica.address) == (ALL[0], "http://10.0.0.1/v1")
        assert (replica.state, replica.open, replica.waiting, replica.reason) == shown


async def test_what_is_for_those_who_watch_is_nothing_to_others(tmp_path: Path) -> None:
    messages_ = (messages.Drained(ALL), messages.Survey(1), messages.Done(1, replicas=[]))
    says = [messages.dump(message) for message in messages_]
    async with _supervisor(tmp_path, [], says) as (path, _), EngineClient(path) as client:
        assert await client.replicas() == []


def test_a_sighting_names_a_state_that_there_is() -> None:
    line = messages.dump(messages.Seen(1, [Sighting(place=ALL[0], state="up", open=0, waiting=0, reason="")]))
    with pytest.raises(ValueError, match="Invalid enum value"):
        messages.parse_from_client(line.replace(b'"up"', b'"odd"'))
