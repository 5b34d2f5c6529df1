"""From a model's name to the backend that answers for it, with retries until the first event."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import msgspec

from adapters.base import Call, ChatAdapter, EventStream
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
from adapters.cloudflare import NeedsStream
from adapters.cloudflare_calls import affinity_of
from adapters.errors import Fault, InvalidRequest, RelayError, Retry
from adapters.tokens import estimate_prompt
from adapters.vectors import join, settle, too_many_dimensions
from adapters.wire.workers_ai_embeddings import MOST_TEXTS
from proxy.backends import Backends
from proxy.modes import Modes

T = TypeVar("T")

_PARALLEL = 8  # upstream calls at once for one request
_LONGEST_PAUSE = 2.0  # seconds; a client is rather told to come back, by a status, while it can still be sent


class Shelf:
    """The catalogue in force; a refresh puts a newer one in its place."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def model(self, id: str) -> Model:
        return self.catalogue.resolve(id)


class Retries(msgspec.Struct, frozen=True):
    """`limit` extra tries, the first after about `pause` seconds, each pause twice the last."""

    limit: int = 2
    pause: float = 0.25


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
        self._retries = retries or Retries()
        self._max_tokens = max_tokens

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        """A whole answer, of `request.n` choices. Raises RelayError."""
        request, model, adapter = self._prepare(request, call)
        if request.n == 1:
            return await self._retried(call, model, lambda: self._modes.chat(adapter, request, call))
        return await self._several(adapter, request, model, call)

    @asynccontextmanager
    async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        """A streamed answer, entered once its first event is there. Raises RelayError."""
        request, model, adapter = self._prepare(request, call)
        async with AsyncExitStack() as stack:

            async def enter() -> EventStream:
                stream = self._modes.stream_chat(adapter, request, model, call)
                return await stack.enter_async_context(stream)

            batches = await self._retried(call, model, enter)
            yield batches

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResult:
        """One vector a text, of the wanted dimensions; long lists go up in parts. Raises RelayError."""
        model = self._shelf.model(request.model)
        if model.task != EMBEDDING_TASK and model.status != "unknown":
            raise InvalidRequest(
                f"The model '{model.id}' is made for {model.task.lower()}, not for embeddings.",
                param="model",
                code="model_not_supported",
            )
        if request.dimensions and model.output_dimensions and request.dimensions > model.output_dimensions:
            raise too_many_dimensions(model.id, model.output_dimensions)
        embedder = self._backends.embedder(model)
        if call.affinity is None and request.affinity is not None:
            call.affinity = affinity_of(request.affinity)

        async def embed_part(texts: tuple[str, ...]) -> EmbeddingResult:
            part = msgspec.structs.replace(request, model=model.id, texts=texts)

            async def attempt() -> EmbeddingResult:
                return settle(await embedder.embed(part, call), part)

            return await self._retried(call, model, attempt)

        starts = range(0, len(request.texts), MOST_TEXTS)
        parts = [partial(embed_part, request.texts[start : start + MOST_TEXTS]) for start in starts]
        return await parts[0]() if len(parts) == 1 else join(await _at_once(parts, call))

    async def run_task(self, model: Model, inputs: Any, call: Call) -> NativeResult:
        """The answer of a task that has no protocol of its own; `inputs` as in `NativeTask`. Raises RelayError."""
        task = self._backends.task(model)
        return await self._retried(call, model, lambda: task.run(model, inputs, call))

    def _prepare(self, request: ChatRequest, call: Call) -> tuple[ChatRequest, Model, ChatAdapter]:
        model = self._shelf.model(request.model)
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
        limit = request.max_tokens or self._default_max_tokens(request, model)
        return msgspec.structs.replace(request, model=model.id, max_tokens=limit), model, self._backends.chat(model)

    def _default_max_tokens(self, request: ChatRequest, model: Model) -> int:
        limit = min(self._max_tokens, model.max_output or self._max_tokens)
        if model.context_window is None:
            return limit
        left = model.context_window - estimate_prompt(request)
        # Nothing left by an estimate that errs on the high side: the upstream shall have the last word.
        return min(limit, left if left > 0 else 256)

    async def _retried(self, call: Call, model: Model, attempt: Callable[[], Awaitable[T]]) -> T:
        tries = 0
        while True:
            started = call.upstream_since = time.monotonic()
            try:
                return await attempt()
            except RelayError as exc:
                pause = self._pause(exc, tries, call)
                if pause is None:
                    self._name_successor(exc, model)
                    raise
            finally:
                call.upstream_seconds += time.monotonic() - started
                call.upstream_since = None
            tries += 1
            await asyncio.sleep(pause)

    def _pause(self, exc: RelayError, tries: int, call: Call) -> float | None:
        """Seconds until the next try, jittered; `None` if there shall be none."""
        if call.scene is not None and call.scene.scripted:
            return None  # the next try would be told to fail in the same way
        allowed = {Retry.NO: 0, Retry.ONCE: min(1, self._retries.limit), Retry.YES: self._retries.limit}
        if tries >= allowed[exc.fault.retry] or isinstance(exc, NeedsStream):
            return None  # the stream that it needed was the other try
        pause = self._retries.pause * 2**tries * random.uniform(0.5, 1.5)
        if exc.fault is Fault.RATE_LIMITED and exc.retry_after is not None and self._retries.pause:
            pause = max(pause, exc.retry_after * random.uniform(1.0, 1.2))
        return pause if pause <= _LONGEST_PAUSE and pause < call.remaining() else None

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

    async def _several(self, adapter: ChatAdapter, request: ChatRequest, model: Model, call: Call) -> ChatResult:
        """As many answers as were asked for, each from a call of its own; the usage is that of all."""

        async def one(i: int) -> ChatResult:
            # One seed would give one answer, n times over.
            seed = None if request.seed is None else (request.seed + i + 2**63) % 2**64 - 2**63
            single = msgspec.structs.replace(request, n=1, seed=seed)
            return await self._retried(call, model, lambda: self._modes.chat(adapter, single, call))

        results = await _at_once([partial(one, i) for i in range(request.n)], call)
        usage = sum((result.usage or Usage(estimated=True) for result in results), Usage())
        return ChatResult(choices=tuple(result.choices[0] for result in results), usage=usage)


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
