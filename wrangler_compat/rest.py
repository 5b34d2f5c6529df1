"""The REST surface of inference: `/client/v4/accounts/{account}/ai/run/...` and `/ai/v1/...`.

Sources: Cloudflare's SDKs (2026-08), its provider package (cloudflare/ai, 2026-07), and its pages on the AI REST API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from adapters.base import Call
from adapters.errors import InvalidRequest
from adapters.wire.native.payload import Payload
from adapters.wire.validation import decode
from wrangler_compat.answers import Delivery, Inferred, StreamServing
from wrangler_compat.gateway_logs import Logs, Note, deliver, read_metadata
from wrangler_compat.naming import is_third_party, not_for_task
from wrangler_compat.run import Ask, Runner
from wrangler_compat.universal import patience, within

_YES = frozenset(("true", "1"))


class _Modelled(msgspec.Struct):
    """What any body of OpenAI's forms has."""

    model: Any = None


_MODELLED = msgspec.json.Decoder(_Modelled)


class _Named(msgspec.Struct):
    """The body of `POST /ai/run`, which names its model."""

    model: str
    input: msgspec.Raw


_NAMED = msgspec.json.Decoder(_Named)


def enveloped(result: bytes) -> bytes:
    """A JSON result as the API's clients expect it."""
    return b'{"result":%b,"success":true,"errors":[],"messages":[]}' % result


def bare(result: bytes) -> bytes:
    return result


class Inference:
    """What every endpoint of inference shares: reading, the gateway that a header may name, sending, its log.

    `infer` makes the answer of the body; `gateway` is the name of the path parameter, where one names the gateway.
    """

    def __init__(
        self,
        serving: StreamServing,
        logs: Logs,
        infer: Callable[[Scope, bytes], tuple[str, Inferred]],
        wrap: Callable[[bytes], bytes],
    ) -> None:
        self._serving = serving
        self._logs = logs
        self._infer = infer
        self._delivery = Delivery(serving, wrap)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._serving.body(scope, receive)
        model, answer = self._infer(scope, body)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        limit = patience(headers.get(b"cf-aig-request-timeout"))
        if limit is not None:
            answer = within(limit, answer)
        gateway = scope["path_params"].get("gateway") or headers.get(b"cf-aig-gateway-id")
        logged = None
        if gateway:
            note = Note(
                gateway=gateway,
                model=model,
                path=scope["path"],
                size=len(body),
                content_type=headers.get(b"content-type", ""),
                metadata=read_metadata(headers.get(b"cf-aig-metadata")),
            )
            logged = (self._logs, note)
        await deliver(self._delivery, answer, logged, (scope, receive, send))


Infer = Callable[[Scope, bytes], tuple[str, Inferred]]
"""The model's name and the answer, of a request and its body."""


def run_of_path(runner: Runner) -> Infer:
    """`POST .../run/{model}`. The model's slashes come raw or escaped; the server has decoded them."""

    def infer(scope: Scope, body: bytes) -> tuple[str, Inferred]:
        model: str = scope["path_params"]["model"]
        if not model.strip("/"):
            raise HTTPException(404)
        return model, runner.run(_ask(scope, model, body, _header(scope, b"content-type")), _call(scope))

    return infer


def run_of_body(runner: Runner) -> Infer:
    """`POST .../run`, whose body holds `model` and `input`: the one path for other providers' models, too.

    Of those there are none here, and to a model that it does not know Cloudflare's router finds no way (404).
    """

    def infer(scope: Scope, body: bytes) -> tuple[str, Inferred]:
        named = decode(body, _NAMED)
        if is_third_party(named.model) and not runner.knows(named.model):
            raise HTTPException(404)
        return named.model, runner.run(_ask(scope, named.model, bytes(named.input), "application/json"), _call(scope))

    return infer


def openai(infer: Callable[[bytes, Call], Inferred]) -> Infer:
    """One of OpenAI's forms; its body names the model."""

    def of_request(scope: Scope, body: bytes) -> tuple[str, Inferred]:
        answer = infer(body, _call(scope))
        return str(decode(body, _MODELLED).model), answer

    return of_request


def no_messages(scope: Scope, body: bytes) -> tuple[str, Inferred]:
    """`POST .../ai/v1/messages`: Anthropic's form, which Cloudflare has for other providers' models alone."""
    model = decode(body, _MODELLED).model
    if not isinstance(model, str) or not model:
        raise InvalidRequest("You must provide a model parameter.", param="model", code="missing_required_parameter")
    raise not_for_task(model)


class NotSupported:
    """A path that exists for no method (405)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(405)


class NoSocket:
    """`GET .../run/{model}`, by which a client opens a WebSocket to a model (501); there is nothing else (405)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if any(name == b"upgrade" and b"websocket" in value.lower() for name, value in scope["headers"]):
            raise HTTPException(501, "WebSocket connections to models are not emulated.")
        raise HTTPException(405, headers={"Allow": "POST"})


def _ask(scope: Scope, model: str, body: bytes, content_type: str) -> Ask:
    query = QueryParams(scope["query_string"])
    return Ask(
        model=model,
        payload=Payload(body, content_type, dict(query), _header(scope, b"content-disposition")),
        query=scope["query_string"],
        headers=scope["headers"],
        queue=query.get("queueRequest", "").lower() in _YES,
        owner=scope["state"]["principal"].id,
    )


def _call(scope: Scope) -> Call:
    call: Call = scope["state"]["call"]
    return call


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")
