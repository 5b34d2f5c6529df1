"""Embeddings in OpenAI's form."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from starlette.types import Receive, Scope, Send

from adapters.base import Call
from adapters.canonical import EmbeddingRequest, EmbeddingResult
from adapters.wire.openai_embeddings import dump_embedding_result, parse_embedding_request
from proxy.answers import send_body
from proxy.serving import Serving


class EmbeddingBackend(Protocol):
    """What the endpoint asks: one backend or many look the same from here."""

    def embed(self, request: EmbeddingRequest, call: Call) -> Awaitable[EmbeddingResult]: ...


class EmbeddingsEndpoint:
    """Serve `POST /v1/embeddings`. An ASGI app, so that the upstream calls live and die inside `__call__`."""

    def __init__(self, backend: EmbeddingBackend, serving: Serving) -> None:
        self._backend = backend
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call = scope["state"]["call"]
        wish = parse_embedding_request(await self._serving.body(scope, receive))
        result = await self._serving.whole(receive, lambda: self._backend.embed(wish.request, call))
        await send_body(send, dump_embedding_result(result, wish, wish.request.model))
