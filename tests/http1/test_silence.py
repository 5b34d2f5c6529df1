"""The lazy timer, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, cast

import pytest

from adapters.http1.silence import Silence


class Handle:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: Handle) -> bool:
        return self.when < other.when


class Loop:
    """As much of an event loop as a timer sees."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., Any]) -> Handle:
        handle = Handle(self.now + delay, callback)
        heapq.heappush(self.timers, handle)
        return handle

    def run_until(self, now: float) -> None:
        while self.timers and self.timers[0].when <= now:
            handle = heapq.heappop(self.timers)
            self.now = handle.when
            if not handle.cancelled:
                handle.callback()
        self.now = now


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def expired(loop: Loop) -> list[float]:
    return []


@pytest.fixture
def silence(loop: Loop, expired: list[float]) -> Silence:
    return Silence(cast(asyncio.AbstractEventLoop, loop), lambda: expired.append(loop.now))


def test_a_wait_that_lasts_too_long_expires_when_its_own_time_is_over(
    loop: Loop, silence: Silence, expired: list[float]
) -> None:
    silence.limit(10)
    loop.run_until(7)
    silence.since = loop.time()
    loop.run_until(100)
    assert expired == [17]


def test_many_short_waits_do_not_expire_and_cost_no_timer_each(
    loop: Loop, silence: Silence, expired: list[float]
) -> None:
    silence.limit(10)
    for second in range(100):
        silence.since = loop.time()
        loop.run_until(second + 1)
        silence.since = None
    assert expired == []
    assert len(loop.timers) == 1


def test_what_the_reader_takes_does_not_count(loop: Loop, silence: Silence, expired: list[float]) -> None:
    silence.limit(10)
    loop.run_until(1000)
    silence.since = loop.time()
    loop.run_until(1009)
    assert expired == []


@pytest.mark.parametrize("seconds", [None, 50.0])
def test_a_new_limit_replaces_the_old_one(
    loop: Loop, silence: Silence, expired: list[float], seconds: float | None
) -> None:
    silence.limit(10)
    silence.limit(seconds)
    silence.since = loop.time()
    loop.run_until(49)
    assert expired == []
    loop.run_until(1000)
    assert expired == ([] if seconds is None else [50])


def test_nothing_expires_after_the_end(loop: Loop, silence: Silence, expired: list[float]) -> None:
    silence.limit(10)
    silence.since = loop.time()
    silence.end()
    silence.end()
    loop.run_until(1000)
    assert expired == []
