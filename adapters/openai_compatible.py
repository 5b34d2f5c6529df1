"""Chat and embeddings of any engine that speaks OpenAI's HTTP API, on this machine or another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager

import httpx

from adapters.admission import Admission, QueueFull
from adapters.answer import AnswerRules, gather, settled, spread
from adapters.base import Call, EventStream
from adapters.batches import Batches, one_batch
from adapters.canonical import ChatEvent, ChatRequest, ChatResult, EmbeddingRequest, EmbeddingResult
from adapters.cloudflare_calls import is_event_stream
from adapters.engine_calls import EngineCalls, late
from adapters.engine_stats import EngineStats, Watch
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.http import chunks_of, read_body
from adapters.tokens import estimate_prompt, estimate_text
from adapters.vectors import checked
from adapters.wire.changes import HEADER, parse_changes
from adapters.wire.openai_engine import EngineStreamDecoder, parse_engine_result
from adapters.wire.openai_engine_embeddings import dump_engine_embedding_request, parse_engine_embedding_result
from adapters.wire.openai_engine_request import EngineRequest, dump_engine_request, offered

MOST_AT_ONCE = 10_000
"""Requests that reach an engine which keeps the queue itself."""


class OpenAICompatible:
    """A ChatAdapter and an Embedder over one engine. Every method raises RelayError.

    No more requests than the engine can take reach it at once; the others wait here, first come, first served, and
    are refused with OVERLOADED where too many wait or one has waited too long.
    """

    def __init__(
        self,
        calls: EngineCalls,
        *,
        stats: EngineStats | None = None,
        on_failure: Callable[[RelayError], None] | None = None,
    ) -> None:
        endpoint = calls.endpoint
        self.name = endpoint.name
        self.stats = stats or EngineStats()
        limit = endpoint.max_concurrency or endpoint.profile.max_concurrency
        self._at_once = limit
        self.admission = Admission(MOST_AT_ONCE if endpoint.profile.queues else limit, endpoint.queue)
        self.calls = calls
        """May be replaced where the engine has moved to another address."""
        self._endpoint = endpoint
        self._profile = endpoint.profile
        self._form = endpoint.profile.form
        self._idle = calls.timeouts.idle
        self._on_failure = on_failure

    @property
    def open(self) -> int:
        """Requests that the engine is working on."""
        return self.admission.open

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return self.admission.waiting

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        """The whole answer."""
        sent = self._prepare(request, call, stream=False)
        async with self._place(call, wait=not request.reject_if_busy):
            watch = Watch(self.stats)
            with self._noting():
                try:
                    async with AsyncExitStack() as stack, asyncio.timeout(self.calls.patience(call)):
                        response = await stack.enter_async_context(self.calls.chat(sent.body, call))
                        self._accept(response, request, sent, call)
                        if not is_event_stream(response):
                            result = self._parse(await read_body(response), request, sent)
                        else:  # some engines stream whatever they are told
                            batches = settled(await self._begin(response, request, sent), AnswerRules(request))
                            result = await gather(await stack.enter_async_context(aclosing(batches)))
                except TimeoutError:
                    raise late() from None
            watch.whole(result.usage)
            return result

    @asynccontextmanager
    async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        """The answer in pieces; entered once the first of them is there."""
        sent = self._prepare(request, call, stream=True)
        async with self._place(call, wait=not request.reject_if_busy), AsyncExitStack() as stack:
            watch = Watch(self.stats)
            with self._noting():
                try:
                    async with asyncio.timeout(self.calls.patience(call)):
                        response = await stack.enter_async_context(self.calls.chat(sent.body, call))
                        self._accept(response, request, sent, call)
                        batches = await self._begin(response, request, sent)
                except TimeoutError:
                    raise late() from None
            yield _Measured(batches, self, watch)

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResult:
        """Vectors in the model's own length where the engine cannot cut them."""
        if not self._profile.embeddings:
            raise InvalidRequest(
                f"The engine '{self.name}' ({self._profile.name}) offers no embeddings.",
                param="model",
                code="model_not_supported",
            )
        body, changes = dump_engine_embedding_request(request, self._form, model=self._own_name(request.model))
        call.accept(self.name, changes)
        async with self._place(call):
            watch = Watch(self.stats)
            with self._noting():
                try:
                    async with asyncio.timeout(self.calls.patience(call)):
                        answer = await self.calls.embed(body, call)
                except TimeoutError:
                    raise late() from None
                result = parse_engine_embedding_result(answer, context_window=self._endpoint.context_window)
                result = checked(result, len(request.texts))
            watch.embedded()
            return result

    def failed(self, error: RelayError) -> None:
        """Note an error of the engine's, and take the key out of it."""
        self.calls.redact(error)
        self.stats.failed(error)
        if self._on_failure is not None:
            self._on_failure(error)

    def _prepare(self, request: ChatRequest, call: Call, *, stream: bool) -> EngineRequest:
        sent = dump_engine_request(
            request,
            self._form,
            model=self._own_name(request.model),
            stream=stream,
            prompt_tokens=_prompt_tokens(request),
            context_window=self._endpoint.context_window,
        )
        call.accept(self.name, sent.changes)
        return sent

    def _accept(self, response: httpx.Response, request: ChatRequest, sent: EngineRequest, call: Call) -> None:
        """Note what the engine itself had to change. Raises InvalidRequest in strict mode."""
        if self._profile.changes and (told := response.headers.get(HEADER)):
            theirs = parse_changes(told)
            if request.max_tokens_by_relay:  # nobody asked for so many
                theirs = [change for change in theirs if change.field != "max_tokens"]
            call.accept(self.name, [*sent.changes, *theirs])

    def _own_name(self, model: str) -> str:
        return self._endpoint.models.get(model, model)

    @asynccontextmanager
    async def _place(self, call: Call, *, wait: bool = True) -> AsyncIterator[None]:
        """A place at the engine, after a wait if need be. Raises RelayError (OVERLOADED)."""
        admission = self.admission
        async with AsyncExitStack() as stack:
            try:
                if not wait and admission.open >= self._at_once:
                    raise QueueFull
                await stack.enter_async_context(admission.place(self.calls.patience(call) if wait else 0.0))
            except QueueFull:
                in_work = min(admission.open, self._at_once)
                raise RelayError(
                    Fault.OVERLOADED,
                    f"The engine '{self.name}' has {in_work} requests in work and {admission.waiting} waiting. "
                    "Try again shortly.",
                    retry_after=self.stats.wait_for(admission.waiting + 1, admission.limit),
                ) from None
            yield

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except RelayError as exc:
            self.failed(exc)
            raise

    async def _begin(self, response: httpx.Response, request: ChatRequest, sent: EngineRequest) -> EventStream:
        """The batches, once there is a first; a whole answer that came in their place is one batch."""
        if not is_event_stream(response):
            return one_batch(spread(self._parse(await read_body(response), request, sent)))
        decoder = EngineStreamDecoder(
            self._form,
            functions=[tool.name for tool in offered(request, self._form)],
            context_window=self._endpoint.context_window,
        )
        batches = Batches(chunks_of(response), decoder, self._idle)
        await batches.prefetch()
        # From the first event on it is the gaps that count; the transport keeps that time at no cost a chunk.
        if set_idle := response.extensions.get("set_idle"):
            set_idle(self._idle)
        return batches

    def _parse(self, body: bytes, request: ChatRequest, sent: EngineRequest) -> ChatResult:
        return parse_engine_result(
            body,
            self._form,
            functions=[tool.name for tool in offered(request, self._form)],
            limit=sent.limit,
            context_window=self._endpoint.context_window,
        )


class _Measured:
    """The batches as they come, noted down."""

    def __init__(self, batches: EventStream, engine: OpenAICompatible, watch: Watch) -> None:
        self._next = batches.__anext__
        self._engine = engine
        self._watch = watch

    def __aiter__(self) -> _Measured:
        return self

    async def __anext__(self) -> list[ChatEvent]:
        try:
            batch = await self._next()
        except RelayError as exc:
            self._engine.failed(exc)
            raise
        self._watch.batch(batch)
        return batch


def _prompt_tokens(request: ChatRequest) -> int:
    """An estimate on the high side: two characters of Chinese are more than one token, three of English are one."""
    texts = [turn.content for turn in request.messages if isinstance(turn.content, str)]
    wide = sum(len(text) - len(text.encode("ascii", "ignore")) for text in texts if not text.isascii())
    return estimate_prompt(request) + estimate_text(wide)
