"""What the routes here need of the server that they are in; it is handed to them."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.base import Call

T = TypeVar("T")
Headers = Iterable[tuple[bytes, bytes]]

_ACCOUNT = re.compile(r"[A-Za-z0-9_-]+")


class Forwarded(Protocol):
    """An upstream's answer on its way through."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    @property
    def chunks(self) -> AsyncIterator[bytes]: ...


class Serving(Protocol):
    """How a request is read and answered beside a client that may leave and a server that may stop."""

    async def body(self, scope: Scope, receive: Receive, limit: int | None = None) -> bytes: ...

    def chunks(
        self, scope: Scope, receive: Receive, limit: int
    ) -> AbstractAsyncContextManager[AsyncGenerator[bytes]]: ...

    async def whole(self, receive: Receive, work: Callable[[], Awaitable[T]]) -> T: ...

    async def forward(
        self, receive: Receive, send: Send, upstream: AbstractAsyncContextManager[Forwarded], headers: Headers = ()
    ) -> None: ...


class Forward(Protocol):
    """Sends a request on to Cloudflare: `path` is what follows `ai/`, percent-encoded, `query` as it came.

    Account and token are the relay's own. Entering raises RelayError.
    """

    def __call__(
        self, method: str, path: str, query: bytes, headers: Headers, body: bytes, call: Call
    ) -> AbstractAsyncContextManager[Forwarded]: ...


class OfAccount:
    """Refuses an account id that Cloudflare's router would not take (404), then asks `app`."""

    __slots__ = ("app",)

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _ACCOUNT.fullmatch(scope["path_params"]["account"]) is None:
            raise HTTPException(404)
        await self.app(scope, receive, send)


class PassThrough:
    """Hands a request to Cloudflare as it is; `path` is that of its route below `ai/`.

    The body may have `max_body` bytes.
    """

    __slots__ = ("_forward", "_max_body", "_path", "_serving")

    def __init__(self, forward: Forward, serving: Serving, path: str, max_body: int) -> None:
        self._forward = forward
        self._serving = serving
        self._path = path
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call = scope["state"]["call"]
        body = await self._serving.body(scope, receive, self._max_body)
        path = self._path.format_map({name: quote(value, safe="") for name, value in scope["path_params"].items()})
        upstream = self._forward(scope["method"], path, scope["query_string"], scope["headers"], body, call)
        await self._serving.forward(receive, send, upstream)
