"""An engine of this machine as a backend: it is started by the first request for it, and held while one is open."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

import msgspec

from adapters.base import Call, EventStream
from adapters.canonical import ChatRequest, ChatResult, EmbeddingRequest, EmbeddingResult
from adapters.engine_calls import EngineCalls
from adapters.engine_health import Health, probe
from adapters.engine_stats import EngineStats
from adapters.errors import Fault, RelayError
from adapters.local.address import EngineAddress
from adapters.openai_compatible import OpenAICompatible

_SUSPECT = frozenset((Fault.UPSTREAM_UNREACHABLE, Fault.UPSTREAM_ERROR, Fault.UPSTREAM_TIMEOUT))
"""What may mean that the engine is dead; the supervisor looks."""
_PATIENCE = 1.0  # seconds for a list of one model, on this machine
_SHARE = re.compile(r"(?<![\d.])(100|\d{1,2})(?:\.\d+)? ?%")


class Leases(Protocol):
    """The supervisor, as its clients see it."""

    def lease(
        self, name: str, on_progress: Callable[[str], None] | None = None
    ) -> AbstractAsyncContextManager[EngineAddress]: ...

    def report_failure(self, name: str) -> None: ...


class LeasedEngine:
    """A ChatAdapter and an Embedder. Every method raises RelayError.

    `reach` makes the calls for an address, which may be another after each start. `learn` is told after each how many
    tokens a request may have; only for an engine of our own, which says so.
    """

    def __init__(
        self,
        name: str,
        leases: Leases,
        reach: Callable[[EngineAddress], EngineCalls],
        learn: Callable[[int], None] | None = None,
    ) -> None:
        self.name = name
        self.stats = EngineStats()
        self._leases = leases
        self._reach = reach
        self._address: EngineAddress | None = None
        self._engine: OpenAICompatible | None = None
        self._learn = learn
        self._learnt = False

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        async with self._leased(call) as engine:
            return await engine.chat(request, call)

    @asynccontextmanager
    async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        async with self._leased(call) as engine, engine.stream_chat(request, call) as batches:
            yield batches

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResult:
        async with self._leased(call) as engine:
            return await engine.embed(request, call)

    async def look(self, open_requests: int) -> Health:
        """What the engine tells, as far as it runs. One that does not is as good as ready: a request starts it."""
        if self._engine is None:
            return Health(ready=True)
        health = await probe(self._engine.calls, open_requests=open_requests)
        return health if health.ready or open_requests else Health(ready=True)

    @asynccontextmanager
    async def _leased(self, call: Call) -> AsyncIterator[OpenAICompatible]:
        """The engine where it is now; waits while it starts, as long as the client does."""
        patience = call.remaining()

        def hear(text: str) -> None:
            self._learnt = False
            call.progress = loading(self.name, text)

        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(None if patience == float("inf") else max(0.0, patience)):
                    address = await stack.enter_async_context(self._leases.lease(self.name, hear))
            except TimeoutError:
                raise RelayError(Fault.UPSTREAM_TIMEOUT, f"The engine '{self.name}' did not start in time.") from None
            finally:
                call.progress = ""
            engine = self._at(address)
            await self._learn_context(engine.calls)
            yield engine

    async def _learn_context(self, calls: EngineCalls) -> None:
        """Once after each start: the free memory of that moment has decided."""
        if self._learn is not None and not self._learnt:
            self._learnt = True
            if context := await _context_of(calls):
                self._learn(context)

    def _at(self, address: EngineAddress) -> OpenAICompatible:
        if self._engine is None:
            self._engine = OpenAICompatible(self._reach(address), stats=self.stats, on_failure=self._suspect)
        elif address != self._address:
            self._engine.calls = self._reach(address)
        self._address = address
        return self._engine

    def _suspect(self, error: RelayError) -> None:
        if error.fault in _SUSPECT:
            self._leases.report_failure(self.name)


class _Model(msgspec.Struct):
    context_window: int


class _Models(msgspec.Struct):
    data: list[_Model]


async def _context_of(calls: EngineCalls) -> int | None:
    """What our own engine says; `None` where there is no such answer, which its requests will tell."""
    try:
        async with asyncio.timeout(_PATIENCE):
            _, body = await calls.get("/v1/models", _PATIENCE)
    except (RelayError, TimeoutError):
        return None
    return told_context(body)


def told_context(body: bytes) -> int | None:
    """How many tokens a request may have, out of our own engine's list of models; `None` for anything else."""
    try:
        return min((model.context_window for model in msgspec.json.decode(body, type=_Models).data), default=None)
    except msgspec.DecodeError:
        return None


def loading(name: str, progress: str) -> str:
    """What a client may hear of a start: of the supervisor's text, which ends in a line of the log, a share alone."""
    found = _SHARE.search(progress)
    return f"loading {name} {found[1]}%" if found else f"loading {name}"
