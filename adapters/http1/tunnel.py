"""A proxy's tunnel to an https host (RFC 9110, section 9.3.6)."""

from __future__ import annotations

import asyncio
from typing import cast

import httpx

from adapters.http1.answer import Answer, Malformed
from adapters.http1.route import Proxy


class Tunnel(asyncio.Protocol):
    """Asks for it as soon as the proxy is connected, and is then replaced by the TLS that goes through.

    What a proxy sends after its head is not ours: the host behind it speaks only when it was spoken to.
    """

    def __init__(self, proxy: Proxy, host: bytes, port: int) -> None:
        """`host` as it is written in an address."""
        target = b"%b:%d" % (b"[%b]" % host if b":" in host else host, port)
        self._request = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, target, proxy.header)
        self._host = host.decode("ascii")
        self._answer = Answer(bodiless=True)
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failure = "it closed the connection"

    async def opened(self) -> asyncio.Transport:
        """What leads to the host. Raises ProxyError if the proxy does not want to."""
        await self._done
        if not 200 <= self._answer.status < 300 or self._transport is None:
            raise httpx.ProxyError(f"The proxy opens no tunnel to {self._host} ({self._failure}).")
        return self._transport

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            self._answer.feed(data)
        except Malformed as exc:
            self._failure = str(exc)
            self._end()
        else:
            if self._answer.complete:
                self._failure = f"status {self._answer.status}"
                self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._answer.drop()
        self._end()

    def _end(self) -> None:
        if not self._done.done():
            self._done.set_result(None)
