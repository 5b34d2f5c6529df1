"""Who is tried, how often, and who next."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from adapters.base import Call
from adapters.breaker import THRESHOLD
from adapters.catalogue import CHAT_TASK, Model
from adapters.errors import Fault, InvalidRequest, RelayError
from proxy.backends import Route, Upstream
from proxy.handover import Handover, Retries

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
        assert await run(upstreams, "cloudflare", "gpu", handover=handover) == "answer of gpu"
    assert upstreams.asked.count("cloudflare") == THRESHOLD
    now[0] += 6.0
    assert await run(upstreams, "cloudflare", "gpu", handover=handover) == "answer of cloudflare"


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
