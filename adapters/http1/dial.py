"""New connections: names, TCP, TLS, and tunnels through proxies.

Raises httpx.ConnectError, and httpx.ProxyError where the proxy is to blame.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from adapters.http1.connection import Connection, Keeper
from adapters.http1.race import connected_socket, connected_unix_socket
from adapters.http1.route import Route
from adapters.http1.tunnel import Tunnel


class Dialer:
    """Opens connections; reads the trusted certificates once, when the first of them needs TLS.

    With `uds` every connection without a proxy is to that Unix socket.
    """

    def __init__(self, uds: str | None = None) -> None:
        self._uds = uds
        self._context: ssl.SSLContext | None = None

    async def dial(self, route: Route, keeper: Keeper) -> Connection:
        """A connection over which `route`'s requests can be sent."""
        connection = Connection(route.host, keeper)
        proxy = route.proxy
        if proxy is None:
            with _as_connect_error(route):
                await self._open(connection, route.tls_name, route.port, secure=route.secure)
        elif not route.secure:
            with _as_proxy_error(route):
                await self._open(connection, proxy.host, proxy.port, secure=proxy.secure)
        else:
            tunnel = Tunnel(proxy, route.tls_name.encode(), route.port)
            with _as_proxy_error(route):
                await self._open(tunnel, proxy.host, proxy.port, secure=proxy.secure)
            await self._through(tunnel, connection, route)
        return connection

    async def _open(self, protocol: asyncio.Protocol, host: str, port: int, *, secure: bool) -> None:
        context = self._trusted() if secure else None
        loop = asyncio.get_running_loop()
        name = host if secure else None
        # From the second step on the loop owns the socket, and closes it if this fails or is cancelled.
        if self._uds is None:
            sock = await connected_socket(host, port)
            await loop.create_connection(lambda: protocol, sock=sock, ssl=context, server_hostname=name)
        else:
            sock = await connected_unix_socket(self._uds)
            await loop.create_unix_connection(lambda: protocol, sock=sock, ssl=context, server_hostname=name)

    async def _through(self, tunnel: Tunnel, connection: Connection, route: Route) -> None:
        """TLS with the host itself, inside what the proxy passes on blindly."""
        try:
            outer = await tunnel.opened()
            with _as_connect_error(route):
                inner = await asyncio.get_running_loop().start_tls(
                    outer, connection, self._trusted(), server_hostname=route.tls_name
                )
                if inner is None:  # pragma: no cover - asyncio's, where the proxy goes between two of its steps
                    raise ConnectionResetError
        except BaseException:
            tunnel.abort()
            raise
        connection.connection_made(inner)

    def _trusted(self) -> ssl.SSLContext:
        """The certificates that SSL_CERT_FILE and SSL_CERT_DIR name, else the system's, else httpx's."""
        if self._context is None:
            paths = ssl.get_default_verify_paths()
            try:
                if paths.cafile is None and paths.capath is None:
                    context = httpx.create_ssl_context()
                else:
                    context = ssl.create_default_context()
            except OSError as exc:
                raise httpx.ConnectError(f"The trusted certificates cannot be read: {exc.strerror}") from None
            context.set_alpn_protocols(["http/1.1"])
            self._context = context
        return self._context


@contextmanager
def _as_connect_error(route: Route) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as exc:
        raise httpx.ConnectError(f"No connection to {route.host}: {_reason(exc)}") from None


@contextmanager
def _as_proxy_error(route: Route) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as exc:
        raise httpx.ProxyError(f"No connection to the proxy to {route.host}: {_reason(exc)}") from None


def _reason(exc: OSError | ValueError) -> str:
    """Not the exception's own text, which may hold more than names. A name that is no name is a ValueError."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted ({exc.verify_message})"
    if isinstance(exc, ssl.SSLError):
        return f"TLS failed ({exc.reason})"
    if isinstance(exc, socket.gaierror):
        return f"the name does not resolve ({exc.strerror})"
    if isinstance(exc, OSError) and exc.errno is not None:
        return os.strerror(exc.errno)
    return type(exc).__name__
