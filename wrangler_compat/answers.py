"""What a model's run gives, and how each kind of it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import chain
from typing import Protocol, TypeVar

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.base import Call, EventStream
from adapters.canonical import ChatEvent, Finish, Media, Usage
from wrangler_compat.seams import Forwarded, Headers, Serving

T = TypeVar("T")
Header = tuple[bytes, bytes]

JSON = b"application/json"
"""Exactly so: the binding compares it with `===`."""


class StreamEncoder(Protocol):
    """Events to the frames of one shape of stream."""

    @property
    def media_type(self) -> bytes: ...

    def start(self) -> bytes: ...

    def keep_alive(self) -> bytes: ...

    def encode(self, events: Sequence[ChatEvent]) -> bytes: ...

    def error(self, body: bytes) -> bytes: ...


class KeepAlive(Protocol):
    def within(self, patience: float) -> bool: ...


class StreamServing(Serving, Protocol):
    """Serving that sends streams of events, too."""

    @property
    def keep_alive(self) -> KeepAlive: ...

    async def events(
        self,
        receive: Receive,
        send: Send,
        encoder: StreamEncoder,
        stream: AbstractAsyncContextManager[EventStream],
        headers: Headers = (),
    ) -> None: ...


class Json(msgspec.Struct, frozen=True):
    """A result as JSON, without an envelope. `neurons` is `None` where nothing was inferred."""

    body: bytes
    usage: Usage | None = None
    neurons: float | None = None
    status: int = 200


class Binary(msgspec.Struct, frozen=True):
    media: Media
    neurons: float = 0.0


class Whole(msgspec.Struct, frozen=True):
    """An answer that comes at once, when `work` is done. Nothing is asked of anybody before."""

    work: Callable[[], Awaitable[Json | Binary]]


class Stream(msgspec.Struct, frozen=True):
    encoder: StreamEncoder
    events: AbstractAsyncContextManager[EventStream]


class Through(msgspec.Struct, frozen=True):
    """Cloudflare's own answer, on its way."""

    upstream: AbstractAsyncContextManager[Forwarded]


class Handed(msgspec.Struct, frozen=True):
    """A request that another route answers, under the address that this route knows."""

    app: ASGIApp
    path: str
    query: bytes = b""


Inferred = Whole | Stream | Through
Answer = Inferred | Handed


def known(answer: Json) -> Whole:
    """An answer that needs no work."""

    async def work() -> Json:
        return answer

    return Whole(work)


class Sent:
    """What was sent, for those who keep a record: filled in as the answer goes out."""

    __slots__ = ("media_type", "size", "status", "usage")

    def __init__(self) -> None:
        self.status = 0
        self.media_type = ""
        self.size = 0
        self.usage: Usage | None = None

    def watching(self, send: Send) -> Send:
        """`send`, with all that passes noted here."""

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.media_type = next((v.decode("latin-1") for k, v in message["headers"] if k == b"content-type"), "")
            else:
                self.size += len(message.get("body", b""))
            await send(message)

        return watched

    def tapped(self, stream: AbstractAsyncContextManager[EventStream]) -> AbstractAsyncContextManager[EventStream]:
        """The same stream, its usage noted here."""
        return _tapped(stream, self)


@asynccontextmanager
async def _tapped(stream: AbstractAsyncContextManager[EventStream], sent: Sent) -> AsyncIterator[EventStream]:
    async def batches(source: EventStream) -> EventStream:
        async for batch in source:
            if isinstance(batch[-1], Finish):
                sent.usage = batch[-1].usage
            yield batch

    async with stream as source:
        yield batches(source)


def _without_body(receive: Receive) -> Receive:
    """`receive` of a request whose body has been read: it begins with an empty one."""
    begun = False

    async def receive_again() -> Message:
        nonlocal begun
        if begun:
            return await receive()
        begun = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive_again


class Delivery(msgspec.Struct, frozen=True):
    """Sends answers; `wrap` puts a JSON result into the envelope of the entrance, if it has one."""

    serving: StreamServing
    wrap: Callable[[bytes], bytes]

    async def send(
        self,
        answer: Answer,
        asgi: tuple[Scope, Receive, Send],
        headers: Iterable[Header] = (),
        sent: Sent | None = None,
    ) -> None:
        """What was sent is noted in `sent`. Raises what the serving raises, RelayError among it."""
        scope, receive, send = asgi
        call: Call = scope["state"]["call"]
        sent = sent or Sent()
        send = sent.watching(send)
        # Lazily: which entry of a list answered (`cf-aig-step`) is known when the answer begins.
        own = chain([(b"cf-ai-req-id", call.id.encode())], headers)
        match answer:
            case Whole(work):
                done = await self.serving.whole(receive, work)
                sent.usage = done.usage if isinstance(done, Json) else None
                await self._send_whole(done, send, own)
            case Stream(encoder, events):
                if self.serving.keep_alive.within(call.remaining()):
                    call.deadline = float("inf")  # each of them renews the client's patience
                await self.serving.events(receive, send, encoder, sent.tapped(events), own)
            case Through(upstream):
                await self.serving.forward(receive, send, upstream, headers)
            case _:
                path, query = answer.path, answer.query
                inner = {**scope, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query}
                await answer.app(inner, _without_body(receive), send)

    async def _send_whole(self, done: Json | Binary, send: Send, headers: Iterable[Header]) -> None:
        headers = list(headers)
        if done.neurons is not None:
            headers.append((b"cf-ai-neurons", b"%.2f" % done.neurons))
        if isinstance(done, Json):
            body, media_type, status = self.wrap(done.body), JSON, done.status
        else:
            body, media_type, status = done.media.data, done.media.media_type.encode(), 200
        start = [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), *headers]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": body})
