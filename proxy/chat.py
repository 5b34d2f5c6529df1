"""Chat, whatever the dialect."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from starlette.types import Receive, Scope, Send

from adapters.base import Call, EventStream
from adapters.canonical import ChatRequest, ChatResult
from adapters.wire.openai_chat import Stamp
from proxy.answers import send_body
from proxy.eventstream import StreamEncoder
from proxy.serving import Serving

ID_PREFIX = "chatcmpl-"


class ChatDialect(Protocol):
    """A module of `adapters.wire` that a client can speak."""

    @property
    def parse_chat_request(self) -> Callable[[bytes], ChatRequest]: ...

    @property
    def dump_chat_result(self) -> Callable[[ChatResult, ChatRequest, Stamp], bytes]: ...

    @property
    def ChatStreamEncoder(self) -> Callable[[ChatRequest, Stamp], StreamEncoder]: ...


class ChatBackend(Protocol):
    """What an endpoint asks: one backend or many look the same from here."""

    def chat(self, request: ChatRequest, call: Call) -> Awaitable[ChatResult]: ...

    def stream_chat(self, request: ChatRequest, call: Call) -> AbstractAsyncContextManager[EventStream]: ...


class ChatEndpoint:
    """Serve chat in one dialect. An ASGI app, so that the upstream call lives and dies inside `__call__`."""

    def __init__(self, dialect: ChatDialect, backend: ChatBackend, serving: Serving) -> None:
        self._dialect = dialect
        self._backend = backend
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call = scope["state"]["call"]
        body = await self._serving.body(scope, receive)
        request = self._dialect.parse_chat_request(body)
        stamp = _stamp(request.model)
        if request.stream:
            if self._serving.keep_alive.within(call.remaining()):
                call.deadline = float("inf")  # each of them renews the client's patience
            encoder = self._dialect.ChatStreamEncoder(request, stamp)
            stream = self._backend.stream_chat(request, call)
            return await self._serving.events(receive, send, encoder, stream, progress=lambda: call.progress)
        result = await self._serving.whole(receive, lambda: self._backend.chat(request, call))
        await send_body(send, self._dialect.dump_chat_result(result, request, stamp))


def _stamp(model: str) -> Stamp:
    return Stamp(
        id=ID_PREFIX + secrets.token_hex(16),
        created=int(time.time()),
        model=model,
        fingerprint="fp_" + hashlib.sha256(model.encode()).hexdigest()[:10],
    )
