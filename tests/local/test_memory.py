"""Engines that share a memory budget, in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from adapters.errors import Fault, RelayError
from adapters.local.engine import Engine
from adapters.local.memory import MemoryBudget
from adapters.local.pace import Pace
from adapters.local.spec import EngineSpec
from tests.local.stage import Stage, now, visit
from tests.support.simulated_time import simulate

GIB = 2**30
PACE = Pace(jitter=0.0, room_timeout=60.0)


class Hall:
    """Engines by their names, each of the size in GiB that its name ends in."""

    def __init__(self, names: tuple[str, ...], limit: float) -> None:
        budget = MemoryBudget(int(limit * GIB), PACE.room_timeout)
        self.stages = {name: Stage() for name in names}
        self.engines = {name: self._engine(name, budget) for name in names}
        self.most = 0

    def _engine(self, name: str, budget: MemoryBudget) -> Engine:
        stage = self.stages[name]
        size = int(name[1:]) * GIB or None
        spec = EngineSpec(name=name, command=("fake",), keep_alive=None, memory=size)
        return Engine(spec, stage.launch, stage.probe, budget, PACE)

    @property
    def running(self) -> set[str]:
        return {name for name, stage in self.stages.items() if stage.running}

    async def use(self, name: str, seconds: float = 0.0) -> None:
        visitor = await visit(self.engines[name])
        assert sum(int(name[1:]) for name in self.running) <= 10
        await asyncio.sleep(seconds)
        visitor.leave()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(engine.live()) for engine in self.engines.values()]
            yield
            for life in lives:
                life.cancel()


def play(scene: Callable[[Hall], Awaitable[None]], *names: str, limit: float = 10) -> None:
    async def played() -> None:
        hall = Hall(names, limit)
        async with hall.open():
            await scene(hall)

    simulate(played())


def test_engines_that_fit_run_side_by_side() -> None:
    async def scene(hall: Hall) -> None:
        for name in hall.engines:
            await hall.use(name)
        assert hall.running == {"a4", "b4", "c2", "d0"}  # what names no size is not counted

    play(scene, "a4", "b4", "c2", "d0")


def test_the_least_recently_used_makes_room() -> None:
    async def scene(hall: Hall) -> None:
        for name in ("a4", "b4", "a4"):
            await hall.use(name, 1.0)
        await hall.use("c4")
        assert hall.running == {"a4", "c4"}
        await hall.use("d8")
        assert hall.running == {"d8"}

    play(scene, "a4", "b4", "c4", "d8")


def test_nothing_is_stopped_as_long_as_that_would_not_be_enough() -> None:
    async def scene(hall: Hall) -> None:
        await hall.use("a2")
        async with asyncio.TaskGroup() as group:
            group.create_task(hall.use("b6", 20.0))
            await asyncio.sleep(1.0)
            big = group.create_task(hall.use("c8"))
            await asyncio.sleep(10.0)
            assert hall.running == {"a2", "b6"} and not big.done()
        assert hall.running == {"a2", "c8"} and now() < 25.0

    play(scene, "a2", "b6", "c8")


def test_memory_counts_until_the_process_is_gone() -> None:
    async def scene(hall: Hall) -> None:
        hall.stages["a8"].stop_time = 7.0
        await hall.use("a8")
        await hall.use("b8")
        assert now() >= 7.0 and hall.running == {"b8"}

    play(scene, "a8", "b8")


def test_waiting_for_busy_engines_has_a_limit() -> None:
    async def scene(hall: Hall) -> None:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(hall.use("a8", 1000.0))
            await asyncio.sleep(1.0)
            texts: list[str] = []
            with pytest.raises(RelayError) as caught:
                await visit(hall.engines["b8"], texts.append)
            assert now() == pytest.approx(61.0)
            assert caught.value.fault is Fault.OVERLOADED and caught.value.retry_after == 60.0
            assert caught.value.message == (
                "The engine 'b8' needs 8.0 GiB of memory that is in use by engines at work: 'a8'."
            )
            assert texts == ["waiting for memory"]
            await working
            await hall.use("b8")  # nothing is held against it

    play(scene, "a8", "b8")


def test_an_engine_that_can_never_fit_says_so_at_once() -> None:
    async def scene(hall: Hall) -> None:
        for _ in range(2):
            with pytest.raises(
                RelayError, match=r"needs 12.0 GiB and all engines together may have 10.0 GiB"
            ) as caught:
                await visit(hall.engines["a12"])
            assert caught.value.fault is Fault.UPSTREAM_MISCONFIGURED and now() < 1.0
        assert hall.running == set()

    play(scene, "a12")


def test_those_who_want_memory_get_it_in_turn() -> None:
    async def scene(hall: Hall) -> None:
        order: list[str] = []

        async def take(name: str) -> None:
            await hall.use(name, 5.0)
            order.append(name)

        async with asyncio.TaskGroup() as group:
            for name in ("a8", "b8", "c2", "d8"):
                group.create_task(take(name))
                await asyncio.sleep(0.1)
        assert order == ["a8", "b8", "c2", "d8"] or order == ["a8", "c2", "b8", "d8"]

    play(scene, "a8", "b8", "c2", "d8")


def test_without_a_limit_everything_fits() -> None:
    async def scene() -> None:
        budget = MemoryBudget(None, 1.0)
        engine = Hall(("a99",), 1).engines["a99"]
        async with budget.room(engine), budget.room(engine):
            pass

    simulate(scene())
