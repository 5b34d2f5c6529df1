"""Retries and hand-over: who is tried, and who next, until the first event of an answer.

After that never: what a client has begun to read cannot be begun anew by somebody else.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from adapters.base import Call
from adapters.breaker import Breakers
from adapters.cloudflare import NeedsStream
from adapters.errors import Fault, RelayError, Retry
from proxy.backends import Route

T = TypeVar("T")
B = TypeVar("B")

log = logging.getLogger("relay")

_LONGEST_PAUSE = 2.0  # seconds; a client is rather told to come back, by a status, while it can still be sent
_SHORTEST_WAY = 0.5  # seconds; where somebody else can answer, waiting longer for this one makes no sense
_SLOW_TRY = 2.0  # seconds; nor does a second try there, where the first took longer than this to fail
_SHARE = 2 / 3  # of the time that the client still waits, for one who is not the last to be asked
_TOLD_FOR = 60.0  # seconds; the same news again and again would fill the log until midnight
PASSED_OVER = "breaker_open"  # why, of an upstream that was not even asked


class Retries(msgspec.Struct, frozen=True):
    """`limit` extra tries, the first after about `pause` seconds, each pause twice the last."""

    limit: int = 2
    pause: float = 0.25


class Handover:
    """Tries the ways to an answer. One per process: it remembers which of them do not work."""

    def __init__(self, retries: Retries, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._retries = retries
        self._clock = clock
        self._breakers = Breakers(clock)
        self._told: dict[str, tuple[float, int]] = {}  # news: when it was logged, and how often it came since

    def count_open_breakers(self) -> dict[str, int]:
        """By upstream: how many models are not asked for there at present."""
        return self._breakers.count_open()

    async def run(self, ways: Sequence[tuple[Route, B]], call: Call, attempt: Callable[[Route, B], Awaitable[T]]) -> T:
        """What `attempt` gives for the first way that works. Raises RelayError.

        If none does, the error is the last one, except that what only a stand-in refuses is not the caller's mistake:
        then it is the first.
        """
        if len(ways) == 1:
            route, able = ways[0]
            call.upstream = route.name  # who is told of, should it fail before it is asked
            return await self._retried(call, lambda: attempt(route, able), alone=True)
        first: RelayError | None = None
        admitted = self._admitted(ways, call)
        for i, (route, able) in enumerate(admitted):
            last = i == len(admitted) - 1
            call.upstream = route.name
            try:
                given = call.remaining() if last else min(call.remaining(), route.patience or float("inf"))
                with self._breakers.of(route.name, route.model.id).watching(given):
                    async with _at_most(_patience(route, call, last), route):
                        return await self._retried(call, lambda r=route, a=able: attempt(r, a), alone=last)  # type: ignore[misc]  # binds now
            except RelayError as exc:
                if not _elsewhere(exc):
                    raise (first or exc) from None
                if last or call.remaining() <= 0:
                    raise
                first = first or exc
                reason = exc.code or exc.fault.value.code
                call.handovers.append(f"{route.name}={reason}")
                self._tell(f"{route.name} does not answer ({reason})", call)
        raise AssertionError("there is always a last way")

    def _admitted(self, ways: Sequence[tuple[Route, B]], call: Call) -> Sequence[tuple[Route, B]]:
        """Those whose breakers let requests pass; all of them if none does, for refusing helps nobody."""
        admits = [self._breakers.of(route.name, route.model.id).admits for route, _ in ways]
        if not any(admits):
            return ways
        before = ways[: admits.index(True)]  # those after the first who is asked may not be needed
        call.handovers.extend(f"{route.name}={PASSED_OVER}" for route, _ in before)
        return [way for way, admitted in zip(ways, admits, strict=True) if admitted]

    def _tell(self, news: str, call: Call) -> None:
        """Log it, but what was logged a moment ago only as a number when it is logged next."""
        now = self._clock()
        since, more = self._told.get(news, (-_TOLD_FOR, 0))
        if now - since < _TOLD_FOR:
            self._told[news] = since, more + 1
            log.debug("%s: handed over, request %s", news, call.id)
            return
        self._told[news] = now, 0
        others = f", {more} others since it was last told" if more else ""
        log.warning("%s: handed over, request %s%s", news, call.id, others)

    async def _retried(self, call: Call, attempt: Callable[[], Awaitable[T]], *, alone: bool) -> T:
        """`alone`: nobody else will be asked, so that waiting is worth its time."""
        tries = 0
        while True:
            started = call.upstream_since = time.monotonic()
            began = self._clock()
            try:
                return await attempt()
            except RelayError as exc:
                pause = self._pause(exc, tries, call, alone)
                if pause is None or (not alone and self._clock() - began > _SLOW_TRY):
                    raise
            finally:
                call.upstream_seconds += time.monotonic() - started
                call.upstream_since = None
            tries += 1
            await asyncio.sleep(pause)

    def _pause(self, exc: RelayError, tries: int, call: Call, alone: bool) -> float | None:
        """Seconds until the next try, jittered; `None` if there shall be none."""
        if call.scene is not None and call.scene.scripted:
            return None  # the next try would be told to fail in the same way
        if exc.fault is Fault.UPSTREAM_UNREACHABLE and exc.retry_after is not None:
            return None  # an engine that does not start: another try could start it again, which takes long to fail
        allowed = {Retry.NO: 0, Retry.ONCE: min(1, self._retries.limit), Retry.YES: self._retries.limit}
        limit = allowed[exc.fault.retry]
        if not alone:
            limit = 0 if exc.fault is Fault.UPSTREAM_TIMEOUT else min(1, limit)
        if tries >= limit or isinstance(exc, NeedsStream):
            return None  # the stream that it needed was the other try
        pause = self._retries.pause * 2**tries * random.uniform(0.5, 1.5)
        if exc.fault is Fault.RATE_LIMITED and exc.retry_after is not None and self._retries.pause:
            pause = max(pause, exc.retry_after * random.uniform(1.0, 1.2))
        longest = _LONGEST_PAUSE if alone else _SHORTEST_WAY
        return pause if pause <= longest and pause < call.remaining() else None


def _patience(route: Route, call: Call, last: bool) -> float | None:
    """Seconds for one who is asked; some of the client's time is left to who is asked next. `None` is no limit."""
    if last:
        return None
    own = float("inf") if route.patience is None else route.patience
    seconds = min(own, max(0.0, call.remaining() * _SHARE))
    return None if seconds == float("inf") else seconds


@asynccontextmanager
async def _at_most(seconds: float | None, route: Route) -> AsyncIterator[None]:
    """Raises RelayError where what is inside takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise RelayError(Fault.UPSTREAM_TIMEOUT, f"The upstream '{route.name}' did not answer in time.") from None


def _elsewhere(exc: RelayError) -> bool:
    """Whether another upstream may do better: limits, allocations, trouble and misconfiguration are of one upstream."""
    return exc.fault.value.status in (429, 502, 503, 504)
