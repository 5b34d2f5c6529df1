"""Two ways for an inner request to get here: S2, wrangler's own proxy, and S3, Miniflare's remote bindings.

Sources: cloudflare/workers-sdk `packages/wrangler/src/ai/fetcher.ts` and `packages/miniflare/src/workers/shared/
remote-bindings-utils.ts` (2026-08), both run with the real clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from urllib.parse import SplitResult

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from adapters.errors import InvalidRequest
from wrangler_compat.answers import Delivery, Header, StreamServing
from wrangler_compat.binding import Binding, Inner
from wrangler_compat.binding_inputs import read_url
from wrangler_compat.gateway_logs import Logs, deliver

_PREFIX = "mf-header-"
_FORWARDED: Header = (b"mf-forwarded-response", b"true")


class Entrance:
    """What both share: reading the body, asking the binding, sending its answer.

    `header` is the one that holds the inner address.
    """

    header: str

    def __init__(self, binding: Binding, serving: StreamServing, logs: Logs) -> None:
        self._binding = binding
        self._serving = serving
        self._logs = logs

    def _url(self, headers: Mapping[str, str]) -> SplitResult:
        """The inner address. Raises InvalidRequest."""
        if self.header.lower() not in headers:
            raise InvalidRequest(f"Missing header '{self.header}'.", param=self.header)
        return read_url(headers[self.header.lower()], self.header)

    async def _serve(
        self,
        url: SplitResult,
        headers: Mapping[str, str],
        account: str,
        asgi: tuple[Scope, Receive, Send],
        more: tuple[Header, ...] = (),
    ) -> None:
        scope, receive, _ = asgi
        body = await self._serving.body(scope, receive)
        inner = Inner(
            method=scope["method"],
            url=url,
            named_in=self.header,
            headers=headers,
            body=body,
            origin=_origin(scope),
            account=account,
            owner=scope["state"]["principal"].id,
        )
        reply = self._binding.binding_request(inner, scope["state"]["call"])
        logged = (self._logs, reply.note) if reply.note is not None else None
        delivery = Delivery(self._serving, reply.wrap)
        await deliver(delivery, reply.answer, logged, asgi, chain(more, reply.headers))


class Proxy(Entrance):
    """S2: `ANY /client/v4/accounts/{account}/ai/run/proxy`, the inner address in `X-Forwarded`."""

    header = "X-Forwarded"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        await self._serve(self._url(headers), headers, scope["path_params"]["account"], (scope, receive, send))


class RemoteBinding(Entrance):
    """S3: `ANY /remote-bindings` (its key is gone from the path by now), everything inner in `MF-` headers."""

    header = "MF-URL"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        if "websocket" in headers.get("upgrade", "").lower() or "mf-connect-address" in headers:
            raise HTTPException(501, "Web sockets and raw connections are not emulated.")
        url = self._url(headers)
        inner = {name.removeprefix(_PREFIX): value for name, value in headers.items() if name.startswith(_PREFIX)}
        await self._serve(url, inner, "local", (scope, receive, send), (_FORWARDED,))


def _headers(scope: Scope) -> dict[str, str]:
    """Names in lower case, as the server gives them; of two equal names the last counts."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _origin(scope: Scope) -> str:
    """Where this relay was reached, as its caller wrote it."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    root: str = scope.get("root_path", "")
    return f"{scope['scheme']}://{host}{root}"
