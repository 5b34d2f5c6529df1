"""Embeddings over Cloudflare's AI REST API: the native `POST /accounts/{id}/ai/run/{model}`."""

from __future__ import annotations

from collections.abc import Callable

from adapters.base import Call
from adapters.canonical import EmbeddingRequest, EmbeddingResult
from adapters.catalogue import Model
from adapters.cloudflare_calls import CloudflareCalls
from adapters.vectors import checked
from adapters.wire.workers_ai_embeddings import dump_embedding_request, parse_embedding_result


class CloudflareEmbedder:
    """An Embedder over one account; it takes at most 100 texts at once."""

    name = "cloudflare"

    def __init__(self, calls: CloudflareCalls, *, model_of: Callable[[str], Model]) -> None:
        self._calls = calls
        self._model_of = model_of

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResult:
        """Vectors in the model's own length, whatever `dimensions` are wanted. Raises RelayError."""
        model = self._model_of(request.model)
        self._calls.check_allocation()
        body, changes = dump_embedding_request(
            request, asymmetric="queries" in model.input_kinds, dimensions=model.output_dimensions
        )
        call.accept(self.name, changes)
        return checked(parse_embedding_result(await self._calls.run(model, body, call)), len(request.texts))
