"""The relay's own OpenAPI document, and the routes that show both documents."""

from __future__ import annotations

import hashlib
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

Make = Callable[[str], bytes]
"""A document as it is sent, given what is in front of all paths (`root_path`)."""
_LOADS_NOTHING = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")

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

    def page(root_path: str) -> bytes:
        return render_page([own(root_path), cloudflares(root_path)]).encode()

    apps: dict[str, ASGIApp] = {
        OWN: Document(lambda root_path: encode(own(root_path)), catalogue),
        CLOUDFLARES: Document(lambda root_path: encode(cloudflares(root_path)), catalogue),
        PAGE: Document(page, catalogue, media_type=b"text/html; charset=utf-8", headers=(_LOADS_NOTHING,)),
    }
    return [Route(path, app, methods=["GET"]) for path, app in apps.items()]


class Document:
    """What is made when it is first asked for, and again only when `basis` gives another object.

    The page loads nothing, so that it can be kept as a file and opened from there.
    """

    def __init__(
        self,
        make: Make,
        basis: Callable[[], object],
        *,
        media_type: bytes = b"application/json",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self._make = make
        self._basis = basis
        self._media_type = media_type
        self._headers = headers
        self._made_of: tuple[object, str] | None = None
        self._body = self._tag = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._refresh(scope.get("root_path", ""))
        headers = ((b"etag", self._tag), *self._headers)
        if _matches(scope, self._tag):
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            return await send({"type": "http.response.body"})
        await send_body(send, self._body, media_type=self._media_type, headers=headers)

    def _refresh(self, root_path: str) -> None:
        basis = self._basis()
        if self._made_of is not None and self._made_of[0] is basis and self._made_of[1] == root_path:
            return
        self._body = self._make(root_path)
        self._tag = b'"%b"' % hashlib.sha256(self._body).hexdigest()[:32].encode()
        self._made_of = basis, root_path


def _matches(scope: Scope, tag: bytes) -> bool:
    """Whether the caller has the document already (RFC 9110, 13.1.2)."""
    asked = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
    return any(one.strip().removeprefix(b"W/") in (tag, b"*") for one in asked.split(b","))
