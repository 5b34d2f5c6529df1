"""Who is tried, how often, and who next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import msgspec
import pytest

from adapters.base import Call
from adapters.breaker import THRESHOLD
from adapters.catalogue import CHAT_TASK, Model
from adapters.errors import Fault, InvalidRequest, RelayError
from proxy.backends import Route, Upstream
from proxy.handover import Handover, Retries
from tests.support.simulated_time import simulated

pytestmark = pytest.mark.anyio

MODEL = Model(id="@cf/acme/chat", task=CHAT_TASK, status="listed")
ROUTES = {name: Route(name, Upstream(), MODEL) for name in ("cloudflare", "gpu", "cpu")}


class Upstreams:
    """Plays what each upstream does at each try: a fault, or `None` for an answer; the last one for ever."""

    def __init__(self, **scripts: list[RelayError | Fault | None]) -> None:
        self._scripts: dict[str, Iterator[RelayError | Fault | None]] = {
            name: iter([*script, *script[-1:] * 100]) for name, script in scripts.items()
        }
        self.asked: list[str] = []

    async def attempt(self, route: Route, able: str) -> str:
        assert able == f"able {route.name}"
        self.asked.append(route.name)
        outcome = next(self._scripts[route.name])
        if isinstance(outcome, Fault):
            raise RelayError(outcome, f"{route.name} says no")
        if outcome is not None:
            raise outcome
        return f"answer of {route.name}"


async def run(upstreams: Upstreams, *names: str, handover: Handover | None = None, call: Call | None = None) -> str:
    ways = [(ROUTES[name], f"able {name}") for name in names]
    return await (handover or Handover(Retries(2, 0.0))).run(ways, call or Call("id"), upstreams.attempt)


HANDED_OVER: dict[str, tuple[Fault, int]] = {
    "the day's allocation is spent": (Fault.QUOTA_EXHAUSTED, 1),
    "a rate limit": (Fault.RATE_LIMITED, 2),
    "an error": (Fault.UPSTREAM_ERROR, 2),
    "no connection": (Fault.UPSTREAM_UNREACHABLE, 2),
    "no answer in time": (Fault.UPSTREAM_TIMEOUT, 1),
    "wrong credentials": (Fault.UPSTREAM_AUTH, 1),
    "a blocked account": (Fault.UPSTREAM_ACCOUNT_BLOCKED, 1),
}


@pytest.mark.parametrize(("fault", "tries"), HANDED_OVER.values(), ids=HANDED_OVER)
async def test_what_another_may_do_better_is_handed_over(fault: Fault, tries: int) -> None:
    upstreams, call = Upstreams(cloudflare=[fault], gpu=[None]), Call("id")
    assert await run(upstreams, "cloudflare", "gpu", call=call) == "answer of gpu"
    assert upstreams.asked == ["cloudflare"] * tries + ["gpu"]
    assert call.handovers == [f"cloudflare={fault.value.code}"]


async def test_the_pause_before_another_try_is_short_and_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("proxy.handover.asyncio.sleep", sleep)
    for _ in range(20):
        upstreams = Upstreams(cloudflare=[Fault.UPSTREAM_ERROR, None])
        assert await run(upstreams, "cloudflare", "gpu", handover=Handover(Retries(2, 0.25))) == "answer of cloudflare"
    assert len(pauses) == len(set(pauses)) == 20
    assert all(0.125 <= pause <= 0.375 for pause in pauses)


KEPT = [Fault.INVALID_VALUE, Fault.MODEL_NOT_FOUND, Fault.CONTEXT_LENGTH_EXCEEDED, Fault.CONTENT_POLICY, Fault.LOOP]


@pytest.mark.parametrize("fault", KEPT)
async def test_what_is_wrong_with_the_request_is_not(fault: Fault) -> None:
    upstreams = Upstreams(cloudflare=[fault], gpu=[None])
    with pytest.raises(RelayError, match="cloudflare says no"):
        await run(upstreams, "cloudflare", "gpu")
    assert upstreams.asked == ["cloudflare"]


async def test_the_last_way_has_all_the_tries() -> None:
    upstreams = Upstreams(cloudflare=[Fault.QUOTA_EXHAUSTED], gpu=[Fault.UPSTREAM_ERROR, Fault.UPSTREAM_ERROR, None])
    assert await run(upstreams, "cloudflare", "gpu") == "answer of gpu"
    assert upstreams.asked == ["cloudflare", "gpu", "gpu", "gpu"]


async def test_where_nobody_answers_the_last_error_is_told() -> None:
    upstreams = Upstreams(
        cloudflare=[Fault.QUOTA_EXHAUSTED], gpu=[Fault.UPSTREAM_AUTH], cpu=[Fault.UPSTREAM_ACCOUNT_BLOCKED]
    )
    with pytest.raises(RelayError, match="cpu says no"):
        await run(upstreams, "cloudflare", "gpu", "cpu")
    assert upstreams.asked == ["cloudflare", "gpu", "cpu"]


async def test_what_only_a_stand_in_refuses_is_not_the_callers_mistake() -> None:
    upstreams = Upstreams(cloudflare=[Fault.QUOTA_EXHAUSTED], gpu=[InvalidRequest("not on this one")])
    with pytest.raises(RelayError, match="cloudflare says no"):
        await run(upstreams, "cloudflare", "gpu")


async def test_an_engine_that_does_not_start_is_not_started_again_for_the_same_request() -> None:
    upstreams = Upstreams(gpu=[RelayError(Fault.UPSTREAM_UNREACHABLE, "no device", retry_after=1.0), None])
    with pytest.raises(RelayError, match="no device"):
        await run(upstreams, "gpu")
    assert upstreams.asked == ["gpu"]


async def test_a_long_wish_to_wait_is_a_reason_to_ask_another() -> None:
    wish = RelayError(Fault.RATE_LIMITED, "later", retry_after=1.5)
    upstreams = Upstreams(cloudflare=[wish], gpu=[None])
    handover = Handover(Retries(2, 0.001))
    assert await run(upstreams, "cloudflare", "gpu", handover=handover) == "answer of gpu"
    assert upstreams.asked == ["cloudflare", "gpu"]


async def test_an_upstream_that_keeps_failing_is_passed_over_until_its_trial() -> None:
    now = [0.0]
    handover = Handover(Retries(0), clock=lambda: now[0])
    upstreams = Upstreams(cloudflare=[Fault.UPSTREAM_UNREACHABLE] * THRESHOLD + [None], gpu=[None])
    for _ in range(THRESHOLD + 2):
        call = Call("id")
        assert await run(upstreams, "cloudflare", "gpu", handover=handover, call=call) == "answer of gpu"
    assert upstreams.asked.count("cloudflare") == THRESHOLD
    assert call.handovers == ["cloudflare=breaker_open"]
    now[0] += 6.0
    call = Call("id")
    assert await run(upstreams, "cloudflare", "gpu", handover=handover, call=call) == "answer of cloudflare"
    assert call.handovers == []


async def test_a_client_that_waits_no_longer_shuts_out_nobody() -> None:
    handover = Handover(Retries(0))
    upstreams = Upstreams(cloudflare=[*[Fault.UPSTREAM_TIMEOUT] * THRESHOLD, None], gpu=[None])
    for _ in range(THRESHOLD):
        with pytest.raises(RelayError):
            await run(upstreams, "cloudflare", "gpu", handover=handover, call=Call("id", deadline=time.monotonic() - 1))
    assert await run(upstreams, "cloudflare", "gpu", handover=handover) == "answer of cloudflare"


async def test_a_stand_in_that_is_not_needed_is_not_passed_over() -> None:
    handover = Handover(Retries(0))
    upstreams = Upstreams(cloudflare=[None], gpu=[Fault.UPSTREAM_ERROR])
    for _ in range(THRESHOLD):
        with pytest.raises(RelayError):
            await run(upstreams, "gpu", "gpu", handover=handover)
    call = Call("id")
    assert await run(upstreams, "cloudflare", "gpu", handover=handover, call=call) == "answer of cloudflare"
    assert call.handovers == []


async def test_where_all_keep_failing_all_are_tried_all_the_same() -> None:
    handover = Handover(Retries(0))
    upstreams = Upstreams(cloudflare=[Fault.UPSTREAM_ERROR], gpu=[*[Fault.UPSTREAM_ERROR] * (THRESHOLD + 1), None])
    for _ in range(THRESHOLD + 1):
        with pytest.raises(RelayError):
            await run(upstreams, "cloudflare", "gpu", handover=handover)
    assert await run(upstreams, "cloudflare", "gpu", handover=handover) == "answer of gpu"


async def test_nobody_else_is_asked_for_a_client_that_waits_no_longer() -> None:
    upstreams = Upstreams(cloudflare=[Fault.UPSTREAM_TIMEOUT], gpu=[None])
    with pytest.raises(RelayError, match="cloudflare says no"):
        await run(upstreams, "cloudflare", "gpu", call=Call("id", deadline=time.monotonic() - 1))
    assert upstreams.asked == ["cloudflare"]


@simulated
async def test_a_client_with_little_time_is_answered_within_it() -> None:
    """Who is asked first may be silent for as long as he likes: the last one still has a third of the client's time."""

    async def attempt(route: Route, able: str) -> str:
        if route.name != "gpu":
            await asyncio.Event().wait()
        return f"answer of {route.name}"

    call = Call("id", deadline=time.monotonic() + 30)
    ways = [(ROUTES[name], name) for name in ("cloudflare", "gpu")]
    assert await Handover(Retries(2, 0.0)).run(ways, call, attempt) == "answer of gpu"
    assert call.handovers == ["cloudflare=upstream_timeout"]
    assert call.remaining() == pytest.approx(10, abs=0.1)


PATIENCE: dict[str, tuple[float | None, float, bool]] = {
    "the operator's": (None, 20.0, True),
    "the operator's, with a client that waits long": (600.0, 20.0, True),
    "two thirds of the client's, which are less": (12.0, 8.0, True),
}


@simulated
@pytest.mark.parametrize(("deadline", "waited", "learns"), PATIENCE.values(), ids=PATIENCE)
async def test_who_is_silent_for_too_long_is_handed_over(deadline: float | None, waited: float, learns: bool) -> None:
    """The last one has all the time that there is; a patience of some length teaches the breaker."""
    asked: list[str] = []

    async def attempt(route: Route, able: str) -> str:
        asked.append(route.name)
        await asyncio.sleep(1000 if route.name == "cloudflare" else 2)
        return f"answer of {route.name}"

    handover = Handover(Retries(2, 0.0))
    ways = [(msgspec.structs.replace(ROUTES[name], patience=20.0), name) for name in ("cloudflare", "gpu")]
    for _ in range(THRESHOLD):
        began = time.monotonic()
        call = Call("id") if deadline is None else Call("id", deadline=began + deadline)
        assert await handover.run(ways, call, attempt) == "answer of gpu"
        assert call.handovers == ["cloudflare=upstream_timeout"]
        assert time.monotonic() - began == pytest.approx(waited + 2, abs=0.1)
    assert asked == ["cloudflare", "gpu"] * THRESHOLD
    assert handover.count_open_breakers() == {"cloudflare": int(learns), "gpu": 0}


@simulated
async def test_a_short_patience_teaches_the_breaker_nothing() -> None:
    async def attempt(route: Route, able: str) -> str:
        await asyncio.sleep(1000 if route.name == "cloudflare" else 0)
        return f"answer of {route.name}"

    handover = Handover(Retries(2, 0.0), clock=lambda: time.monotonic())
    ways = [(msgspec.structs.replace(ROUTES[name], patience=2.0), name) for name in ("cloudflare", "gpu")]
    for _ in range(THRESHOLD + 1):
        assert await handover.run(ways, Call("id"), attempt) == "answer of gpu"
    assert handover.count_open_breakers() == {"cloudflare": 0, "gpu": 0}


async def test_a_try_that_took_long_to_fail_is_not_repeated_where_another_can_answer() -> None:
    now = [0.0]
    upstreams = Upstreams(cloudflare=[Fault.UPSTREAM_UNREACHABLE], gpu=[Fault.UPSTREAM_UNREACHABLE, None])

    async def attempt(route: Route, able: str) -> str:
        now[0] += 10.0
        return await upstreams.attempt(route, able)

    handover = Handover(Retries(2, 0.0), clock=lambda: now[0])
    ways = [(ROUTES[name], f"able {name}") for name in ("cloudflare", "gpu")]
    assert await handover.run(ways, Call("id"), attempt) == "answer of gpu"
    assert upstreams.asked == ["cloudflare", "gpu", "gpu"]  # the last one has nobody behind it


async def test_who_fails_before_it_was_asked_is_named_all_the_same() -> None:
    for names in (["gpu"], ["cloudflare", "gpu"]):
        call = Call("id")
        with pytest.raises(RelayError):
            await run(Upstreams(cloudflare=[Fault.QUOTA_EXHAUSTED], gpu=[Fault.UPSTREAM_AUTH]), *names, call=call)
        assert call.upstream == "gpu"


async def test_the_log_tells_the_same_news_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    handover = Handover(Retries(0), clock=lambda: now[0])
    spent = Fault.QUOTA_EXHAUSTED
    upstreams = Upstreams(cloudflare=[spent, spent, spent, Fault.UPSTREAM_AUTH, spent], gpu=[None])
    with caplog.at_level(logging.WARNING, "relay"):
        for _ in range(4):
            await run(upstreams, "cloudflare", "gpu", handover=handover, call=Call("req"))
        now[0] += 60.0
        await run(upstreams, "cloudflare", "gpu", handover=handover, call=Call("req"))
    assert caplog.messages == [
        "cloudflare does not answer (insufficient_quota): handed over, request req",
        "cloudflare does not answer (upstream_auth): handed over, request req",
        "cloudflare does not answer (insufficient_quota): handed over, request req, 2 others since it was last told",
    ]
