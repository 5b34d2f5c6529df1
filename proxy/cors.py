"""Cross-origin calls from browsers, at no cost to everybody else."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.base import Call
from adapters.errors import InvalidRequest

_DESCRIBES_BODY = (b"content-type", b"content-length")


class Cors:
    """Starlette's middleware for requests that name an origin; others pass it by, chunk for chunk.

    Its own refusal of a preflight is text; ours is left to what is behind, which answers in the path's dialect.
    """

    def __init__(self, app: ASGIApp, /, **options: Any) -> None:
        self.app = app
        self._cors = CORSMiddleware(app, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not any(name == b"origin" for name, _ in scope["headers"]):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        if scope["method"] != "OPTIONS" or "access-control-request-method" not in headers:
            return await self._cors(scope, receive, send)
        response = self._cors.preflight_response(request_headers=headers)
        if response.status_code < 400:
            return await response(scope, receive, send)
        told = [(name, value) for name, value in response.raw_headers if name not in _DESCRIBES_BODY]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *told]
            await send(message)

        call: Call = scope["state"]["call"]
        # Starlette's words say which of origin, method and private network it was.
        call.refusal = InvalidRequest(f"{bytes(response.body).decode()}.", code="cors_not_allowed")
        await self.app(scope, receive, send_with_headers)
