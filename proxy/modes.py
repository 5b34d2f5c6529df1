"""The four cells of (does the client want a stream?) x (can the upstream stream?).

A stream for a client is native or synthetic; a whole answer comes whole, or is put together from a
stream where nothing else will bring it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from adapters.answer import AnswerRules, gather, settle, settled
from adapters.base import Call, ChatAdapter, EventStream
from adapters.canonical import Change, ChatRequest, ChatResult
from adapters.catalogue import Model
from adapters.cloudflare import NeedsStream
from adapters.errors import Fault, RelayError, StreamUnsupported
from adapters.replay import replay
from proxy.backends import Route

REMEMBERED = 3600.0  # seconds for which a model that could not stream is not asked again


class Modes:
    """Chooses and runs the cell for a request. One per process: it remembers which models cannot stream.

    `default` and `by_model` are the operator's wish: `auto`, `native` or `synthetic`.
    """

    def __init__(
        self, default: str, by_model: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._default = default
        self._by_model = by_model
        self._clock = clock
        self._whole_only: dict[tuple[str, str], float] = {}  # upstream and model to the end of their hour

    def streams_natively(self, route: Route, request: ChatRequest, model: Model, call: Call) -> bool:
        """Whether to ask the upstream for a stream; a wish that cannot be granted is listed as a change.

        `model` is the one that was asked for, which the operator's wishes go by.
        """
        wish = self._wish(model, call)
        if wish == "synthetic":
            return False
        possible = (
            # Cloudflare has no streams in JSON mode; engines have.
            (request.response_format is None or route.upstream.engine)
            and (route.model.streaming is not False or wish == "native")
            and self._whole_only.get((route.name, route.model.id), 0.0) <= self._clock()
        )
        if wish == "native" and not possible:
            call.replaced = (Change("stream", "emulated"),)
        return possible

    def _wish(self, model: Model, call: Call) -> str:
        return call.stream_mode or self._by_model.get(model.id) or self._default

    async def chat(self, adapter: ChatAdapter, request: ChatRequest, call: Call) -> ChatResult:
        """A whole answer, settled."""
        try:
            result = settle(await adapter.chat(request, call), request)
            call.count(result.usage)
            return result
        except NeedsStream as late:
            try:
                # As long as it takes: that it takes long is why it is streamed. Its silences have their limit.
                patience = None if call.remaining() == float("inf") else max(0.0, call.remaining())
                async with asyncio.timeout(patience), self._native(adapter, request, call) as batches:
                    return await gather(batches)
            except (StreamUnsupported, TimeoutError):
                raise late from None
            except RelayError as exc:
                if exc.fault is Fault.UPSTREAM_TIMEOUT:  # this was the other try
                    raise late from None
                raise

    @asynccontextmanager
    async def stream_chat(
        self, route: Route, adapter: ChatAdapter, request: ChatRequest, model: Model, call: Call
    ) -> AsyncIterator[EventStream]:
        """A streamed answer, settled; entered once its first event is there."""
        async with AsyncExitStack() as stack:
            batches: EventStream | None = None
            if self.streams_natively(route, request, model, call):
                try:
                    batches = await stack.enter_async_context(self._native(adapter, request, call))
                except StreamUnsupported as exc:
                    if exc.remember:
                        self._whole_only[route.name, route.model.id] = self._clock() + REMEMBERED
                    if self._wish(model, call) == "native":
                        call.replaced = (Change("stream", "emulated"),)
            if batches is None:
                result = await self.chat(adapter, request, call)
                batches = await stack.enter_async_context(replay(result))
            yield batches

    @asynccontextmanager
    async def _native(self, adapter: ChatAdapter, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        rules = AnswerRules(request)
        async with adapter.stream_chat(request, call) as batches:
            yield settled(batches, rules)
        call.count(rules.usage)
