"""From a model's name to the backend that answers for it, with retries until the first event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import msgspec

from adapters.base import Call, ChatAdapter, Embedder, EventStream, NativeTask
from adapters.canonical import (
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    ImagePart,
    NativeResult,
    Usage,
)
from adapters.catalogue import EMBEDDING_TASK, Catalogue, Model
from adapters.cloudflare_calls import affinity_of
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.tokens import estimate_prompt
from adapters.vectors import join, settle, too_many_dimensions
from adapters.wire.workers_ai_embeddings import MOST_TEXTS
from proxy.backends import Backends, Route
from proxy.handover import Handover, Retries
from proxy.modes import Modes

T = TypeVar("T")
B = TypeVar("B")

_PARALLEL = 8  # upstream calls at once for one request


class Shelf:
    """The catalogue in force; a refresh puts a newer one in its place."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def model(self, id: str) -> Model:
        return self.catalogue.resolve(id)


class Dispatcher:
    """A backend made of backends: an endpoint cannot tell it from one.

    `max_tokens` is sent where the caller of a chat names none.
    """

    def __init__(
        self,
        shelf: Shelf,
        backends: Backends,
        modes: Modes,
        *,
        retries: Retries | None = None,
        max_tokens: int = 4096,
    ) -> None:
        self._shelf = shelf
        self._backends = backends
        self._modes = modes
        self._handover = Handover(retries or Retries())
        self._max_tokens = max_tokens

    def count_open_breakers(self) -> dict[str, int]:
        """By upstream: how many models are not asked for there at present."""
        return self._handover.count_open_breakers()

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        """A whole answer, of `request.n` choices. Raises RelayError."""
        request, model, ways = self._prepare(request, call)

        async def one(request: ChatRequest) -> ChatResult:
            async def attempt(route: Route, adapter: ChatAdapter) -> ChatResult:
                return await self._modes.chat(adapter, self._addressed(request, route), call)

            return await self._tried(model, ways, call, attempt)

        if request.n == 1:
            return await one(request)
        singles = [partial(one, _single(request, i)) for i in range(request.n)]
        results = await _at_once(singles, call)
        usage = sum((result.usage or Usage(estimated=True) for result in results), Usage())
        return ChatResult(choices=tuple(result.choices[0] for result in results), usage=usage)

    @asynccontextmanager
    async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        """A streamed answer, entered once its first event is there. Raises RelayError."""
        request, model, ways = self._prepare(request, call)
        async with AsyncExitStack() as stack:

            async def enter(route: Route, adapter: ChatAdapter) -> EventStream:
                sent = self._addressed(request, route)
                return await stack.enter_async_context(self._modes.stream_chat(route, adapter, sent, model, call))

            batches = await self._tried(model, ways, call, enter)
            call.first_event_at = time.monotonic()
            yield batches

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResult:
        """One vector a text, of the wanted dimensions; long lists go up in parts. Raises RelayError."""
        model = self._shelf.model(request.model)
        call.model = model.id
        if model.task != EMBEDDING_TASK and model.status != "unknown":
            raise InvalidRequest(
                f"The model '{model.id}' is made for {model.task.lower()}, not for embeddings.",
                param="model",
                code="model_not_supported",
            )
        if request.dimensions and model.output_dimensions and request.dimensions > model.output_dimensions:
            raise too_many_dimensions(model.id, model.output_dimensions)
        ways = self._backends.able(model, lambda upstream: upstream.embedder)
        if call.affinity is None and request.affinity is not None:
            call.affinity = affinity_of(request.affinity)

        async def embed_part(texts: tuple[str, ...]) -> EmbeddingResult:
            async def attempt(route: Route, embedder: Embedder) -> EmbeddingResult:
                part = msgspec.structs.replace(request, model=route.model.id, texts=texts)
                result = settle(await embedder.embed(part, call), part)
                call.count(result.usage)
                return result

            return await self._tried(model, ways, call, attempt)

        starts = range(0, len(request.texts), MOST_TEXTS)
        parts = [partial(embed_part, request.texts[start : start + MOST_TEXTS]) for start in starts]
        return await parts[0]() if len(parts) == 1 else join(await _at_once(parts, call))

    async def run_task(self, model: Model, inputs: Any, call: Call) -> NativeResult:
        """The answer of a task that has no protocol of its own; `inputs` as in `NativeTask`. Raises RelayError."""

        call.model = model.id

        async def attempt(route: Route, task: NativeTask) -> NativeResult:
            result = await task.run(route.model, inputs, call)
            call.count(result.usage)
            return result

        return await self._tried(model, self._backends.able(model, lambda upstream: upstream.task), call, attempt)

    def _prepare(self, request: ChatRequest, call: Call) -> tuple[ChatRequest, Model, list[tuple[Route, ChatAdapter]]]:
        model = self._shelf.model(request.model)
        call.model = model.id
        if not model.is_chat:
            raise InvalidRequest(
                f"The model '{model.id}' is made for {model.task.lower()}, not for chat."
                if model.task != "Text Generation"
                else f"The model '{model.id}' takes decisions, not conversations.",
                param="model",
                code="model_not_supported",
            )
        if model.vision is False:
            _refuse_images(request, model)
        if call.affinity is None and request.affinity is not None:
            call.affinity = affinity_of(request.affinity)
        return request, model, self._backends.able(model, lambda upstream: upstream.chat)

    def _addressed(self, request: ChatRequest, route: Route) -> ChatRequest:
        """The request as it goes that way: the upstream's own name of the model, and a limit within its bounds."""
        if request.max_tokens is not None:
            return msgspec.structs.replace(request, model=route.model.id)
        limit = self._default_max_tokens(request, route.model)
        return msgspec.structs.replace(request, model=route.model.id, max_tokens=limit, max_tokens_by_relay=True)

    def _default_max_tokens(self, request: ChatRequest, model: Model) -> int:
        limit = min(self._max_tokens, model.max_output or self._max_tokens)
        if model.context_window is None:
            return limit
        left = model.context_window - estimate_prompt(request)
        # Nothing left by an estimate that errs on the high side: the upstream shall have the last word.
        return min(limit, left if left > 0 else 256)

    async def _tried(
        self,
        model: Model,
        ways: Sequence[tuple[Route, B]],
        call: Call,
        attempt: Callable[[Route, B], Awaitable[T]],
    ) -> T:
        try:
            return await self._handover.run(ways, call, attempt)
        except RelayError as exc:
            self._name_successor(exc, model)
            raise

    def _name_successor(self, exc: RelayError, model: Model) -> None:
        """Add to the upstream's "no such model" what may be used instead."""
        if exc.fault is not Fault.MODEL_NOT_FOUND:
            return
        catalogue = self._shelf.catalogue
        successor = None if model.status == "unknown" else catalogue.successor(model)
        names = [successor] if successor else catalogue.suggestions(model.id)
        if model.id not in exc.message:
            exc.message = f"The model '{model.id}' is not available. {exc.message}".rstrip()
        if names and names[0] not in exc.message:
            exc.message = f"{exc.message.rstrip('.')}. Try {' or '.join(repr(name) for name in names)}."


def _single(request: ChatRequest, i: int) -> ChatRequest:
    """The i-th of the requests for one choice each; one seed would give one answer, n times over."""
    seed = None if request.seed is None else (request.seed + i + 2**63) % 2**64 - 2**63
    return msgspec.structs.replace(request, n=1, seed=seed)


async def _at_once(works: Sequence[Callable[[], Awaitable[T]]], call: Call) -> list[T]:
    """The results of all, in their order, a few of them running at a time. Raises the first RelayError."""
    results: dict[int, T] = {}
    gate = asyncio.Semaphore(_PARALLEL)

    async def one(i: int) -> None:
        async with gate:
            results[i] = await works[i]()

    started = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            for i in range(len(works)):
                group.create_task(one(i))
    except* RelayError as failures:
        raise _first(failures) from None
    finally:
        call.upstream_seconds = time.monotonic() - started
    return [results[i] for i in range(len(works))]


def _first(failures: BaseExceptionGroup[RelayError]) -> RelayError:
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure


def _refuse_images(request: ChatRequest, model: Model) -> None:
    for i, message in enumerate(request.messages):
        if any(isinstance(part, ImagePart) for part in message.content if not isinstance(part, str)):
            raise InvalidRequest(f"The model '{model.id}' does not take images.", param=f"messages[{i}].content")
