"""The record of an engine: averages, failures in a row, and how long a wait may be."""

from __future__ import annotations

import pytest

from adapters.canonical import Delta, Finish, Usage
from adapters.engine_stats import EngineStats, Watch
from adapters.errors import Fault, RelayError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stats(clock: Clock) -> EngineStats:
    return EngineStats(clock)


def answer(stats: EngineStats, clock: Clock, *, first: float, rest: float, usage: Usage | None) -> None:
    watch = Watch(stats)
    clock.now += first
    watch.batch([Delta("abc")])
    clock.now += rest
    watch.batch([Delta("def", "ghi"), Finish("stop", usage)])


def test_a_streams_times_are_averaged_with_the_newest_weighing_a_fifth(stats: EngineStats, clock: Clock) -> None:
    answer(stats, clock, first=1.0, rest=2.0, usage=Usage(completion_tokens=20))
    assert (stats.first_token, stats.tokens_per_second, stats.duration) == (1.0, 10.0, 3.0)
    answer(stats, clock, first=2.0, rest=1.0, usage=Usage(completion_tokens=20))
    assert stats.first_token == pytest.approx(1.2)
    assert stats.tokens_per_second == pytest.approx(12.0)
    assert stats.answers == 2


def test_tokens_that_nobody_counted_are_estimated(stats: EngineStats, clock: Clock) -> None:
    answer(stats, clock, first=1.0, rest=1.0, usage=None)
    assert stats.tokens_per_second == 3.0  # nine characters


def test_a_whole_answer_has_no_first_token(stats: EngineStats, clock: Clock) -> None:
    watch = Watch(stats)
    clock.now += 4.0
    watch.whole(Usage(completion_tokens=8))
    assert (stats.first_token, stats.tokens_per_second, stats.duration) == (None, 2.0, 4.0)


def test_what_takes_no_time_or_generates_nothing_has_no_speed(stats: EngineStats, clock: Clock) -> None:
    Watch(stats).whole(Usage(completion_tokens=8))
    Watch(stats).embedded()
    assert stats.tokens_per_second is None and stats.answers == 2


def test_failures_are_counted_until_an_answer_comes(stats: EngineStats, clock: Clock) -> None:
    for fault in (Fault.UPSTREAM_UNREACHABLE, Fault.UPSTREAM_ERROR):
        stats.failed(RelayError(fault, "x"))
    assert (stats.failures, stats.last_error, stats.last_error_at) == (2, Fault.UPSTREAM_ERROR, 100.0)
    stats.failed(RelayError(Fault.INVALID_VALUE, "the client's"))
    assert stats.failures == 2 and stats.last_error is Fault.UPSTREAM_ERROR
    Watch(stats).whole(None)
    assert stats.failures == 0 and stats.last_error is Fault.UPSTREAM_ERROR


def test_an_engine_rests_for_as_long_as_it_asks_to(stats: EngineStats) -> None:
    stats.failed(RelayError(Fault.OVERLOADED, "x"))
    assert stats.rests_until == 0.0
    stats.failed(RelayError(Fault.RATE_LIMITED, "x", retry_after=7.0))
    assert stats.rests_until == 107.0


@pytest.mark.parametrize(
    ("duration", "ahead", "places", "seconds"),
    [(None, 1, 1, 5.0), (2.0, 3, 1, 6.0), (2.0, 4, 2, 4.0), (0.01, 1, 1, 1.0), (60.0, 9, 1, 30.0)],
)
def test_the_wait_is_estimated_within_what_clients_obey(
    stats: EngineStats, duration: float | None, ahead: int, places: int, seconds: float
) -> None:
    stats.duration = duration
    assert stats.wait_for(ahead, places) == seconds
