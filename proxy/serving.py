"""How every endpoint reads a request and sends an answer, whatever it serves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar

import msgspec
from starlette.types import Receive, Scope, Send

from adapters.base import EventStream
from proxy import problems
from proxy.answers import ClientLeft, body_chunks, read_body
from proxy.boundary import StreamBroken
from proxy.dialects import Problems
from proxy.drain import Drain
from proxy.eventstream import EventStreamAnswer, KeepAlive, StreamEncoder, beside_client

T = TypeVar("T")
Headers = Iterable[tuple[bytes, bytes]]


class Forwarded(Protocol):
    """An upstream's answer on its way through: its body is not ours to read."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    @property
    def chunks(self) -> AsyncIterator[bytes]: ...


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What endpoints share: the drain that ends them, the pulse of their streams, the size of a body in bytes.

    `problems` is the dialect in which a stream that has begun tells of its failure; with `cut` its body then breaks
    off, so that a client sees it which looks for no error in band.
    """

    drain: Drain
    keep_alive: KeepAlive
    max_body: int
    problems: Problems = problems
    cut: bool = False

    async def body(self, scope: Scope, receive: Receive, limit: int | None = None) -> bytes:
        """The request's whole body. Raises HTTPException 413 past `limit` bytes, 415, ClientLeft, RelayError."""
        async with self.drain.guard():  # a body may come as slowly as an answer
            return await read_body(scope, receive, limit or self.max_body)

    @asynccontextmanager
    async def chunks(self, scope: Scope, receive: Receive, limit: int) -> AsyncIterator[AsyncGenerator[bytes]]:
        """The request's body as it comes, for one too large to be held in memory. Raises as `body` does."""
        async with self.drain.guard():
            yield body_chunks(scope, receive, limit)

    async def whole(self, receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, which is cancelled as soon as the client leaves. Raises ClientLeft."""
        return await beside_client(receive, self.drain, work)

    async def events(
        self,
        receive: Receive,
        send: Send,
        encoder: StreamEncoder,
        stream: AbstractAsyncContextManager[EventStream],
        headers: Headers = (),
        progress: Callable[[], str] = str,
    ) -> None:
        """Send a whole stream. Raises ClientLeft, StreamBroken, or what failed before anything was sent.

        `progress` tells what is waited for before it begins.
        """
        answer = EventStreamAnswer(
            receive,
            send,
            encoder,
            self.keep_alive,
            problems=self.problems,
            headers=headers,
            cut=self.cut,
            progress=progress,
        )
        await answer.run(stream, self.drain)

    async def forward(
        self, receive: Receive, send: Send, upstream: AbstractAsyncContextManager[Forwarded], headers: Headers = ()
    ) -> None:
        """Send an upstream's answer as it comes. One that breaks off breaks the connection, too (StreamBroken).

        Raises ClientLeft.
        """
        begun = False

        async def pass_on() -> None:
            nonlocal begun
            async with upstream as answer:
                start = [*answer.headers, *headers]
                await send({"type": "http.response.start", "status": answer.status, "headers": start})
                begun = True
                async for chunk in answer.chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        try:
            await beside_client(receive, self.drain, pass_on)
        except ClientLeft:
            raise
        except Exception as exc:
            if begun:
                raise StreamBroken from exc
            raise
