"""AI Gateway's own addresses, `/v1/{account}/{gateway}/...`, as a server.

Sources: Cloudflare's pages on AI Gateway (2026-09) and its provider packages (cloudflare/ai, 2026-07).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.base import Call
from adapters.catalogue import Catalogue, Model
from wrangler_compat.answers import Delivery, Inferred, StreamServing
from wrangler_compat.envelope import bare as bare_response
from wrangler_compat.gateway_logs import Logs, Note, deliver, read_metadata
from wrangler_compat.problems import is_account
from wrangler_compat.rest import Inference, bare, enveloped, openai, run_of_path
from wrangler_compat.run import Runner
from wrangler_compat.universal import Step, patience, read_entries, run_first, within

_ROOT = "/v1/{account}/{gateway}"
_M = 1_000_000
_PRICES = {"per M input tokens": "cost_in", "per M output tokens": "cost_out"}


class GatewayRoute(Route):
    """A route below `/v1` that leaves OpenAI's own paths alone: theirs begin with a word that is no account's id."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is not Match.NONE and not is_account(child["path_params"]["account"]):
            return Match.NONE, {}
        return match, child


class Universal:
    """`POST /v1/{account}/{gateway}`: a list of calls, tried in order."""

    def __init__(self, runner: Runner, serving: StreamServing, logs: Logs) -> None:
        self._runner = runner
        self._serving = serving
        self._logs = logs
        self._delivery = Delivery(serving, enveloped)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._serving.body(scope, receive)
        entries = read_entries(body)
        step = Step()
        answer = run_first(entries, self._runner, scope["state"]["call"], step)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        limit = patience(headers.get(b"cf-aig-request-timeout"))
        if limit is not None:
            answer = within(limit, answer)
        note = Note(
            gateway=scope["path_params"]["gateway"],
            model=entries[0].endpoint,
            path=scope["path"],
            size=len(body),
            content_type=headers.get(b"content-type", ""),
            metadata=read_metadata(headers.get(b"cf-aig-metadata")),
        )
        await deliver(self._delivery, answer, (self._logs, note), (scope, receive, send), step)


class CompatModels:
    """`GET .../compat/models`: what the unified form can name, with prices in US dollars a token."""

    def __init__(self, catalogue: Callable[[], Catalogue]) -> None:
        self._catalogue = catalogue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        catalogue = self._catalogue()
        rows = [
            _row(model, catalogue.as_of) for model in catalogue if model.id.startswith("@") and not model.is_retired
        ]
        await bare_response({"object": "list", "data": rows})(scope, receive, send)


def _row(model: Model, as_of: str) -> dict[str, Any]:
    costs = {
        _PRICES[price.unit]: round((price.price_usd or 0.0) / _M, 12) for price in model.price if price.unit in _PRICES
    }
    read = dt.datetime.fromisoformat(as_of)
    created = int((read if read.tzinfo else read.replace(tzinfo=dt.UTC)).timestamp())
    row = {"id": f"workers-ai/{model.id}", "object": "model", "created_at": created, "owned_by": "workers-ai"}
    return row | {"cost_in": 0.0, "cost_out": 0.0} | costs


def gateway_routes(
    runner: Runner, serving: StreamServing, logs: Logs, catalogue: Callable[[], Catalogue]
) -> list[BaseRoute]:
    """All forms; of two that fit, the first is meant."""

    def of_openai(infer: Callable[[bytes, Call], Inferred]) -> Inference:
        return Inference(serving, logs, openai(infer), bare)

    run = Inference(serving, logs, run_of_path(runner), enveloped)
    chat, universal = of_openai(runner.openai_chat), Universal(runner, serving, logs)
    posts: dict[str, ASGIApp] = {
        "/workers-ai/v1/chat/completions": chat,
        "/workers-ai/v1/embeddings": of_openai(runner.openai_embeddings),
        "/workers-ai/{model:path}": run,
        "/compat/chat/completions": chat,
        "": universal,
        "/": universal,
    }
    routes: list[BaseRoute] = [GatewayRoute(_ROOT + path, app, methods=["POST"]) for path, app in posts.items()]
    return [*routes, GatewayRoute(f"{_ROOT}/compat/models", CompatModels(catalogue), methods=["GET"])]
