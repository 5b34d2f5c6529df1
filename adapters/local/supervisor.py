"""All local engines of one relay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from adapters.errors import Fault, RelayError
from adapters.local.condition import Probe
from adapters.local.draining import Draining
from adapters.local.engine import Engine
from adapters.local.memory import MemoryBudget
from adapters.local.pace import Pace
from adapters.local.run import Launch
from adapters.local.spec import EngineSpec
from adapters.local.status import EngineStatus


class Supervisor:
    """Starts, watches and stops the engines of `specs` that have a command, and knows what is drained of all of them.

    `memory_budget` is what they may take together, in bytes; an engine that names no `memory` is not counted.
    Time is that of the event loop it runs in, which is the only one that may call it.
    """

    def __init__(
        self,
        specs: Iterable[EngineSpec],
        *,
        launch: Launch,
        probe: Probe,
        memory_budget: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.pace = pace = pace or Pace()
        specs = tuple(specs)
        self.draining = Draining(specs, pace.survey_timeout)
        budget = MemoryBudget(memory_budget, pace.room_timeout)
        self._engines = {spec.name: Engine(spec, launch, probe, budget, pace) for spec in specs if spec.is_local}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Engines can be had within the block. All their processes are gone when it is left."""
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(engine.live()) for engine in self._engines.values()]
            try:
                yield
            finally:
                for life in lives:
                    life.cancel()

    def engine(self, name: str) -> Engine:
        """Raises RelayError for a name that no engine has."""
        try:
            return self._engines[name]
        except KeyError:
            raise RelayError(Fault.UPSTREAM_MISCONFIGURED, f"There is no local engine {name!r}.") from None

    def status(self) -> list[EngineStatus]:
        return [engine.status() for engine in self._engines.values()]
