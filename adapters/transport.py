"""The HTTP engine under every upstream call; no other file knows which one it is.

`httpx.AsyncBaseTransport` is the seam: adapters hand a prebuilt `httpx.Request` to `handle_async_request` and get a
raw byte stream back. Behind it is a client of our own (`adapters.http1`): httptools' parser in C on plain asyncio
protocols, since everything between the two is what an upstream call costs. docs/decisions/http-engine.md has figures.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import httpx

from adapters.http1.answer import Answer
from adapters.http1.body import Body
from adapters.http1.connection import Connection
from adapters.http1.dial import Dialer
from adapters.http1.pool import Pool
from adapters.http1.request import Message, message_of
from adapters.http1.route import Route, route_to

_KEEPALIVE = 60.0
"""Seconds for which an unused connection is kept."""

_RACE = 1.0
"""Seconds within which a peer that was just closing a kept connection has let us know."""

Limits = Mapping[str, float | None]

Transport = httpx.AsyncBaseTransport
"""The seam's type, for those who only pass it on."""


def open_transport(
    *, connect_timeout: float, max_connections: int = 1000, direct: bool = False, uds: str | None = None
) -> httpx.AsyncBaseTransport:
    """A pool of keep-alive connections, opened by its first request and closed by `aclose()`.

    It honours HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR as they are when a host is
    first called; a `direct` one asks no proxy, for what listens on this machine, and with `uds` every connection is to
    that Unix socket, whatever host the address names. `request.extensions["timeout"]` may hold, in seconds: `connect`
    (a free connection, the name, TCP and TLS together; `connect_timeout` without it), `write` (the request's body),
    `read` (the response's headers) and `idle` (each gap in the response's body; `read` without it). `None` or absent:
    no limit. The response's extension `set_idle` changes `idle` for the gaps to come. A response has to be closed;
    closing it before its end cuts the connection.

    Raises httpx's exceptions: ConnectTimeout, PoolTimeout (all `max_connections` are in use), WriteTimeout,
    ReadTimeout, ConnectError, ProxyError, ReadError (cut off), RemoteProtocolError (malformed or incomplete),
    UnsupportedProtocol and LocalProtocolError. Their texts hold host names, never a path, a header or a part of a body.
    """
    return _Transport(connect_timeout, max_connections, direct or uds is not None, uds)


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, connect_timeout: float, max_connections: int, direct: bool, uds: str | None) -> None:
        self._connect_timeout = connect_timeout
        self._max_connections = max_connections
        self._direct = direct
        self._uds = uds
        self._pool: Pool | None = None
        self._routes: dict[tuple[str, str, int | None], Route] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        limits: Limits = request.extensions.get("timeout") or {}
        route = self._route(request.url)
        message = message_of(request, route)
        connection, answer = await self._send_on_a_live_connection(route, message, limits)
        body = Body(answer, connection, limits.get("idle", limits.get("read")))
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=body,
            request=request,
            extensions={"http_version": b"HTTP/" + answer.version.encode(), "set_idle": body.set_idle},
        )

    async def aclose(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()

    async def _send_on_a_live_connection(
        self, route: Route, message: Message, limits: Limits
    ) -> tuple[Connection, Answer]:
        """Send; once more where the peer had closed the kept connection before the request reached it.

        A POST may be repeated as well, so it has to be certain that nothing was done: the connection is a kept one,
        nothing was read, and it broke at once. A peer that dies while it works on the request takes longer or is on a
        new connection.
        """
        read, write = limits.get("read"), limits.get("write")
        started = time.monotonic()
        connection = await self._connection(route, limits)
        reused = connection.reused
        try:
            return connection, await connection.exchange(message, read=read, write=write)
        except (httpx.ReadError, httpx.RemoteProtocolError):
            repeatable = message.repeatable and reused and connection.died_unheard
            if not repeatable or time.monotonic() - started > _RACE:
                raise
        connection = await self._connection(route, limits)
        return connection, await connection.exchange(message, read=read, write=write)

    async def _connection(self, route: Route, limits: Limits) -> Connection:
        pool = self._pool
        if pool is None:
            pool = self._pool = Pool(Dialer(self._uds).dial, self._max_connections, _KEEPALIVE)
        return pool.kept(route) or await pool.connect(route, limits.get("connect", self._connect_timeout))

    def _route(self, url: httpx.URL) -> Route:
        # The environment is asked once for each origin: that costs more than a request.
        origin = (url.scheme, url.host, url.port)
        route = self._routes.get(origin)
        if route is None:
            route = self._routes[origin] = route_to(url, direct=self._direct)
        return route
