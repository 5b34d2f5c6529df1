"""Engines whose processes are played, for tests in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from adapters.local.address import EngineAddress
from adapters.local.condition import Condition
from adapters.local.engine import Engine
from adapters.local.process import LaunchFailed
from adapters.local.spec import EngineSpec


def now() -> float:
    return asyncio.get_running_loop().time()


class PlayedRun:
    last_line = "Loading weights"

    def __init__(self, number: int) -> None:
        self.address = EngineAddress(f"http://127.0.0.1:{number}/v1")
        self.pid = number
        self.began = now()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    @property
    def crashed(self) -> bool:
        return self._ended.done()

    def crash(self, how: str = "it was ended by SIGKILL") -> None:
        self._ended.set_result(how)


class Stage:
    """What the processes of one engine do next."""

    def __init__(self) -> None:
        self.load_time = 0.0
        self.condition = Condition.READY
        self.launch_problem: str | None = None
        self.crash_at_start = False
        self.stop_time = 0.0
        self.answers = asyncio.Event()
        self.answers.set()
        self.runs: list[PlayedRun] = []
        self.running = 0
        self.checks = 0

    @property
    def run(self) -> PlayedRun:
        return self.runs[-1]

    @property
    def starts(self) -> list[float]:
        """When it was started."""
        return [run.began for run in self.runs]

    @asynccontextmanager
    async def launch(self, spec: EngineSpec) -> AsyncIterator[PlayedRun]:
        run = PlayedRun(len(self.runs) + 1)
        self.runs.append(run)
        if self.launch_problem is not None:
            raise LaunchFailed(self.launch_problem)
        assert self.running == 0
        self.running = 1
        if self.crash_at_start:
            run.crash("it ended with status 1")
        try:
            yield run
        finally:
            await asyncio.sleep(self.stop_time)
            self.running = 0

    async def probe(self, spec: EngineSpec, address: EngineAddress) -> Condition:
        self.checks += 1
        await self.answers.wait()
        if self.run.crashed:
            return Condition.GONE
        return Condition.LOADING if now() < self.run.began + self.load_time else self.condition


class Visitor:
    """A lease that is given back when asked for, once it is free."""

    def __init__(self, engine: Engine) -> None:
        self.busy = True
        self.heard: list[str] = []
        self.deaf = False
        self._engine = engine

    def recalled(self) -> None:
        self.heard.append("recalled")
        if not self.busy and not self.deaf:
            self._engine.release(self)

    def ended(self) -> None:
        self.heard.append("ended")

    def leave(self) -> None:
        """The last request is over."""
        if "recalled" in self.heard:
            self._engine.release(self)
        else:
            self._engine.use(self, False)


async def visit(engine: Engine, on_progress: Callable[[str], None] = lambda text: None) -> Visitor:
    """A lease with a request open."""
    await engine.ready(on_progress)
    visitor = Visitor(engine)
    engine.add(visitor)
    return visitor
