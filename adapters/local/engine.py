"""One engine's life: started when it is wanted, watched, stopped when it is not, started again when it fails."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from enum import Enum

from adapters.errors import RelayError
from adapters.local.address import EngineAddress
from adapters.local.backoff import Backoff
from adapters.local.bell import Bell
from adapters.local.condition import Checkup, Condition, Probe
from adapters.local.failures import Failures
from adapters.local.memory import MemoryBudget
from adapters.local.pace import Pace
from adapters.local.process import LaunchFailed
from adapters.local.run import Ended, Launch, Run, alongside
from adapters.local.spec import EngineSpec
from adapters.local.status import EngineStatus, State
from adapters.local.usage import Lease, Usage

log = logging.getLogger("relay.engines")

_FIRST_LOOK, _LOOKS_APART = 0.1, 1.0  # seconds between two checks of an engine that starts
_TELLING = 1.0  # seconds between two reports of its progress

OnProgress = Callable[[str], None]


class _Order(Enum):
    """Why a running engine is to stop."""

    STOP = "stop"
    EVICT = "evict"
    IDLE = "idle"


class Engine:
    """A Tenant of the memory budget. Everything happens in one event loop, whose clock is the only one."""

    def __init__(self, spec: EngineSpec, launch: Launch, probe: Probe, budget: MemoryBudget, pace: Pace) -> None:
        self.spec = spec
        self.name = spec.name
        self.memory = spec.memory or 0
        self._launch = launch
        self._probe = probe
        self._budget = budget
        self._pace = pace
        backoff = Backoff(first=pace.first_backoff, longest=pace.longest_backoff, good=pace.good_run)
        self._failures = Failures(spec.name, backoff)
        self._usage = Usage(spec.keep_alive)
        self._bell = Bell()
        self._state = State.STOPPED
        self._changed_at = 0.0
        self._run: Run | None = None
        self._runs = 0
        self._progress = ""
        self._order: _Order | None = None
        self._doubted = False
        self._checkup = self._new_checkup()
        self._ready_at: float | None = None
        self._comes_back = False

    # ---------------------------------------------------------------- for those who use it

    async def ready(self, on_progress: OnProgress) -> EngineAddress:
        """Wait until the engine is ready, starting it if need be; `add` a lease before the next await to keep it so.

        Whoever stops waiting does not stop the start. Raises RelayError where the engine cannot be had.
        """
        failed_before, told = self._failures.starts, ""
        self._usage.waiting += 1
        self._bell.ring()
        self._budget.bell.ring()
        try:
            while True:
                if self._run is not None and self._state is State.READY and not (self._doubted or self._order):
                    return self._run.address
                if self._failures.starts != failed_before:
                    raise self._failures.as_error(self._now())
                if self._state is State.FAILED and not self._worth_waiting():
                    raise self._failures.as_error(self._now())
                if self._progress != told:
                    told = self._progress
                    on_progress(told)
                await self._bell.heard()
        finally:
            self._usage.waiting -= 1
            self._touch()

    def add(self, lease: Lease) -> None:
        self._usage.leases.add(lease)

    def use(self, lease: Lease, busy: bool) -> None:
        """The first request of a lease begins, or the last one ends."""
        lease.busy = busy
        self._touch()

    def release(self, lease: Lease) -> None:
        self._usage.leases.discard(lease)
        self._touch()

    def doubt(self) -> None:
        """A caller could not use the engine: look at it at once, and let nobody have it before."""
        self._checkup.report()
        if self._state is State.READY:
            self._doubted = True
            self._bell.ring()

    # ---------------------------------------------------------------- for the operator

    async def stop(self) -> None:
        """Drain and stop it, whoever waits for it; a later request starts it again."""
        self._comes_back = False
        self._failures.forgive()
        runs = self._runs
        if self._state is State.FAILED:
            self._enter(State.STOPPED)
        while self._run_is(runs):
            self._order = _Order.STOP
            self._bell.ring()
            await self._bell.heard()

    async def start(self, on_progress: OnProgress) -> None:
        """As `ready`, at once whatever has failed before."""
        self._failures.forgive()
        if self._state is State.FAILED:
            self._enter(State.STOPPED)
        await self.ready(on_progress)

    def status(self) -> EngineStatus:
        now = self._now()
        busy = self._usage.busy
        return EngineStatus(
            name=self.name,
            state=State.BUSY if busy and self._state is State.READY else self._state,
            seconds=now - self._changed_at,
            pid=self._run.pid if self._run else None,
            address=self._run.address if self._run else None,
            waiting=self._usage.waiting,
            busy=busy,
            idle_for=now - since if (since := self.idle_since) is not None else None,
            starts=self._runs,
            failures=self._failures.in_a_row,
            retry_in=max(self._failures.retry_at - now, 0.0) if self._state is State.FAILED else None,
            progress=self._progress,
            error=self._failures.error,
            memory=self.spec.memory,
        )

    # ---------------------------------------------------------------- for the memory budget

    @property
    def idle_since(self) -> float | None:
        if self._state is not State.READY or self._order or self._usage.wanted:
            return None
        return self._usage.last

    @property
    def leaving(self) -> bool:
        return self._state is State.DRAINING or self._order is not None

    def evict(self) -> None:
        self._order = self._order or _Order.EVICT
        self._bell.ring()

    # ---------------------------------------------------------------- its life

    async def live(self) -> None:
        """All of its starts and stops, until cancelled."""
        self._changed_at = self._now()
        while True:
            await self._until_wanted()
            self._progress = "waiting for memory"
            self._bell.ring()
            try:
                async with self._budget.room(self):
                    await self._one_run()
            except RelayError as exc:
                self._comes_back = False
                self._progress = ""
                self._failures.refused(exc)
                self._bell.ring()
                await asyncio.sleep(0)  # those who waited hear of it before anybody is waited for

    async def _until_wanted(self) -> None:
        while True:
            now = self._now()
            until: float | None = None
            if self._usage.waiting or (self._comes_back and now < self._usage.until):
                if self._state is not State.FAILED or now >= self._failures.retry_at:
                    return
                until = self._failures.retry_at
            await self._bell.heard(until)

    async def _one_run(self) -> None:
        self._runs += 1
        self._failures.started()
        self._order = None
        self._doubted = False
        self._ready_at = None
        self._checkup = self._new_checkup()
        self._progress = "starting"
        self._enter(State.STARTING)
        log.info("engine %s: starting", self.name)
        try:
            async with self._launch(self.spec) as run:
                self._run = run
                try:
                    await self._begin(run)
                    await self._serve(run)
                finally:
                    self._usage.end(self._now())
                    if self._state is not State.STARTING:
                        self._enter(State.DRAINING)
        except (Ended, LaunchFailed) as exc:
            self._run = None
            self._failed(str(exc))
        else:
            self._run = None
            self._failures.went_well()
            self._comes_back = False
            log.info("engine %s: stopped", self.name)
            self._enter(State.STOPPED)

    async def _begin(self, run: Run) -> None:
        if problem := await alongside(run, self._until_ready(run)):
            raise Ended(problem)
        self._ready_at = self._now()
        log.info("engine %s: ready after %.1f s", self.name, self._ready_at - self._changed_at)
        if not self._comes_back:  # a crash does not make it younger
            self._usage.last = self._ready_at
        self._progress = ""
        self._comes_back = True
        self._failures.error = None
        self._enter(State.READY)

    async def _until_ready(self, run: Run) -> str | None:
        """What went wrong, if something did."""
        began = self._now()
        pause, told = _FIRST_LOOK, began
        while not self._order:
            if await self._look(run) is Condition.READY:
                return None
            now = self._now()
            if now - began >= self.spec.start_timeout:
                return f"it was not ready after {self.spec.start_timeout:g} seconds"
            if now - told >= _TELLING:
                told = now
                self._tell_progress(now - began, run.last_line)
            await self._nap(min(now + pause, began + self.spec.start_timeout))
            pause = min(pause * 1.3, _LOOKS_APART)
        return "it was stopped while it was starting"

    async def _nap(self, until: float) -> None:
        while not self._order and await self._bell.heard(until):
            pass  # those who wait for the engine ring too

    async def _serve(self, run: Run) -> None:
        """Until it is stopped in order. Raises Ended for any other end."""
        while True:
            order = await alongside(run, self._watch(run))
            if order is None:
                raise Ended("it no longer answered")
            self._order = order
            if await alongside(run, self._drain(order)):
                return
            self._order = None
            self._enter(State.READY)  # a request came meanwhile

    async def _watch(self, run: Run) -> _Order | None:
        """Why it is to stop; `None`: because it is sick."""
        next_check = self._now() + self._interval()
        while True:
            if self._order:
                return self._order
            now = self._now()
            if now >= self._usage.until:
                return _Order.IDLE
            if self._doubted or now >= next_check:
                health = await self._look(run)
                now = self._now()
                if self._checkup.sick(health, busy=self._usage.wanted, now=now):
                    return None
                fine = health is Condition.READY or (health is Condition.SILENT and self._usage.wanted)
                self._settle(doubted=not fine)
                next_check = now + (self._interval() if fine else self._pace.recheck_interval)
                if not fine:
                    await self._nap(next_check)
                continue
            await self._bell.heard(min(next_check, self._usage.until))

    async def _drain(self, order: _Order) -> bool:
        """Whether the engine may go now. Not if it was to go for want of work and work has come."""
        self._enter(State.DRAINING)
        self._usage.recall()
        if order is _Order.STOP:
            await self._until(lambda: not self._usage.leases, self._pace.drain_timeout)
            return True
        await self._until(lambda: all(lease.busy for lease in self._usage.leases), self._pace.recall_timeout)
        return not self._usage.wanted

    # ---------------------------------------------------------------- what it is made of

    async def _look(self, run: Run) -> Condition:
        try:
            async with asyncio.timeout(self._pace.check_timeout):
                return await self._probe(self.spec, run.address)
        except TimeoutError:
            return Condition.SILENT

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        deadline = self._now() + seconds
        while not holds() and await self._bell.heard(deadline):
            pass

    def _failed(self, how: str) -> None:
        now = self._now()
        pause = self._failures.ended(how, None if self._ready_at is None else now - self._ready_at, now)
        self._progress = ""
        self._comes_back = self._comes_back and self._order is None
        log.warning("engine %s failed: %s; it may be started again in %g s", self.name, how, pause)
        self._enter(State.FAILED)

    def _worth_waiting(self) -> bool:
        """Whether a failed engine is likely to be ready soon."""
        left = self._failures.retry_at - self._now()
        return left <= 0 or (self._ready_at is not None and left <= self._pace.backoff_patience)

    def _settle(self, doubted: bool) -> None:
        if self._doubted != doubted:
            self._doubted = doubted
            self._bell.ring()

    def _tell_progress(self, seconds: float, line: str) -> None:
        self._progress = f"starting for {seconds:.0f} s" + (f": {line}" if line else "")
        self._bell.ring()

    def _touch(self) -> None:
        self._usage.last = self._now()
        self._bell.ring()
        self._budget.bell.ring()

    def _run_is(self, number: int) -> bool:
        return self._runs == number and self._state not in {State.STOPPED, State.FAILED}

    def _enter(self, state: State) -> None:
        self._state = state
        self._changed_at = self._now()
        self._bell.ring()
        self._budget.bell.ring()

    def _interval(self) -> float:
        return self._pace.check_interval * random.uniform(1 - self._pace.jitter, 1 + self._pace.jitter)

    def _new_checkup(self) -> Checkup:
        return Checkup(failures_allowed=self._pace.failures_allowed, hung_after=self._pace.hung_after)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
