"""The relay's own OpenAPI document, and the routes that show both documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.catalogue import Catalogue
from adapters.wire.json_text import encode
from adapters.wire.openai_embeddings import EmbeddingBody
from adapters.wire.openai_types import ChatBody
from proxy.answers import send_body
from proxy.docs_page import render_page
from wrangler_compat.openapi import describe_cloudflare
from wrangler_compat.openapi_parts import (
    ANY_OBJECT,
    JSON,
    SCRIPT,
    STREAM,
    Operation,
    Parameter,
    Schema,
    document,
    reference,
    types_of,
)

OWN = "/openapi.json"
CLOUDFLARES = "/client/v4/openapi.json"
PAGE = "/docs"

Describe = Callable[[str], dict[str, Any]]
"""A document, given what is in front of all paths (`root_path`)."""

_ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_MODEL: Schema = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
    },
}
_OVERRIDES = (
    Parameter("x-relay-stream", "Overrides RELAY_STREAM.", {"enum": ["auto", "native", "synthetic"]}, place="header"),
    Parameter("x-relay-strict", "Listed changes become a 400.", {"enum": ["true", "false"]}, place="header"),
    SCRIPT,
)


def describe_own(*, version: str, root_path: str = "") -> dict[str, Any]:
    _, schemas = types_of(ChatBody, EmbeddingBody)
    return document(
        title="workers-ai-relay",
        version=version,
        description="An OpenAI-compatible endpoint. Cloudflare's own surfaces are described in " + CLOUDFLARES + ".",
        operations=_operations(),
        schemas={**schemas, "Model": _MODEL},
        error=_ERROR,
        root_path=root_path,
    )


def _operations() -> Iterator[Operation]:
    yield Operation(
        method="POST",
        path="/v1/chat/completions",
        summary="Chat completions, whole or streamed",
        tag="OpenAI",
        body={JSON: reference("ChatBody")},
        answer={JSON: ANY_OBJECT, STREAM: {}},
        parameters=_OVERRIDES,
    )
    yield Operation(
        method="POST",
        path="/v1/embeddings",
        summary="Embeddings",
        tag="OpenAI",
        body={JSON: reference("EmbeddingBody")},
        parameters=(SCRIPT,),
    )
    rows: Schema = {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": reference("Model")}},
    }
    yield Operation(method="GET", path="/v1/models", summary="Models and aliases", tag="OpenAI", answer={JSON: rows})
    yield Operation(
        method="GET",
        path="/v1/models/{model}",
        summary="A model, by any of its names",
        tag="OpenAI",
        answer={JSON: reference("Model")},
    )
    for path, summary in {"/healthz": "The process answers", "/readyz": "It can do its work"}.items():
        yield Operation(method="GET", path=path, summary=summary, tag="Health", public=True)
    yield Operation(
        method="GET", path="/metrics", summary="Figures for Prometheus", tag="Operating", answer={"text/plain": {}}
    )
    for path, summary in {OWN: "This document", CLOUDFLARES: "That of Cloudflare's surfaces"}.items():
        yield Operation(method="GET", path=path, summary=summary, tag="Documents")
    yield Operation(
        method="GET", path=PAGE, summary="Both documents, to be read", tag="Documents", answer={"text/html": {}}
    )


def document_routes(catalogue: Callable[[], Catalogue], version: str) -> list[Route]:
    """Both documents and the page that shows them."""

    def own(root_path: str) -> dict[str, Any]:
        return describe_own(version=version, root_path=root_path)

    def cloudflares(root_path: str) -> dict[str, Any]:
        return describe_cloudflare(catalogue(), version=version, root_path=root_path)

    apps: dict[str, ASGIApp] = {OWN: Document(own), CLOUDFLARES: Document(cloudflares), PAGE: Docs(own, cloudflares)}
    return [Route(path, app, methods=["GET"]) for path, app in apps.items()]


class Document:
    """One of the documents, made when it is asked for."""

    def __init__(self, describe: Describe) -> None:
        self._describe = describe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_body(send, encode(self._describe(scope.get("root_path", ""))))


class Docs:
    """The documents as one page: it loads nothing, so that it can be kept as a file and opened from there."""

    def __init__(self, *describe: Describe) -> None:
        self._describe = describe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        documents = [describe(scope.get("root_path", "")) for describe in self._describe]
        headers = ((b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),)
        await send_body(send, render_page(documents).encode(), media_type=b"text/html; charset=utf-8", headers=headers)
