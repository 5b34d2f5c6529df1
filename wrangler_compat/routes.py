"""Every route of the emulator. What they need of the server is handed to them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.routing import BaseRoute, Route

from adapters.base import Call
from adapters.wire.json_text import encode
from wrangler_compat.answers import Inferred, Json, StreamServing, Through, Whole
from wrangler_compat.binding import Binding, Others
from wrangler_compat.binding_upstream import as_form
from wrangler_compat.catalogue_routes import Look, search_models
from wrangler_compat.entrances import Proxy, RemoteBinding
from wrangler_compat.gateway import gateway_routes
from wrangler_compat.gateway_logs import Logs
from wrangler_compat.list_routes import AI, Lists, list_routes
from wrangler_compat.markdown.conversion import Converter
from wrangler_compat.rest import (
    Inference,
    NoSocket,
    NotSupported,
    bare,
    enveloped,
    no_messages,
    openai,
    run_of_body,
    run_of_path,
)
from wrangler_compat.run import Runner
from wrangler_compat.seams import OfAccount, PassThrough
from wrangler_compat.tomarkdown import Supported, transform

_ANY = ["GET", "POST", "PUT", "PATCH", "DELETE"]
"""All but OPTIONS, which needs no token and so has no caller."""


class Emulator(msgspec.Struct, frozen=True, kw_only=True):
    """What the routes work with: one of each for the whole server."""

    runner: Runner
    serving: StreamServing
    lists: Lists
    logs: Logs


def routes(emulator: Emulator) -> list[BaseRoute]:
    """The hottest first: matching is linear."""
    binding = Binding(emulator.runner, _others(emulator.lists), emulator.logs)
    remote = RemoteBinding(binding, emulator.serving, emulator.logs)
    return [
        *v4_routes(emulator, binding),
        Route("/remote-bindings", remote, methods=_ANY),
        Route("/remote-bindings/", remote, methods=_ANY),
        *gateway_routes(emulator.runner, emulator.serving, emulator.logs, emulator.lists.catalogue),
    ]


def v4_routes(emulator: Emulator, binding: Binding) -> list[BaseRoute]:
    """All below `/client/v4`. `run/proxy` is no model."""
    runner, serving, logs = emulator.runner, emulator.serving, emulator.logs

    def of_openai(infer: Callable[[bytes, Call], Inferred]) -> Inference:
        return Inference(serving, logs, openai(infer), bare)

    posts = {
        "/run/{model:path}": Inference(serving, logs, run_of_path(runner), enveloped),
        "/run": Inference(serving, logs, run_of_body(runner), enveloped),
        "/v1/chat/completions": of_openai(runner.openai_chat),
        "/v1/embeddings": of_openai(runner.openai_embeddings),
        "/v1/responses": of_openai(runner.openai_responses),
        "/v1/messages": Inference(serving, logs, no_messages, bare),
    }
    return [
        Route(f"{AI}/run/proxy", OfAccount(Proxy(binding, serving, logs)), methods=_ANY),
        *(Route(AI + path, OfAccount(app), methods=["POST"]) for path, app in posts.items()),
        Route(f"{AI}/run/{{model:path}}", OfAccount(NoSocket()), methods=["GET"]),
        Route(f"{AI}/v1/models", OfAccount(NotSupported())),
        *list_routes(emulator.lists),
    ]


def _others(lists: Lists) -> Others:
    """What the binding has beside inference, by the same routes' apps."""
    onward = lists.forward
    if onward is None:
        models = Look(lists.catalogue, search_models)
        return Others(models=models, supported=Supported(lists.converter), transform=_converted_by(lists.converter))

    def transform_there(body: bytes, call: Call) -> Through:
        headers, form = as_form(body)
        return Through(onward("POST", "tomarkdown", b"", headers, form, call))

    return Others(
        models=PassThrough(onward, lists.serving, "models/search", 0),
        supported=PassThrough(onward, lists.serving, "tomarkdown/supported", 0),
        transform=transform_there,
    )


def _converted_by(converter: Converter) -> Callable[[bytes, Call], Whole]:
    def transform_here(body: bytes, call: Call) -> Whole:
        async def work() -> Json:
            return Json(encode(await transform(body, converter, call.tenant or "")))

        return Whole(work)

    return transform_here
