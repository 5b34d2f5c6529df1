"""Cross-origin calls from browsers, at no cost to everybody else."""

from __future__ import annotations

from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send


class Cors:
    """Starlette's middleware for requests that name an origin; others pass it by, chunk for chunk."""

    def __init__(self, app: ASGIApp, /, **options: Any) -> None:
        self.app = app
        self._cors = CORSMiddleware(app, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"]):
            await self._cors(scope, receive, send)
        else:
            await self.app(scope, receive, send)
