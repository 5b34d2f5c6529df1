"""Who may answer for a model, and in which order."""

from __future__ import annotations

from typing import cast

import pytest

from adapters.base import Embedder, NativeTask
from adapters.catalogue import CHAT_TASK, Model, Price
from adapters.cloudflare_native import CloudflareNative
from adapters.errors import InvalidRequest
from proxy.backends import Backends, Upstream
from proxy.model_rules import Candidate, ModelRule

NATIVE = cast(CloudflareNative, object())
TASK = cast(NativeTask, object())
EMBEDDER = cast(Embedder, object())
PRICED = Model(
    id="@cf/acme/chat",
    task=CHAT_TASK,
    status="listed",
    context_window=1000,
    price=(Price(unit="per M input tokens", price_usd=0.1), Price(unit="per M output tokens", price_usd=0.4)),
)
UNPRICED = Model(id="@cf/acme/free", task=CHAT_TASK, status="listed")
UPSTREAMS = {
    "cloudflare": Upstream(native=NATIVE, task=TASK),
    "gpu": Upstream(engine=True, context_window=4096, embedder=EMBEDDER),
    "cpu": Upstream(engine=True),
}
CLOUDFLARE, GPU, CPU = Candidate("cloudflare"), Candidate("gpu", "own"), Candidate("cpu", "other")


def backends(
    rule: ModelRule | None = None, *, served: dict[str, list[Candidate]] | None = None, draw: float = 0.0
) -> Backends:
    rules = {} if rule is None else {PRICED.id: rule}
    return Backends(UPSTREAMS, "cloudflare", served or {}, rules, draw=lambda: draw)


def names(found: Backends, model: Model = PRICED) -> list[str]:
    return [route.name for route in found.routes(model)]


def test_the_operators_patience_is_that_of_every_way() -> None:
    found = backends(ModelRule((CLOUDFLARE, GPU), handover_after=20.0)).routes(PRICED)
    assert [route.patience for route in found] == [20.0, 20.0]
    assert [route.patience for route in backends(ModelRule((CLOUDFLARE, GPU))).routes(PRICED)] == [None, None]


ORDERS: dict[str, tuple[ModelRule | None, dict[str, list[Candidate]], list[str]]] = {
    "nothing said": (None, {}, ["cloudflare"]),
    "an engine serves it": (None, {PRICED.id: [GPU]}, ["gpu"]),
    "several serve it": (None, {PRICED.id: [CLOUDFLARE, GPU]}, ["cloudflare", "gpu"]),
    "a rule over what serves it": (ModelRule((CPU, CLOUDFLARE)), {PRICED.id: [GPU]}, ["cpu", "cloudflare"]),
    "a rule without candidates": (ModelRule(policy="cheapest"), {PRICED.id: [CLOUDFLARE, GPU]}, ["gpu", "cloudflare"]),
    "a rule for nobody": (ModelRule(policy="cheapest"), {}, ["cloudflare"]),
    "one that is not there is passed over": (ModelRule((Candidate("simulator"), GPU)), {}, ["gpu"]),
    "none of them is there": (ModelRule((Candidate("simulator"),)), {}, ["cloudflare"]),
    "cheapest keeps the order of equals": (
        ModelRule((CLOUDFLARE, CPU, GPU), policy="cheapest"),
        {},
        ["cpu", "gpu", "cloudflare"],
    ),
}


@pytest.mark.parametrize(("rule", "served", "order"), ORDERS.values(), ids=ORDERS)
def test_the_order_is_what_the_operator_said(
    rule: ModelRule | None, served: dict[str, list[Candidate]], order: list[str]
) -> None:
    assert names(backends(rule, served=served)) == order


@pytest.mark.parametrize(
    ("draw", "order"),
    [
        (0.0, ["cloudflare", "gpu", "cpu"]),
        (0.74, ["cloudflare", "gpu", "cpu"]),
        (0.76, ["gpu", "cloudflare", "cpu"]),
        (0.999, ["gpu", "cloudflare", "cpu"]),
    ],
)
def test_shares_draw_who_is_first_and_leave_the_rest_behind(draw: float, order: list[str]) -> None:
    rule = ModelRule((CLOUDFLARE, GPU, CPU), policy="share", share={"cloudflare": 3, "gpu": 1})
    assert names(backends(rule, draw=draw)) == order


def test_a_draw_beyond_all_shares_changes_nothing() -> None:
    rule = ModelRule((CLOUDFLARE, GPU), policy="share", share={"cloudflare": 1})
    assert names(backends(rule, draw=1.0)) == ["cloudflare", "gpu"]


def test_an_unknown_price_is_the_highest() -> None:
    rule = ModelRule((CLOUDFLARE, GPU), policy="cheapest")
    found = Backends(UPSTREAMS, "cloudflare", {}, {UNPRICED.id: rule})
    assert names(found, UNPRICED) == ["gpu", "cloudflare"]


def test_an_engine_knows_a_model_by_its_own_name_and_limits() -> None:
    cloudflare, gpu, cpu = backends(ModelRule((CLOUDFLARE, GPU, CPU))).routes(PRICED)
    assert cloudflare.model is PRICED
    assert (gpu.model.id, gpu.model.context_window, gpu.model.streaming) == ("own", 4096, None)
    assert (cpu.model.id, cpu.model.context_window) == ("other", None)
    assert backends(ModelRule((Candidate("gpu"),))).routes(PRICED)[0].model.id == PRICED.id


def test_calls_pass_as_they_are_only_where_nobody_else_may_take_over() -> None:
    assert backends().native() is NATIVE and backends().native(PRICED) is NATIVE
    assert backends(ModelRule((CLOUDFLARE, GPU))).native(PRICED) is None
    assert backends(ModelRule((GPU,))).native(PRICED) is None


def test_only_those_that_can_are_asked() -> None:
    found = backends(ModelRule((CLOUDFLARE, GPU)))
    assert [(route.name, task) for route, task in found.able(PRICED, lambda upstream: upstream.task)] == [
        ("cloudflare", TASK)
    ]
    with pytest.raises(InvalidRequest, match=r"'@cf/acme/chat' offers text generation \(cloudflare, gpu\)") as caught:
        found.able(PRICED, lambda upstream: upstream.chat)
    assert (caught.value.param, caught.value.code) == ("model", "model_not_supported")


FIRST: dict[str, tuple[ModelRule | None, str]] = {
    "the only one": (None, "cloudflare"),
    "the first in order": (ModelRule((GPU, CLOUDFLARE)), "gpu"),
    "the cheapest": (ModelRule((CLOUDFLARE, GPU), policy="cheapest"), "gpu"),
    "the largest share": (
        ModelRule((CLOUDFLARE, GPU, CPU), policy="share", share={"cloudflare": 1, "cpu": 2}),
        "cpu",
    ),
}


@pytest.mark.parametrize(("rule", "name"), FIRST.values(), ids=FIRST)
def test_who_is_first_is_told_without_a_lot(rule: ModelRule | None, name: str) -> None:
    assert backends(rule, draw=0.999).first(PRICED).name == name


DRAINED: dict[str, tuple[set[str], list[str]]] = {
    "nobody": (set(), ["gpu", "cpu"]),
    "the first": ({"gpu"}, ["cpu"]),
    "the last": ({"cpu"}, ["gpu"]),
    "all, who then say so themselves": ({"gpu", "cpu"}, ["gpu", "cpu"]),
}


@pytest.mark.parametrize(("drained", "asked"), DRAINED.values(), ids=DRAINED)
def test_who_is_drained_is_passed_over(drained: set[str], asked: list[str]) -> None:
    upstreams = {
        name: Upstream(engine=True, embedder=EMBEDDER, is_drained=lambda name=name: name in drained)  # type: ignore[misc]  # binds now
        for name in ("gpu", "cpu")
    }
    found = Backends(upstreams, "gpu", {}, {PRICED.id: ModelRule((GPU, CPU))})
    assert [route.name for route, _ in found.able(PRICED, lambda upstream: upstream.embedder)] == asked
