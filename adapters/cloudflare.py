"""Cloudflare's AI REST API: the native `POST /accounts/{id}/ai/run/{model}`.

Sources: Cloudflare's SDKs and provider packages (2026-07, 2026-08), captures of the live API (to 2026-10).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote

import httpx
import msgspec

from adapters.answer import gather, spread
from adapters.base import Call, EventStream
from adapters.canonical import ChatEvent, ChatRequest, ChatResult
from adapters.catalogue import Model
from adapters.errors import Fault, RelayError, StreamUnsupported
from adapters.http import as_ours, chunks_of, exchange, read_body
from adapters.wire.workers_ai import ChatStreamDecoder, EmptyResult, dump_chat_request, parse_chat_result
from adapters.wire.workers_ai_errors import parse_error

DEFAULT_BASE_URL = "https://api.cloudflare.com/client/v4"

_LONG_CALL = 3046  # a whole answer took longer than Cloudflare waits; the same call streamed succeeds
_SCHEMA_STREAM = 5023  # JSON mode and streaming do not go together
_DRAIN_SECONDS = 0.5  # for the last bytes after `[DONE]`, so that the connection can be used again
_RETRY_AFTER_MAX = 30.0
_SILENCE = "The upstream fell silent in the middle of its answer."


class NeedsStream(RelayError):
    """The answer takes too long to be waited for whole; asked for as a stream it would come."""

    def __init__(self) -> None:
        super().__init__(Fault.UPSTREAM_TIMEOUT, "Workers AI did not finish in time.", upstream_code=_LONG_CALL)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where the calls go and what they are paid with. `base_url` has no slash at its end."""

    account_id: str
    api_token: str
    base_url: str = DEFAULT_BASE_URL
    gateway: str | None = None
    gateway_token: str | None = None

    def __repr__(self) -> str:
        return "Account(***)"

    def headers(self) -> dict[str, str]:
        """What every call carries: credentials, and the AI Gateway to go through."""
        headers = {"authorization": f"Bearer {self.api_token}"}
        if self.gateway:
            headers["cf-aig-gateway-id"] = self.gateway
        if self.gateway_token:
            headers["cf-aig-authorization"] = f"Bearer {self.gateway_token}"
        return headers


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. `first_byte` covers a whole answer that is not streamed, `idle` a gap between frames."""

    connect: float = 10
    first_byte: float = 130
    idle: float = 60


class Cloudflare:
    """A ChatAdapter over one account. Every method raises RelayError."""

    name = "cloudflare"

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        account: Account,
        *,
        model_of: Callable[[str], Model],
        timeouts: Timeouts | None = None,
        hop: str = "",
        user_agent: str = "workers-ai-relay",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._timeouts = timeouts or Timeouts()
        self._model_of = model_of
        self._now = now
        self._token = account.api_token
        self._rests_until = 0.0  # Unix time; the account has no allocation left before it
        self._run = f"{account.base_url}/accounts/{quote(account.account_id, safe='')}/ai/run/"
        self._urls: dict[str, httpx.URL] = {}
        self._headers = httpx.Headers(
            {
                **account.headers(),
                "host": httpx.URL(account.base_url).netloc.decode(),
                "content-type": "application/json",
                "accept-encoding": "identity",
                "user-agent": user_agent,
                "x-relay-hop": hop,
            }
        )

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        """The whole answer. Raises NeedsStream where only a stream can bring it."""
        model = self._model_of(request.model)
        body = self._prepare(request, call, model, stream=False)
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._patience(call)):
                    response = await stack.enter_async_context(self._post(model, body, call))
                    if not _is_event_stream(response):
                        return parse_chat_result(await read_body(response), context_window=model.context_window)
                    # Some models stream whatever they are told.
                    batches = await self._begin(response, model)
                return await gather(batches)
        except TimeoutError:
            raise _late() from None
        except RelayError as exc:
            self._learn(exc)
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
                async with asyncio.timeout(self._patience(call)):
                    response = await stack.enter_async_context(self._post(model, body, call))
                    batches = await self._begin(response, model)
            except TimeoutError:
                raise _late() from None
            except RelayError as exc:
                self._learn(exc)
                if exc.upstream_code == _SCHEMA_STREAM:
                    raise StreamUnsupported(exc.message, remember=False) from None
                raise
            yield batches

    async def _begin(self, response: httpx.Response, model: Model) -> EventStream:
        """The batches, once there is a first; a whole answer that came in their place is one batch."""
        if _is_event_stream(response):
            batches = self._batches(response, model)
            await batches.prefetch()
            # From the first event on it is the gaps that count; the transport keeps that time at no cost a chunk.
            if set_idle := response.extensions.get("set_idle"):
                set_idle(self._timeouts.idle)
            return batches
        try:
            result = parse_chat_result(await read_body(response), context_window=model.context_window)
        except EmptyResult:
            raise StreamUnsupported("Workers AI has no stream for this model.", remember=True) from None
        return _one_batch(spread(result))

    def _batches(self, response: httpx.Response, model: Model) -> _Batches:
        decoder = ChatStreamDecoder(context_window=model.context_window)
        return _Batches(chunks_of(response), decoder, self._timeouts.idle)

    def _prepare(self, request: ChatRequest, call: Call, model: Model, *, stream: bool) -> bytes:
        if self._now() < self._rests_until:
            raise self._exhausted()
        body, changes = dump_chat_request(
            request, openai_form=model.openai_form, stream=stream, efforts=model.reasoning_efforts
        )
        call.accept(self.name, changes)
        return body

    def _patience(self, call: Call) -> float:
        return max(0.0, min(self._timeouts.first_byte, call.remaining()))

    @asynccontextmanager
    async def _post(self, model: Model, body: bytes, call: Call) -> AsyncIterator[httpx.Response]:
        patience = self._patience(call)
        limits = {"connect": min(self._timeouts.connect, patience)}
        async with exchange(
            self._transport, "POST", self._url(model.id), self._headers_for(call), body, limits=limits
        ) as response:
            if response.status_code != 200:
                raise self._refusal(response, await read_body(response), model)
            yield response

    def _url(self, model: str) -> httpx.URL:
        """Slashes stay as they are: Cloudflare takes ids raw and as one escaped segment."""
        url = self._urls.get(model)
        if url is None:
            url = httpx.URL(self._run + quote(model, safe="@/"))
            if len(self._urls) < 1000:  # ids come from callers
                self._urls[model] = url
        return url

    def _headers_for(self, call: Call) -> httpx.Headers:
        if call.affinity is None:
            return self._headers
        headers = self._headers.copy()
        headers["x-session-affinity"] = call.affinity
        return headers

    def _refusal(self, response: httpx.Response, body: bytes, model: Model) -> RelayError:
        error = parse_error(response.status_code, body, context_window=model.context_window)
        if error.fault is Fault.RATE_LIMITED:
            error.retry_after = _retry_after(response.headers.get("retry-after"))
        return error

    def _learn(self, error: RelayError) -> None:
        """A spent allocation comes as a status, in a body or in a stream's first frame; it holds for every model."""
        error.message = error.message.replace(self._token, "***")  # nothing that an upstream echoes may show it
        if error.fault is Fault.QUOTA_EXHAUSTED:
            self._rests_until = _next_midnight(self._now())

    @staticmethod
    def _exhausted() -> RelayError:
        return parse_error(429, b'{"errors":[{"code":3036,"message":""}]}')


class _Batches:
    """The events of a streamed answer, in the batches in which they came.

    A class rather than a generator: it can be left at any point without being closed, and a wait that
    runs out does not end it. Raises RelayError for a stream that breaks, falls silent or makes no sense.
    """

    def __init__(self, chunks: AsyncIterator[bytes], decoder: ChatStreamDecoder, idle: float) -> None:
        self._next_chunk = chunks.__anext__
        self._decoder = decoder
        self._idle = idle
        self._clock = asyncio.get_running_loop().time
        self._prefetched: list[ChatEvent] | None = None
        self._ended = False

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> list[ChatEvent]:
        if self._prefetched is not None:
            batch, self._prefetched = self._prefetched, None
            return batch
        if self._decoder.failure is not None:
            raise self._decoder.failure
        frames, since = self._decoder.frames, 0.0
        while not self._decoder.done and not self._ended:
            chunk = await self._read()
            events = self._close() if chunk is None else self._decoder.feed(chunk)
            if events:
                return events
            # The transport sees a silence of bytes; comments and halves of frames are silence as well.
            if frames != self._decoder.frames or not since:
                frames, since = self._decoder.frames, self._clock()
            elif self._clock() - since > self._idle:
                return self._silent()
        if not self._ended:
            await self._drain()
        raise StopAsyncIteration

    async def prefetch(self) -> None:
        """Wait for the first batch. Raises RelayError if there is none to come."""
        self._prefetched = await anext(self)

    def _close(self) -> list[ChatEvent]:
        self._ended = True
        return self._decoder.close()

    def _silent(self) -> list[ChatEvent]:
        """No frame has come for too long; that hurts only an answer which is not whole yet."""
        if self._decoder.complete:
            return self._close()
        raise RelayError(Fault.UPSTREAM_TIMEOUT, _SILENCE)

    async def _read(self) -> bytes | None:
        """The next chunk; `None` at the end. What breaks after the answer was whole has broken nothing."""
        try:
            return await self._next_chunk()
        except StopAsyncIteration:
            return None
        except httpx.TransportError as exc:
            if self._decoder.complete:
                return None
            if isinstance(exc, httpx.ReadTimeout):
                raise RelayError(Fault.UPSTREAM_TIMEOUT, _SILENCE) from exc
            raise as_ours(exc) from exc

    async def _drain(self) -> None:
        """Read what follows `[DONE]`, so that the connection can be used again."""
        self._ended = True
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while True:
                    await self._next_chunk()
        except (StopAsyncIteration, TimeoutError, httpx.TransportError):
            return  # the answer was whole; at worst the connection is lost


async def _one_batch(events: list[ChatEvent]) -> AsyncIterator[list[ChatEvent]]:
    yield events


def _is_event_stream(response: httpx.Response) -> bool:
    media_type: str = response.headers.get("content-type", "")
    return media_type.lower().startswith("text/event-stream")


def _late() -> RelayError:
    return RelayError(Fault.UPSTREAM_TIMEOUT, "Workers AI did not answer in time.")


def _retry_after(header: str | None) -> float | None:
    """Cloudflare's wish in seconds, if it has one, within what clients wait for."""
    try:
        wish = float(header or "")
    except ValueError:
        return None
    return min(max(1.0, wish), _RETRY_AFTER_MAX)  # in this order "nan" becomes 1


def _next_midnight(now: float) -> float:
    today = dt.datetime.fromtimestamp(now, dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (today + dt.timedelta(days=1)).timestamp()


def affinity_of(wish: str) -> str:
    """An opaque id for what a caller wants to be recognised by; the wish itself may be a name or an address."""
    return hashlib.sha256(wish.encode()).hexdigest()[:32]
