"""An engine's life, in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import Fault, RelayError
from adapters.local.condition import Condition
from adapters.local.engine import Engine
from adapters.local.memory import MemoryBudget
from adapters.local.own import OwnModel
from adapters.local.pace import Pace
from adapters.local.spec import EngineSpec
from adapters.local.status import State
from tests.local.stage import Stage, Visitor, now, visit
from tests.support.simulated_time import simulate

PACE = Pace(jitter=0.0)
HOUR = 3600.0

Scene = Callable[[Engine, Stage], Coroutine[Any, Any, None]]


@asynccontextmanager
async def living(stage: Stage, pace: Pace = PACE, **fields: Any) -> AsyncIterator[Engine]:
    spec = EngineSpec(name="fake", command=("fake",), **fields)
    engine = Engine(spec, stage.launch, stage.probe, MemoryBudget(None, 1.0), pace)
    async with asyncio.TaskGroup() as group:
        life = group.create_task(engine.live())
        try:
            yield engine
        finally:
            life.cancel()


def play(scene: Scene, pace: Pace = PACE, **fields: Any) -> None:
    """The scene with an engine of which nothing runs yet."""

    async def played() -> None:
        stage = Stage()
        async with living(stage, pace, **fields) as engine:
            await scene(engine, stage)
        assert stage.running == 0

    simulate(played())


async def refusal(engine: Engine) -> RelayError:
    with pytest.raises(RelayError) as caught:
        await engine.ready(lambda text: None)
    return caught.value


async def until(engine: Engine, state: State) -> None:
    while engine.status().state is not state:  # noqa: ASYNC110  # the time is simulated
        await asyncio.sleep(0.01)


def test_it_starts_once_for_all_who_wait() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        stage.load_time = 30.0
        assert engine.status().state is State.STOPPED
        visitors = await asyncio.gather(*(visit(engine) for _ in range(50)))
        assert stage.starts == [0.0] and 30.0 <= now() < 32.0
        assert engine.status().state is State.BUSY
        for visitor in visitors:
            visitor.leave()
        status = engine.status()
        assert (status.state, status.idle_for, status.pid, status.starts) == (State.READY, 0.0, 1, 1)

    play(scene)


def test_those_who_wait_hear_how_far_it_is() -> None:
    heard: list[str] = []

    async def scene(engine: Engine, stage: Stage) -> None:
        stage.load_time = 5.0
        await visit(engine, heard.append)

    play(scene)
    assert heard[0] == "starting"
    assert heard[1] == "starting for 1 s: Loading weights" and 4 <= len(heard) == len(set(heard)) <= 6
    assert all(text.endswith(" s: Loading weights") for text in heard[1:])


def test_who_stops_waiting_does_not_stop_the_start() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        stage.load_time = 10.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await visit(engine)
        await until(engine, State.READY)
        assert stage.starts == [0.0]

    play(scene)


def test_it_stops_after_its_keep_alive_without_work() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        visitor = await visit(engine)
        await asyncio.sleep(HOUR)
        assert engine.status().state is State.BUSY  # work has no time limit
        visitor.leave()
        await asyncio.sleep(299.0)
        again = await visit(engine)
        again.leave()
        await asyncio.sleep(299.0)
        assert stage.running == 1
        await asyncio.sleep(2.0)
        assert stage.running == 0 and engine.status().state is State.STOPPED
        assert visitor.heard == ["recalled"]
        await visit(engine)
        assert len(stage.runs) == 2

    play(scene, keep_alive=300.0)


def test_without_an_end_of_its_keep_alive_it_stays() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        (await visit(engine)).leave()
        await asyncio.sleep(24 * HOUR)
        assert len(stage.runs) == 1 and engine.status().state is State.READY

    play(scene, keep_alive=None)


def test_work_that_comes_as_it_is_about_to_stop_keeps_it() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        visitor = await visit(engine)
        visitor.leave()
        visitor.deaf = True  # its answer to the recall is still under way
        await until(engine, State.DRAINING)
        newcomer = asyncio.get_running_loop().create_task(visit(engine))
        await asyncio.sleep(2.5)
        assert newcomer.done() and len(stage.runs) == 1
        assert engine.status().state is State.BUSY

    play(scene, keep_alive=10.0)


def test_a_process_that_does_not_answer_a_recall_does_not_keep_it() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        visitor = await visit(engine)
        visitor.leave()
        visitor.deaf = True
        await until(engine, State.STOPPED)
        assert visitor.heard == ["recalled", "ended"]

    play(scene, keep_alive=10.0)


def test_stopping_it_lets_work_finish_first() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        visitor = await visit(engine)
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(engine.stop())
            await asyncio.sleep(5.0)
            assert engine.status().state is State.DRAINING and stage.running == 1
            newcomer = group.create_task(visit(engine))
            await asyncio.sleep(1.0)
            visitor.leave()
        assert stopping.done() and len(stage.runs) == 2
        assert newcomer.result().busy and engine.status().state is State.BUSY

    play(scene)


def test_stopping_it_has_a_limit() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        visitor = await visit(engine)
        began = now()
        await engine.stop()
        assert now() - began == pytest.approx(PACE.drain_timeout)
        assert visitor.heard == ["recalled", "ended"]
        assert engine.status().state is State.STOPPED

    play(scene)


def test_stopping_what_does_not_run_is_nothing() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        await engine.stop()
        assert now() == 0.0 and stage.runs == []

    play(scene)


def test_stopping_it_while_it_starts() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        stage.load_time = HOUR
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(refusal(engine))
            await asyncio.sleep(5.0)
            await engine.stop()
        assert "it was stopped while it was starting" in waiting.result().message
        assert now() < 7.0

    play(scene)


def test_an_engine_that_does_not_get_ready_is_given_up() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        stage.load_time = HOUR
        error = await refusal(engine)
        assert now() == pytest.approx(90.0)
        assert error.fault is Fault.UPSTREAM_UNREACHABLE
        assert error.message == "The engine 'fake' cannot be used: it was not ready after 90 seconds."
        status = engine.status()
        assert (status.state, status.progress) == (State.FAILED, "")
        assert error.retry_after == 1.0

    play(scene, start_timeout=90.0)


def test_a_start_that_hangs_is_looked_at_with_a_limit() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        stage.answers.clear()
        await refusal(engine)
        assert now() <= 90.0 + PACE.check_timeout

    play(scene, start_timeout=90.0)


@pytest.mark.parametrize("problem", ["crash", "launch"])
def test_an_engine_that_cannot_start_is_tried_ever_less_often(problem: str) -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        stage.crash_at_start = problem == "crash"
        stage.launch_problem = "its process cannot be started" if problem == "launch" else None
        while now() < 200.0:  # a client that is as insistent as can be
            error = await refusal(engine)
            assert "cannot be used: it" in error.message
            assert error.retry_after is not None and error.retry_after >= 1.0
            await asyncio.sleep(0.5)
        assert stage.starts == pytest.approx([0, 1, 3, 7, 15, 31, 63, 123, 183], abs=5)
        status = engine.status()
        assert (status.state, status.failures) == (State.FAILED, 9)
        assert status.retry_in is not None and 0 < status.retry_in <= 60
        stage.crash_at_start, stage.launch_problem = False, None
        await engine.start(lambda text: None)  # the operator does not have to wait
        assert engine.status().error is None

    play(scene)


HOME = Path("/home/somebody")
FOLDERS = {
    "where it was to run": ("it cannot be started in /home/somebody/engines: No such file", {}, ".../engines: No such"),
    "the model's": (
        f"{HOME}/models/tiny/config.json cannot be read (JSONDecodeError)",
        {"own": OwnModel(folder=HOME / "tiny")},
        ": .../config.json cannot be read (JSONDecodeError)",
    ),
    "the model's, in a library's words": (
        f"the tokenizer of tiny cannot be loaded: no such thing at '{HOME}/tiny/', but https://host/a/b",
        {"own": OwnModel(folder=HOME / "tiny")},
        "at '.../tiny', but https://host/a/b",
    ),
    "folders with blanks": (
        f"no such file: '{HOME} and I/my models/a, b (old)/O'Neil/x.json'; see {HOME} 2/log",
        {},
        ": no such file: '.../x.json'; see .../log",
    ),
    "an address of a file": (f"file://{HOME}/x and unix:{HOME}/y", {}, ": file://.../x and unix:.../y"),
    "several": (f"{HOME}/a: 1/2, ({HOME}/b), or {HOME}/c", {}, ": .../a: 1/2, (.../b), or .../c"),
    "a name that says nothing": ("it is not at /srv/it", {"own": OwnModel(folder=Path("/"))}, "not at .../it"),
}


@pytest.mark.parametrize(("problem", "fields", "told"), FOLDERS.values(), ids=FOLDERS)
def test_clients_do_not_hear_how_folders_are_called(problem: str, fields: dict[str, Any], told: str) -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        stage.launch_problem = problem
        error = await refusal(engine)
        assert told in error.message and "home" not in error.message and "srv" not in error.message
        assert engine.status().error == problem, "the operator does"

    play(scene, **fields)


def test_all_who_wait_for_a_start_that_fails_are_told_and_each_by_an_error_of_his_own() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        stage.crash_at_start = True
        errors = await asyncio.gather(*(refusal(engine) for _ in range(10)))
        assert len(stage.runs) == 1 and len(set(map(id, errors))) == 10

    play(scene)


def test_a_crash_is_made_good_at_once_then_ever_later_until_it_has_run_well() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        for crash, pause in enumerate([0.0, 2.0, 4.0]):
            visitor = await visit(engine)
            stage.run.crash()
            crashed = now()
            await asyncio.sleep(0.01)
            again = await visit(engine)  # in each of these cases it is worth waiting
            assert now() - crashed == pytest.approx(pause, abs=0.1)
            assert len(stage.runs) == crash + 2
            assert visitor.heard == ["ended"] and again.busy
        stage.run.crash()
        await asyncio.sleep(0.1)
        error = await refusal(engine)  # but not in this
        assert error.retry_after == pytest.approx(7.9, abs=0.1) and "SIGKILL" in error.message
        await asyncio.sleep(8.0)
        await visit(engine)
        await asyncio.sleep(PACE.good_run)
        stage.run.crash()
        crashed = now()
        await asyncio.sleep(0.01)
        await visit(engine)
        assert now() - crashed < 0.1 and len(stage.runs) == 6

    play(scene)


def test_it_comes_back_after_a_crash_for_as_long_as_it_would_have_been_kept() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        (await visit(engine)).leave()
        await asyncio.sleep(50.0)
        stage.crash_at_start = True
        stage.run.crash()
        await asyncio.sleep(40.0)
        tries = len(stage.runs)
        assert tries > 3
        await asyncio.sleep(HOUR)
        assert len(stage.runs) <= tries + 1

    play(scene, keep_alive=100.0)


def test_crashes_do_not_make_an_unused_engine_younger() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        (await visit(engine)).leave()
        for _ in range(4):
            await asyncio.sleep(30.0)
            if stage.running:
                stage.run.crash()
        await asyncio.sleep(1.0)
        assert engine.status().state is State.STOPPED and now() < 130.0

    play(scene, keep_alive=100.0)


def test_stopping_a_failed_engine_ends_the_attempts() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        (await visit(engine)).leave()
        stage.crash_at_start = True
        stage.run.crash()
        await asyncio.sleep(5.0)
        await engine.stop()
        tries = len(stage.runs)
        assert engine.status().state is State.STOPPED
        await asyncio.sleep(HOUR)
        assert len(stage.runs) == tries

    play(scene, keep_alive=None)


def test_it_is_looked_at_every_few_seconds_also_when_idle() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        (await visit(engine)).leave()
        stage.checks = 0
        await asyncio.sleep(100.0)
        assert 16 <= stage.checks <= 24

    play(scene, Pace(), keep_alive=None)


SICK = {
    "refuses": (Condition.GONE, 5.0 + 2 * 0.5),
    "loads and loads": (Condition.LOADING, 5.0 + 2 * 0.5),
    "is silent": (Condition.SILENT, 5.0 + 2 * 0.5),
}


@pytest.mark.parametrize(("condition", "seconds"), SICK.values(), ids=SICK)
def test_an_idle_engine_is_replaced_when_it(condition: Condition, seconds: float) -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        (await visit(engine)).leave()
        stage.condition = condition
        began = now()
        await asyncio.sleep(seconds - 0.1)
        assert stage.running == 1 and len(stage.runs) == 1
        stage.condition = Condition.READY
        await asyncio.sleep(60.0)
        assert len(stage.runs) == 1  # it has recovered in time
        stage.condition = condition
        await until(engine, State.STARTING)
        stage.condition = Condition.READY
        assert now() - began < 60.0 + 2 * seconds
        await until(engine, State.READY)
        assert len(stage.runs) == 2

    play(scene, keep_alive=None)


def test_silence_while_requests_are_open_is_work() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        await visit(engine)
        stage.answers.clear()
        await asyncio.sleep(HOUR)
        assert len(stage.runs) == 1 and engine.status().state is State.BUSY

    play(scene)


def test_silence_with_failures_all_the_while_is_not() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        await visit(engine)
        stage.answers.clear()
        for _ in range(3):
            await asyncio.sleep(30.0)
            engine.doubt()
        await asyncio.sleep(150.0)
        assert len(stage.runs) == 1
        stage.answers.set()
        await asyncio.sleep(10.0)
        stage.answers.clear()
        await asyncio.sleep(HOUR)
        assert len(stage.runs) == 1  # it had answered in between
        for _ in range(3):
            engine.doubt()
        await asyncio.sleep(20.0)
        assert len(stage.runs) == 2

    play(scene)


def test_a_report_has_it_looked_at_before_anybody_else_gets_it() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        visitor = await visit(engine)
        stage.condition = Condition.GONE
        engine.doubt()
        async with asyncio.TaskGroup() as group:
            newcomer = group.create_task(visit(engine))
            await asyncio.sleep(0.9)
            assert not newcomer.done()
            stage.condition = Condition.READY
        assert len(stage.runs) == 1 and now() < 2.0
        stage.condition = Condition.GONE
        engine.doubt()
        await until(engine, State.STARTING)
        assert visitor.heard == newcomer.result().heard == ["ended"]
        engine.doubt()  # late, of the run before
        stage.condition = Condition.READY
        await visit(engine)
        assert len(stage.runs) == 2

    play(scene)


def test_a_crash_while_it_drains_is_an_end_too() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        await visit(engine)
        async with asyncio.TaskGroup() as group:
            group.create_task(engine.stop())
            await asyncio.sleep(1.0)
            stage.run.crash()
        assert now() == pytest.approx(1.1, abs=0.2)
        await asyncio.sleep(HOUR)
        assert len(stage.runs) == 1

    play(scene)


def test_its_process_is_ended_with_its_supervisor() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        await visit(engine)
        stage.stop_time = 3.0
        assert stage.running == 1

    play(scene)  # which sees that nothing runs in the end


def test_a_stop_order_survives_the_end_of_an_idle_recall() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        visitor = await visit(engine)
        visitor.leave()
        visitor.deaf = True
        await until(engine, State.DRAINING)
        engine.use(visitor, True)
        await asyncio.sleep(0.1)
        assert engine.status().state is State.BUSY
        engine.release(visitor)
        await engine.stop()
        assert engine.status().state is State.STOPPED

    play(scene, keep_alive=10.0)


def test_an_evicted_engine_that_gets_work_stays() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        visitor = await visit(engine)
        assert engine.idle_since is None
        visitor.leave()
        assert engine.idle_since is not None
        visitor.deaf = True
        engine.evict()
        assert engine.leaving and engine.idle_since is None
        await asyncio.sleep(0.1)
        visitor.busy = True
        engine.use(visitor, True)
        await asyncio.sleep(0.1)
        assert not engine.leaving and stage.running == 1

    play(scene)


def test_a_visitor_of_an_unknown_lease_changes_nothing() -> None:
    async def scene(engine: Engine, stage: Stage) -> None:
        engine.release(Visitor(engine))
        assert engine.status().state is State.STOPPED

    play(scene)
