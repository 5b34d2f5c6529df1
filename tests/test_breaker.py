"""The breaker: when an upstream is left alone, and when it is tried again."""

from __future__ import annotations

import pytest

from adapters.breaker import FIRST_PAUSE, LONGEST_PAUSE, THRESHOLD, Breaker, Breakers
from adapters.errors import Fault, RelayError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: Breaker, times: int = 1, fault: Fault = Fault.UPSTREAM_UNREACHABLE) -> None:
    for _ in range(times):
        with pytest.raises(RelayError), breaker.watching():
            raise RelayError(fault, "no")


def succeed(breaker: Breaker) -> None:
    with breaker.watching():
        pass


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    fail(breaker, THRESHOLD)
    return breaker


@pytest.mark.parametrize("fault", [Fault.UPSTREAM_ERROR, Fault.UPSTREAM_TIMEOUT, Fault.UPSTREAM_UNREACHABLE])
def test_it_opens_after_failures_in_a_row(fault: Fault) -> None:
    breaker = Breaker(Clock())
    fail(breaker, THRESHOLD - 1, fault)
    assert breaker.admits
    fail(breaker, 1, fault)
    assert not breaker.admits


def test_an_answer_between_failures_counts_anew() -> None:
    breaker = Breaker(Clock())
    for _ in range(3):
        fail(breaker, THRESHOLD - 1)
        succeed(breaker)
    assert breaker.admits


@pytest.mark.parametrize("fault", [Fault.INVALID_VALUE, Fault.RATE_LIMITED, Fault.QUOTA_EXHAUSTED])
def test_a_refusal_is_an_answer(fault: Fault) -> None:
    breaker = Breaker(Clock())
    fail(breaker, 2 * THRESHOLD, fault)
    assert breaker.admits


@pytest.mark.parametrize("fault", [Fault.UPSTREAM_TIMEOUT, Fault.UPSTREAM_UNREACHABLE])
@pytest.mark.parametrize(
    ("given", "waited", "admits"),
    [(-1.0, 0.0, True), (0.5, 0.5, True), (9.0, 6.0, True), (9.0, 1.0, False), (10.0, 10.0, False)],
)
def test_a_caller_in_a_hurry_shuts_out_nobody(fault: Fault, given: float, waited: float, admits: bool) -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(THRESHOLD):
        with pytest.raises(RelayError), breaker.watching(given):
            clock.now += waited
            raise RelayError(fault, "no")
    assert breaker.admits is admits


def test_an_error_is_a_failure_however_long_its_caller_would_have_waited() -> None:
    breaker = Breaker(Clock())
    for _ in range(THRESHOLD):
        with pytest.raises(RelayError), breaker.watching(-1.0):
            raise RelayError(Fault.UPSTREAM_ERROR, "no")
    assert not breaker.admits


def test_after_its_pause_one_request_is_let_through() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += FIRST_PAUSE - 0.1
    assert not breaker.admits
    clock.now += 0.2
    assert breaker.admits
    with breaker.watching():
        assert not breaker.admits
    assert breaker.admits


def test_a_failed_trial_doubles_the_pause_up_to_a_limit_and_a_good_one_ends_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    pause = FIRST_PAUSE
    for _ in range(6):
        clock.now += pause + 0.1
        fail(breaker)
        pause = min(2 * pause, LONGEST_PAUSE)
        clock.now += pause - 0.2
        assert not breaker.admits
        clock.now += 0.2
    assert pause == LONGEST_PAUSE
    succeed(breaker)
    fail(breaker, THRESHOLD)
    clock.now += FIRST_PAUSE + 0.1
    assert breaker.admits


def test_a_trial_that_is_given_up_leaves_room_for_the_next() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += FIRST_PAUSE
    with pytest.raises(KeyboardInterrupt), breaker.watching():
        raise KeyboardInterrupt
    assert breaker.admits


def test_there_is_one_for_each_upstream_and_model_and_they_do_not_pile_up() -> None:
    breakers = Breakers(Clock())
    fail(breakers.of("cloudflare", "a"), THRESHOLD)
    assert not breakers.of("cloudflare", "a").admits
    assert breakers.of("cloudflare", "b").admits and breakers.of("engine", "a").admits
    for i in range(1000):
        breakers.of("cloudflare", f"model-{i}")
    assert breakers.of("cloudflare", "a").admits


def test_answers_that_begin_well_and_break_off_count_too() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(THRESHOLD):
        assert not breaker.is_open and breaker.pause == 0.0
        with breaker.beginning():
            pass
        breaker.broke(RelayError(Fault.INVALID_VALUE, "not its fault"))
        breaker.broke(RelayError(Fault.UPSTREAM_ERROR, "its fault"))
    assert breaker.is_open and not breaker.admits
    assert breaker.pause == FIRST_PAUSE
    clock.now += FIRST_PAUSE
    with breaker.beginning():
        assert not breaker.admits
    assert breaker.admits and not breaker.is_open, "a trial is over when its answer begins"


def test_open_ones_are_counted_by_upstream() -> None:
    breakers = Breakers(Clock())
    for model in ("a", "b"):
        fail(breakers.of("cloudflare", model), THRESHOLD)
    fail(breakers.of("cloudflare", "c"))
    succeed(breakers.of("engine", "a"))
    assert breakers.count_open() == {"cloudflare": 2, "engine": 0}
