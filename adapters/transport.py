"""The HTTP engine under every upstream call; no other file knows which one it is.

`httpx.AsyncBaseTransport` is the seam: adapters hand a prebuilt `httpx.Request` to `handle_async_request` and get a
raw byte stream back. Behind it is aiohttp's client, used for its parser in C, its pool and its TLS; cookies, redirects
and decompression stay switched off. CPU microseconds of the client's side (`python -m benchmarks.transports`):

                                            a call   of 32 at once   a streamed chunk
    this one                                97-124           70-84               8-19
    httpx_aiohttp.AiohttpTransport         129-143           74-95              11-19
    httpx.AsyncHTTPTransport               535-558         812-938              36-57
"""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from multidict import CIMultiDict
from yarl import URL

_KEEPALIVE = 60.0
"""Seconds for which an unused connection is kept."""

_RACE = 1.0
"""Seconds within which a peer that was just closing a kept connection has let us know."""

_READ_BUFFER = 2**16
"""Bytes; reading from the socket pauses while twice as much waits for its reader."""

_LARGE = 2**20
"""Bytes; a larger request body is written in pieces, so that other requests get their turn in between."""

_reused: ContextVar[bool] = ContextVar("reused", default=False)
"""Whether the connection that this task was given last had carried a request before."""

Limits = Mapping[str, float | None]


def open_transport(*, connect_timeout: float, max_connections: int = 1000) -> httpx.AsyncBaseTransport:
    """A pool of keep-alive connections, opened by its first request and closed by `aclose()`.

    It honours HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR as they are when a host is
    first called. `request.extensions["timeout"]` may hold, in seconds: `connect` (a free connection, the name, TCP and
    TLS together; `connect_timeout` without it), `write` (the request's body), `read` (the response's headers) and
    `idle` (each gap in the response's body; `read` without it). `None` or absent: no limit. The response's extension
    `set_idle` changes `idle` for the gaps to come. A response has to be closed; closing it before its end cuts the
    connection.

    Raises httpx's exceptions: ConnectTimeout, PoolTimeout (all `max_connections` are in use), WriteTimeout,
    ReadTimeout, ConnectError, ProxyError, ReadError (cut off), RemoteProtocolError (malformed or incomplete),
    UnsupportedProtocol and LocalProtocolError. Their texts hold host names, never a path, a header or a part of a body.
    """
    return _Transport(connect_timeout, max_connections)


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, connect_timeout: float, max_connections: int) -> None:
        self._connect_timeout = connect_timeout
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[tuple[str, str, int | None], URL | None] = {}
        self._pending = 0
        self._streams: WeakSet[aiohttp.ClientResponse] = WeakSet()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        limits: Limits = request.extensions.get("timeout") or {}
        self._pending += 1
        try:
            response = await self._send(request, limits)
        finally:
            self._pending -= 1
        protocol = _protocol(response)
        silence = _Silence(response)
        if protocol is not None:
            self._streams.add(response)
            # aiohttp's own timer is made anew with every piece; from the headers on, ours does.
            protocol.read_timeout = None
            protocol.start_timeout()
            silence.limit(limits.get("idle", limits.get("read")))
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=_Body(response, silence),
            request=request,
            extensions={"http_version": b"HTTP/1.1", "set_idle": silence.limit},
        )

    async def aclose(self) -> None:
        session, self._session = self._session, None
        # The session would close their sockets too, but leave their readers waiting.
        for response in list(self._streams):
            response.close()
        if session is not None:
            await session.close()

    async def _send(self, request: httpx.Request, limits: Limits) -> aiohttp.ClientResponse:
        """The response once its headers are there; raises httpx's exceptions alone."""
        connect = limits.get("connect", self._connect_timeout)
        read, write = limits.get("read"), limits.get("write")
        # aiohttp cannot limit the writing: a body that nobody takes runs into the sum of all three.
        whole = None if connect is None or read is None or write is None else connect + write + read
        host = request.url.host
        try:
            async with asyncio.timeout(whole):
                return await self._send_on_a_live_connection(request, _timeout(connect, read))
        except aiohttp.ConnectionTimeoutError:
            if self._in_use() > self._max_connections:
                raise httpx.PoolTimeout(f"All {self._max_connections} connections are in use.") from None
            raise httpx.ConnectTimeout(f"No connection to {host} within {connect} seconds.") from None
        except aiohttp.SocketTimeoutError:
            raise httpx.ReadTimeout(f"No answer from {host} within {read} seconds.") from None
        except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as exc:
            raise httpx.ProxyError(f"The proxy to {host} failed ({_kind(exc)}).") from None
        except aiohttp.ClientConnectorError as exc:
            raise httpx.ConnectError(f"No connection to {host}: {exc.strerror or exc.os_error}") from None
        except aiohttp.ClientResponseError as exc:
            raise httpx.RemoteProtocolError(f"{host} does not answer in HTTP/1.1 ({_kind(exc)}).") from None
        except aiohttp.ServerDisconnectedError:
            raise httpx.RemoteProtocolError(f"{host} closed the connection without an answer.") from None
        except aiohttp.NonHttpUrlClientError:
            raise httpx.UnsupportedProtocol(f"Not an HTTP address: {request.url.scheme}://{host}") from None
        except ValueError as exc:
            raise httpx.LocalProtocolError(f"This request to {host} cannot be sent ({_kind(exc)}).") from None
        except TimeoutError:
            raise httpx.WriteTimeout(f"{host} did not take the request within {whole} seconds.") from None
        except (aiohttp.ClientError, OSError) as exc:
            raise httpx.ReadError(f"The connection to {host} was lost ({_kind(exc)}).") from None

    async def _send_on_a_live_connection(
        self, request: httpx.Request, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Send; once more where the peer had closed the kept connection before the request reached it.

        aiohttp itself does so for idempotent methods only. Here a POST may be repeated as well, so it has to be
        certain that nothing was done: the connection is a kept one, nothing was read, and it broke at once. A peer
        that dies while it works on the request takes longer or is on a new connection.
        """
        started = time.monotonic()
        try:
            return await self._send_once(request, limits)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
            partial = isinstance(exc, aiohttp.ServerDisconnectedError) and not isinstance(exc.message, str)
            repeatable = isinstance(request.stream, httpx.ByteStream)
            if partial or not repeatable or not _reused.get() or time.monotonic() - started > _RACE:
                raise
        return await self._send_once(request, limits)

    async def _send_once(self, request: httpx.Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        session = self._session or self._open_session()
        _reused.set(False)
        return await session.request(
            request.method,
            _parsed(str(request.url)),
            headers=CIMultiDict([(name.decode(), value.decode()) for name, value in _headers(request)]),
            data=_content(request),
            proxy=self._proxy(request.url),
            timeout=limits,
            allow_redirects=False,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=_Connector(ssl=_trusted(), limit=self._max_connections, keepalive_timeout=_KEEPALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            read_bufsize=_READ_BUFFER,
        )
        return self._session

    def _proxy(self, url: httpx.URL) -> URL | None:
        # Not aiohttp's `trust_env`: it asks the environment, in a thread, for every single request.
        origin = (url.scheme, url.host, url.port)
        if origin not in self._proxies:
            self._proxies[origin] = _proxy_from_environment(*origin)
        return self._proxies[origin]

    def _in_use(self) -> int:
        return self._pending + sum(response.connection is not None for response in self._streams)


class _Connector(aiohttp.TCPConnector):
    """The pool; it says which connections are kept ones, and hands out none that has spoken out of turn."""

    def __init__(self, *, ssl: ssl.SSLContext, limit: int, keepalive_timeout: float) -> None:
        super().__init__(ssl=ssl, limit=limit, keepalive_timeout=keepalive_timeout)
        self._known: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp passes it by this name
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None
            known = protocol in self._known
            if not (known and protocol.should_close):
                break
            # Something came while it was idle; it would be taken for the answer to this request.
            connection.close()
        self._known.add(protocol)
        _reused.set(known)
        return connection


class _Silence:
    """Ends a wait for the next piece of a body that lasts too long.

    One lazy timer a response: a piece costs a look at the clock, where aiohttp's own timer costs two
    microseconds.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._content = response.content
        self._loop = asyncio.get_running_loop()
        self._seconds: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_since: float | None = None

    def limit(self, seconds: float | None) -> None:
        """What each wait from now on may last; `None`: as long as it takes."""
        self.end()
        self._seconds = seconds
        if seconds is not None and not self._content.is_eof():
            self._timer = self._loop.call_later(seconds, self._look)

    def wait(self) -> None:
        """Somebody waits for the peer now."""
        self._waiting_since = self._loop.time()

    def rest(self) -> None:
        """The piece has come; how long its reader takes is not the peer's fault."""
        self._waiting_since = None

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        assert self._seconds is not None
        waited = 0.0 if self._waiting_since is None else self._loop.time() - self._waiting_since
        left = self._seconds - waited
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._timer = None
            self._content.set_exception(aiohttp.SocketTimeoutError("nothing came"))


class _Body(httpx.AsyncByteStream):
    """The response's body, each piece as soon as it is there and in the size in which it came."""

    def __init__(self, response: aiohttp.ClientResponse, silence: _Silence) -> None:
        self._response = response
        self._silence = silence

    async def __aiter__(self) -> AsyncIterator[bytes]:
        response, protocol, silence = self._response, _protocol(self._response), self._silence
        read = response.content.readany
        while True:
            silence.wait()
            try:
                piece = await read()
            except aiohttp.SocketTimeoutError:
                response.close()
                raise httpx.ReadTimeout("The upstream fell silent in the middle of its answer.") from None
            except (aiohttp.ClientError, OSError, RuntimeError) as exc:
                lost = None if protocol is None else protocol.exception()
                response.close()
                if isinstance(lost, OSError) or not isinstance(exc, aiohttp.ClientPayloadError):
                    raise httpx.ReadError(f"The answer was cut off ({_kind(lost or exc)}).") from None
                raise httpx.RemoteProtocolError("The answer is incomplete or malformed.") from None
            silence.rest()
            if not piece:
                silence.end()
                return
            yield piece

    async def aclose(self) -> None:
        self._silence.end()
        # Aborted first, since closing alone would wait for a peer that does not read, or for TLS to say goodbye.
        protocol = _protocol(self._response)
        if protocol is not None:
            protocol.abort()
        self._response.close()


def _protocol(response: aiohttp.ClientResponse) -> ResponseHandler | None:
    """The connection of a response; `None` once its whole body has come."""
    connection = response.connection
    return None if connection is None else connection.protocol


def _kind(exc: BaseException) -> str:
    return type(exc).__name__


@lru_cache(maxsize=1024)
def _parsed(url: str) -> URL:
    return URL(url, encoded=True)


@lru_cache(maxsize=64)
def _timeout(connect: float | None, read: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_read=read)


def _headers(request: httpx.Request) -> list[tuple[bytes, bytes]]:
    """The request's own headers; aiohttp frames a body of unknown length by itself."""
    raw = request.headers.raw
    if isinstance(request.stream, httpx.ByteStream):
        return raw
    return [(name, value) for name, value in raw if name.lower() != b"transfer-encoding"]


def _content(request: httpx.Request) -> bytes | io.BytesIO | AsyncIterable[bytes] | None:
    stream = request.stream
    if isinstance(stream, httpx.ByteStream):
        content = b"".join(stream)
        return io.BytesIO(content) if len(content) > _LARGE else content or None
    assert isinstance(stream, httpx.AsyncByteStream)
    return stream


def _trusted() -> ssl.SSLContext:
    """The certificates that SSL_CERT_FILE and SSL_CERT_DIR name, else the system's, else those that httpx brings."""
    paths = ssl.get_default_verify_paths()
    try:
        if paths.cafile is None and paths.capath is None:
            return httpx.create_ssl_context()
        return ssl.create_default_context()
    except OSError as exc:
        raise httpx.ConnectError(f"The trusted certificates cannot be read: {exc.strerror}") from None


def _proxy_from_environment(scheme: str, host: str, port: int | None) -> URL | None:
    """The proxy for an origin. Raises ProxyError if it is of a kind that cannot be used."""
    if proxy_bypass(host if port is None else f"{host}:{port}"):
        return None
    proxies = getproxies()
    address = proxies.get(scheme) or proxies.get("all")
    if not address:
        return None
    proxy = URL(address if "://" in address else f"http://{address}")
    if proxy.scheme not in ("http", "https"):
        raise httpx.ProxyError(f"The environment names a {proxy.scheme} proxy; only http and https can be used.")
    return proxy
