"""Which upstreams may answer for a model, in which order, and what each of them can do."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from adapters.base import ChatAdapter, Embedder, NativeTask
from adapters.catalogue import Model
from adapters.cloudflare_native import CloudflareNative
from adapters.errors import InvalidRequest
from proxy.model_rules import Candidate, ModelRule

T = TypeVar("T")


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """What one upstream can do; `None` where it cannot. `native` takes Workers AI's own calls as they are.

    An `engine` knows its models by names of its own, and of their limits no more than `context_window`, in tokens.
    What `is_drained` is asked only where another can answer.
    """

    chat: ChatAdapter | None = None
    embedder: Embedder | None = None
    task: NativeTask | None = None
    native: CloudflareNative | None = None
    engine: bool = False
    context_window: int | None = None
    is_drained: Callable[[], bool] = lambda: False


class Route(msgspec.Struct, frozen=True):
    """One way to an answer: an upstream, and the model as that upstream knows it.

    `patience` is for how many seconds it may be silent where another can be asked; `None`: as long as the client waits.
    """

    name: str
    upstream: Upstream
    model: Model
    patience: float | None = None


class Backends:
    """Finds who answers.

    `rules` are the operator's, by the id of the model. A model without a rule is answered by those of `served` (by
    its id: the upstreams that have it), else by `default`.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        default: str,
        served: Mapping[str, Sequence[Candidate]],
        rules: Mapping[str, ModelRule] | None = None,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._upstreams = upstreams
        self._default = default
        self._served = served
        self._rules = rules or {}
        self._draw = draw

    def routes(self, model: Model) -> list[Route]:
        """The ways to an answer, the one to try first in front; there is always one."""
        routes, rule = self._in_order(model)
        return routes if rule is None or rule.policy != "share" else self._shared(routes, rule.share)

    def first(self, model: Model) -> Route:
        """Who is asked first; where shares say that, who has the largest."""
        routes, rule = self._in_order(model)
        share = rule.share if rule is not None else {}
        return max(routes, key=lambda route: share.get(route.name, 0.0))

    def _in_order(self, model: Model) -> tuple[list[Route], ModelRule | None]:
        """The ways to an answer before any lot is drawn, and what the operator says of them."""
        rule = self._rules.get(model.id)
        if rule is None and model.id not in self._served:
            return [Route(self._default, self._upstreams[self._default], model)], None
        candidates = (rule and rule.candidates) or self._served.get(model.id) or (Candidate(self._default),)
        routes = [
            self._route(candidate, model) for candidate in candidates if candidate.upstream in self._upstreams
        ] or [self._route(Candidate(self._default), model)]
        if rule is not None and rule.handover_after is not None:
            routes = [msgspec.structs.replace(route, patience=rule.handover_after) for route in routes]
        return sorted(routes, key=_price) if rule is not None and rule.policy == "cheapest" else routes, rule

    def native(self, model: Model | None = None) -> CloudflareNative | None:
        """Who takes the calls of a model, or those of no model, as they are; `None` if they have to be understood.

        Where others may take over a call has to be understood: they do not speak Workers AI.
        """
        if model is None:
            return self._upstreams[self._default].native
        routes = self.routes(model)
        return routes[0].upstream.native if len(routes) == 1 else None

    def able(self, model: Model, pick: Callable[[Upstream], T | None]) -> list[tuple[Route, T]]:
        """The routes of a model that can do what `pick` takes out of an upstream, with that.

        Who is drained is left out, unless all are: then they say so themselves. Raises InvalidRequest
        (`model_not_supported`) if there is none.
        """
        routes = self.routes(model)
        found = [(route, able) for route in routes if (able := pick(route.upstream)) is not None]
        if not found:
            names = ", ".join(route.name for route in routes)
            raise InvalidRequest(
                f"No upstream of the model '{model.id}' offers {model.task.lower()} ({names}).",
                param="model",
                code="model_not_supported",
            )
        return [way for way in found if not way[0].upstream.is_drained()] or found

    def _route(self, candidate: Candidate, model: Model) -> Route:
        upstream = self._upstreams[candidate.upstream]
        if upstream.engine:
            name = candidate.model or model.id
            known = Model(id=name, task=model.task, status="listed", context_window=upstream.context_window)
            return Route(candidate.upstream, upstream, known)
        return Route(candidate.upstream, upstream, model)

    def _shared(self, routes: list[Route], share: Mapping[str, float]) -> list[Route]:
        """One in front by lot, by weight; the others behind it in their order."""
        weights = [share.get(route.name, 0.0) for route in routes]
        left = self._draw() * sum(weights)
        for i, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return [routes[i], *routes[:i], *routes[i + 1 :]]
        return routes


def _price(route: Route) -> float:
    """US dollars for a million tokens each way; an engine's are paid for already, and an unknown price is high."""
    if route.upstream.engine:
        return 0.0
    prices = [price.price_usd for price in route.model.price if price.price_usd is not None]
    return sum(prices) if prices else float("inf")
