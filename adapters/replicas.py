"""Several engines that serve the same models at different addresses, as one.

The relay splits no model over machines: it chooses among whole engines. A conversation stays where its prefix is
cached as long as that engine is not much busier than the others; everything else goes to the lighter of two.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from adapters.base import Call, EventStream
from adapters.canonical import ChatRequest, ChatResult, EmbeddingRequest, EmbeddingResult
from adapters.errors import Fault, RelayError
from adapters.replica import Replica, ReplicaStatus, State
from adapters.replica_choice import conversation_key, is_overloaded, lighter_of_two, rendezvous

T = TypeVar("T")

log = logging.getLogger("relay")

INTERVAL = 5.0  # seconds between two rounds of looks, a fifth more or less
IDLE = 60.0  # seconds without a request after which nobody looks any more: engines may want to sleep


class Replicas:
    """A ChatAdapter and an Embedder. Every method that asks a replica raises RelayError.

    Until the first event of an answer a request that fails is tried once more on another replica. One that is alone is
    asked whatever is known of it, unless it is drained. `draw` gives numbers from 0 to 1, without 1.
    """

    def __init__(
        self,
        name: str,
        replicas: Sequence[Replica],
        *,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._replicas = tuple(replicas)
        self._interval = interval
        self._clock = clock
        self._draw = draw
        self._asked_at = float("-inf")
        self._asked = asyncio.Event()

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        """The whole answer."""

        async def attempt(replica: Replica) -> ChatResult:
            with replica.occupied(), replica.breaker.watching(call.remaining()):
                return await replica.engine.chat(request, call)

        return await self._tried(call, self._key(request, call), attempt)

    @asynccontextmanager
    async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        """The answer in pieces; entered once the first of them is there."""
        async with AsyncExitStack() as stack:

            async def attempt(replica: Replica) -> EventStream:
                return await stack.enter_async_context(_streaming(replica, request, call))

            yield await self._tried(call, self._key(request, call), attempt)

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResult:
        """Vectors; nothing of one request is of use to the next, so that any replica will do."""

        async def attempt(replica: Replica) -> EmbeddingResult:
            with replica.occupied(), replica.breaker.watching(call.remaining()):
                return await replica.engine.embed(request, call)

        return await self._tried(call, None, attempt)

    # ------------------------------------------------------------ for the operator

    def status(self) -> list[ReplicaStatus]:
        return [replica.status for replica in self._replicas]

    @property
    def is_drained(self) -> bool:
        """Whether none of them takes new work, for the operator wants it so."""
        return all(replica.draining for replica in self._replicas)

    def drain(self, names: Collection[str]) -> None:
        """Send the replicas of these names no more requests, and all the others again; a name of none is nobody's."""
        for replica in self._replicas:
            replica.draining = replica.name in names

    # ------------------------------------------------------------ looks

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look at the replicas every few seconds until the block is left, as long as anybody asks for them."""
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._keep_looking())
            try:
                yield
            finally:
                looking.cancel()

    async def look(self) -> None:
        """One look at each replica. Raises nothing."""
        async with asyncio.TaskGroup() as tasks:
            for replica in self._replicas:
                tasks.create_task(self._look(replica))

    async def _keep_looking(self) -> None:
        while True:
            self._asked.clear()
            if self._clock() - self._asked_at > IDLE:
                await self._asked.wait()
            await self.look()
            # Not in step with the relay's other processes.
            await asyncio.sleep(self._interval * (0.8 + 0.4 * self._draw()))

    async def _look(self, replica: Replica) -> None:
        before = replica.state
        try:
            health = await replica.look(replica.open)
        except Exception as exc:  # noqa: BLE001 - a look is not worth the server that it would take down
            frames = "".join(traceback.format_tb(exc.__traceback__))
            log.error(
                "bug: %s while replica %s/%s was looked at\n%s", type(exc).__name__, self.name, replica.name, frames
            )
            return
        replica.saw(health)
        if (replica.state is State.DOWN) != (before is State.DOWN):
            reason = f": {health.reason}" if health.reason else ""
            log.warning("replica %s/%s is %s%s", self.name, replica.name, replica.state.value, reason)

    # ------------------------------------------------------------ choice

    def _key(self, request: ChatRequest, call: Call) -> bytes | None:
        if len(self._replicas) == 1:
            return None
        return conversation_key(call.affinity or call.tenant or "", request)

    async def _tried(self, call: Call, key: bytes | None, attempt: Callable[[Replica], Awaitable[T]]) -> T:
        self._asked_at = self._clock()
        self._asked.set()
        if self.is_drained:
            call.upstream = self.name
            raise RelayError(
                Fault.OVERLOADED,
                f"The engine '{self.name}' is drained: it takes no new requests until its operator resumes it.",
            )
        if len(self._replicas) == 1:
            return await _noted(self._replicas[0], attempt)
        replica = self._choose(key)
        if replica is None:
            return await self._tried_all_the_same(call, attempt)
        try:
            return await _noted(replica, attempt)
        except RelayError as exc:
            other = self._choose(key, besides=replica)
            if other is None or not _is_its_own(exc) or call.remaining() <= 0:
                raise
            reason = exc.code or exc.fault.value.code
        call.handovers.append(f"{self.name}/{replica.name}={reason}")
        log.warning("replica %s/%s fails (%s), request %s", self.name, replica.name, reason, call.id)
        return await _noted(other, attempt)

    def _choose(self, key: bytes | None, *, besides: Replica | None = None) -> Replica | None:
        """Who takes a request; `None` if nobody can."""
        usable = [replica for replica in self._replicas if replica is not besides and replica.is_usable]
        if not usable:
            return None
        loads = [replica.load for replica in usable]
        if key is not None:
            at_home = rendezvous(key, [replica.ticket for replica in usable])
            if not is_overloaded(loads[at_home], min(loads), usable[at_home].excess):
                return usable[at_home]
        return usable[lighter_of_two(loads, self._draw)]

    async def _tried_all_the_same(self, call: Call, attempt: Callable[[Replica], Awaitable[T]]) -> T:
        """With nobody who can take work the least bad one is tried: what is known of it may be out of date.

        A wish is not: who asked to be left alone, by `Retry-After` or by the operator's word, is left alone.
        """
        least_bad = min(
            (replica for replica in self._replicas if not replica.draining and not replica.rest),
            key=lambda replica: (not replica.is_there, replica.breaker.pause, replica.load),
            default=None,
        )
        if least_bad is None:
            call.upstream = self.name
            rests = [replica.rest for replica in self._replicas if not replica.draining]
            raise RelayError(Fault.OVERLOADED, self._plight(), retry_after=max(1.0, min(rests)) if rests else None)
        try:
            return await _noted(least_bad, attempt)
        except RelayError as exc:
            if _is_its_own(exc):
                exc.message = f"{self._plight()} {exc.message}"
            raise

    def _plight(self) -> str:
        counts = Counter(replica.state.value for replica in self._replicas)
        states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        return f"No replica of the engine '{self.name}' can take work ({states})."


def _is_its_own(exc: RelayError) -> bool:
    """Whether another replica may do better: limits, trouble and misconfiguration are of one replica."""
    return exc.fault.value.status in (429, 502, 503, 504)


async def _noted(replica: Replica, attempt: Callable[[Replica], Awaitable[T]]) -> T:
    result = await attempt(replica)
    replica.answered()
    return result


@asynccontextmanager
async def _streaming(replica: Replica, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
    with replica.occupied():
        async with AsyncExitStack() as stack:
            with replica.breaker.beginning(call.remaining()):
                batches = await stack.enter_async_context(replica.engine.stream_chat(request, call))
            try:
                yield batches
            except RelayError as exc:  # raised where the batches are read, and thrown in here on its way out
                replica.breaker.broke(exc)
                raise
            else:
                replica.breaker.close()
