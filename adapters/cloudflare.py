"""Chat over Cloudflare's AI REST API: the native `POST /accounts/{id}/ai/run/{model}`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import httpx

from adapters.answer import AnswerRules, gather, settled, spread
from adapters.base import Call, EventStream
from adapters.batches import Batches, one_batch
from adapters.canonical import ChatRequest, ChatResult
from adapters.catalogue import Model
from adapters.cloudflare_calls import CloudflareCalls, is_event_stream, late
from adapters.errors import Fault, RelayError, StreamUnsupported
from adapters.http import chunks_of, read_body
from adapters.wire.workers_ai import ChatStreamDecoder, EmptyResult, dump_chat_request, parse_chat_result

_LONG_CALL = 3046  # a whole answer took longer than Cloudflare waits; the same call streamed succeeds
_SCHEMA_STREAM = 5023  # JSON mode and streaming do not go together


class NeedsStream(RelayError):
    """The answer takes too long to be waited for whole; asked for as a stream it would come."""

    def __init__(self) -> None:
        super().__init__(Fault.UPSTREAM_TIMEOUT, "Workers AI did not finish in time.", upstream_code=_LONG_CALL)


class Cloudflare:
    """A ChatAdapter over one account. Every method raises RelayError."""

    name = "cloudflare"

    def __init__(self, calls: CloudflareCalls, *, model_of: Callable[[str], Model]) -> None:
        self._calls = calls
        self._model_of = model_of
        self._idle = calls.timeouts.idle

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        """The whole answer. Raises NeedsStream where only a stream can bring it."""
        model = self._model_of(request.model)
        body = self._prepare(request, call, model, stream=False)
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._calls.patience(call)):
                    response = await stack.enter_async_context(self._calls.post(model, body, call))
                    if not is_event_stream(response):
                        return parse_chat_result(await read_body(response), context_window=model.context_window)
                    # Some models stream whatever they are told.
                    batches = settled(await self._begin(response, model), AnswerRules(request))
                    return await gather(await stack.enter_async_context(aclosing(batches)))
        except TimeoutError:
            raise late() from None
        except RelayError as exc:
            self._calls.learn(exc)
            if exc.upstream_code == _LONG_CALL:
                raise NeedsStream from None
            raise

    @asynccontextmanager
    async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        """The answer in pieces; entered once the first of them is there.

        Raises StreamUnsupported where the same request has to be made without a stream.
        """
        model = self._model_of(request.model)
        body = self._prepare(request, call, model, stream=True)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._calls.patience(call)):
                    response = await stack.enter_async_context(self._calls.post(model, body, call))
                    batches = await self._begin(response, model)
            except TimeoutError:
                raise late() from None
            except RelayError as exc:
                self._calls.learn(exc)
                if exc.upstream_code == _SCHEMA_STREAM:
                    raise StreamUnsupported(exc.message, remember=False) from None
                raise
            yield batches

    async def _begin(self, response: httpx.Response, model: Model) -> EventStream:
        """The batches, once there is a first; a whole answer that came in their place is one batch."""
        if is_event_stream(response):
            batches = self._batches(response, model)
            await batches.prefetch()
            # From the first event on it is the gaps that count; the transport keeps that time at no cost a chunk.
            if set_idle := response.extensions.get("set_idle"):
                set_idle(self._idle)
            return batches
        try:
            result = parse_chat_result(await read_body(response), context_window=model.context_window)
        except EmptyResult:
            raise StreamUnsupported("Workers AI has no stream for this model.", remember=True) from None
        return one_batch(spread(result))

    def _batches(self, response: httpx.Response, model: Model) -> Batches:
        decoder = ChatStreamDecoder(context_window=model.context_window)
        return Batches(chunks_of(response), decoder, self._idle)

    def _prepare(self, request: ChatRequest, call: Call, model: Model, *, stream: bool) -> bytes:
        self._calls.check_allocation()
        body, changes = dump_chat_request(
            request, openai_form=model.openai_form, stream=stream, efforts=model.reasoning_efforts
        )
        call.accept(self.name, changes)
        return body
