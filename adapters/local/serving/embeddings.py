"""Embeddings over the engine: texts become tokens as the model's card wants them, then vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import anyio.to_thread

from adapters.canonical import EmbeddingRequest, EmbeddingResult, Usage
from adapters.local.inference.folder import EmbeddingCard
from adapters.local.inference.stats import Stats


class Vectors(Protocol):
    """`adapters.local.inference.embedding.EmbeddingModel`, as far as it is used here."""

    @property
    def card(self) -> EmbeddingCard: ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def dead(self) -> bool: ...

    async def embed(self, texts: Sequence[Sequence[int]], dimensions: int | None = None) -> list[list[float]]: ...


class EmbeddingService:
    """One model's vectors. `tokenizer` is one of transformers'."""

    def __init__(self, model: Vectors, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        card = model.card
        self._prefix = card.prompts[card.default_prompt] if card.default_prompt else ""
        self._lower = card.lower_case
        self._tokenizing = asyncio.Lock()
        self._running = 0
        self._tokens = 0

    @property
    def context(self) -> int:
        """Tokens of one text."""
        return self._model.max_tokens

    @property
    def dead(self) -> bool:
        return self._model.dead

    def stats(self) -> Stats:
        return Stats(running=self._running, prompt_tokens=self._tokens)

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResult:
        """Raises InferenceError."""
        self._running += 1
        try:
            async with self._tokenizing:  # tokenizers are not made for several threads at once
                ids = await anyio.to_thread.run_sync(self._ids, request.texts)
            vectors = await self._model.embed(ids, request.dimensions)
        finally:
            self._running -= 1
        tokens = sum(map(len, ids))
        self._tokens += tokens
        return EmbeddingResult(vectors=vectors, usage=Usage(prompt_tokens=tokens))

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        prepared = [self._prefix + (text.lower() if self._lower else text) for text in texts]
        ids: list[list[int]] = self._tokenizer(prepared, verbose=False)["input_ids"]
        return ids
