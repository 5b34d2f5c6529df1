"""One of several engines that serve the same models: what is known of it, and whether it can take work."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Protocol

import msgspec

from adapters.base import ChatAdapter, Embedder
from adapters.breaker import Breaker
from adapters.engine_calls import EngineCalls
from adapters.engine_health import Health, probe
from adapters.engine_stats import EngineStats
from adapters.errors import Fault
from adapters.openai_compatible import OpenAICompatible
from adapters.replica_choice import MOST_EXCESS, load_of

LOOKS = 2  # in a row that found nobody there: one may be lost by an engine that is hard at work
FRESH = 60.0  # seconds for which a look holds


class ReplicaEngine(ChatAdapter, Embedder, Protocol):
    """An adapter that keeps a record."""

    @property
    def stats(self) -> EngineStats: ...


Look = Callable[[int], Awaitable[Health]]
"""Looks at an engine, given how many requests the relay has open there. Costs nothing."""


class State(Enum):
    UP = "up"
    BUSY = "busy"
    """It answers; more work would wait."""
    RESTING = "resting"
    """It asked for no new work for a while."""
    DRAINING = "draining"
    DOWN = "down"


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """For the operator. Times are in seconds, `looked` and `failed` ago; averages are those of `EngineStats`."""

    name: str
    state: State
    weight: float
    open: int
    waiting: int
    """What the engine itself said that it has waiting."""
    first_token: float | None
    tokens_per_second: float | None
    looked: float | None
    reason: str
    """Why it takes no work, in words; `""` if it does."""
    last_error: Fault | None
    failed: float | None


class Replica:
    """`places` is how many requests it works on at once, `weight` its strength beside the others."""

    def __init__(
        self,
        name: str,
        engine: ReplicaEngine,
        look: Look,
        *,
        weight: float = 1.0,
        places: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.engine = engine
        self.look = look
        self.weight = weight
        self.excess = min(MOST_EXCESS, float(places))
        """By how much its load may exceed the least loaded one's before conversations leave it."""
        self.ticket = name.encode(), weight
        self.breaker = Breaker(clock)
        self.open = 0
        self.draining = False
        """It finishes what it has, and gets nothing new: the operator's word."""
        self._clock = clock
        self._health: Health | None = None
        self._looked_at = float("-inf")
        self._misses = 0

    @property
    def waiting(self) -> int:
        """Requests in the engine's own queue, as it said last; ours among them."""
        load = self._health.load if self._health is not None and self._is_fresh else None
        return (load.waiting if load is not None else None) or 0

    @property
    def load(self) -> float:
        return load_of(self.open, self.waiting, self.weight)

    @property
    def is_there(self) -> bool:
        """Whether the looks at it found it, as far as they are of late."""
        return self._misses < LOOKS or not self._is_fresh

    @property
    def rest(self) -> float:
        """Seconds for which it has asked for no new work."""
        return max(0.0, self.engine.stats.rests_until - self.engine.stats.clock())

    @property
    def is_usable(self) -> bool:
        return not self.draining and self.is_there and self.breaker.admits and not self.rest

    @property
    def state(self) -> State:
        if self.draining:
            return State.DRAINING
        if not self.is_there or self.breaker.is_open:
            return State.DOWN
        if self.rest:
            return State.RESTING
        busy = self._health is not None and self._is_fresh and self._health.busy
        return State.BUSY if busy else State.UP

    @property
    def status(self) -> ReplicaStatus:
        stats, now = self.engine.stats, self._clock()
        return ReplicaStatus(
            name=self.name,
            state=self.state,
            weight=self.weight,
            open=self.open,
            waiting=self.waiting,
            first_token=stats.first_token,
            tokens_per_second=stats.tokens_per_second,
            looked=None if self._health is None else now - self._looked_at,
            reason=self._reason(),
            last_error=stats.last_error,
            failed=None if stats.last_error_at is None else stats.clock() - stats.last_error_at,
        )

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """A request is open there within the block."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    def saw(self, health: Health) -> None:
        """Take in what a look has shown."""
        missed = self._misses >= LOOKS
        self._misses = 0 if health.ready else self._misses + 1
        if health.ready and missed:
            self.breaker.close()  # it was gone and is there again: its failures were those of another life
        self._health = health
        self._looked_at = self._clock()

    def answered(self) -> None:
        """It is there, whatever the looks at it say."""
        self._misses = 0

    @property
    def _is_fresh(self) -> bool:
        return self._clock() - self._looked_at <= FRESH

    def _reason(self) -> str:
        if not self.is_there and self._health is not None:
            return self._health.reason
        if self.breaker.is_open:
            return f"it keeps failing; the next trial comes in {self.breaker.pause:.0f} seconds"
        if self.rest:
            return f"it asked for no new work for {self.rest:.0f} seconds"
        return ""


def replica_of(
    name: str, calls: EngineCalls, *, weight: float = 1.0, clock: Callable[[], float] = time.monotonic
) -> Replica:
    """A replica at the address that `calls` go to."""
    engine = OpenAICompatible(calls, stats=EngineStats(clock))

    def look(open_requests: int) -> Awaitable[Health]:
        return probe(calls, open_requests=open_requests)

    return Replica(name, engine, look, weight=weight, places=engine.admission.limit, clock=clock)
