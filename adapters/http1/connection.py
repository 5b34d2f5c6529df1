"""One connection: an exchange at a time, with back-pressure both ways."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import aclosing
from typing import Protocol, cast

import httpx

from adapters.http1.answer import Answer, Malformed
from adapters.http1.request import Message

MAX_UNREAD = 2**17
"""Bytes that wait for their reader before reading from the socket pauses."""

Failure = tuple[type[httpx.TransportError], str]


class Keeper(Protocol):
    """Whom a connection belongs to; each of the two ends of an exchange is told to it once."""

    def release(self, connection: Connection) -> None:
        """It has answered in full and can be used again."""

    def discard(self, connection: Connection) -> None:
        """It is of no use any more."""

    def forget(self, connection: Connection) -> None:
        """Its socket is closed."""


class Connection(asyncio.Protocol):
    """A socket to `host`, with or without TLS.

    `exchange` gives the answer once its head is there. Its body goes on coming: whoever reads it calls `wait` while
    there is nothing in `answer.pieces` and neither `answer.complete` nor `failure`, and `taken` after taking some.
    One task at a time. Whatever ends a connection early does so at once and sets `failure`.
    """

    def __init__(self, host: str, keeper: Keeper) -> None:
        self._host = host
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._unread = 0
        self._reading_paused = False
        self._writing_paused = False
        self._sending = False
        self._heard = False
        self.gone = False
        self.failure: Failure | None = None
        self.reused = False
        """Whether an exchange has gone before the present one."""
        self.died_unheard = False
        """Whether the peer broke the connection before it said anything in the present exchange."""

    async def exchange(self, message: Message, *, read: float | None, write: float | None) -> Answer:
        """Send the request and wait for the answer's head; `read` and `write` are seconds.

        Raises httpx's exceptions; the connection is gone then.
        """
        answer = self._answer = Answer(bodiless=message.bodiless)
        self._heard = False
        try:
            self._sending = True
            assert self._transport is not None
            self._transport.write(message.opening)
            if self._writing_paused or message.rest is not None:
                await self._send_rest(message, answer, write)
            self._sending = False
            if answer.complete:
                self._finish(answer)
            if not answer.status:
                await self._hear(answer, read)
            return answer
        except BaseException:
            self.abort()
            raise

    def wait(self) -> asyncio.Future[None]:
        """Done when something has changed. Raises RuntimeError if somebody waits already."""
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("an answer has one reader at a time")
        self._waiter = self._loop.create_future()
        return self._waiter

    def taken(self) -> None:
        """Nothing is unread any more."""
        self._unread = 0
        if self._reading_paused:
            self._resume_reading()

    def fail(self, kind: type[httpx.TransportError], text: str) -> None:
        """Break the connection off, for the reason that its reader will be told."""
        if self.failure is None:
            self.failure = kind, text
        self.abort()

    def abort(self) -> None:
        """Close the socket at once, whatever is under way."""
        if self.gone:
            return
        self.gone = True
        if self.failure is None:
            self.failure = httpx.ReadError, f"The connection to {self._host} was closed."
        if self._answer is not None:
            self._answer.drop()
            self._answer = None
        if self._transport is not None:
            self._transport.abort()
        self._keeper.discard(self)
        self._wake()

    @property
    def closing(self) -> bool:
        """Whether the socket is no longer open, though nobody has been told yet."""
        return self.gone or self._transport is None or self._transport.is_closing()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # an idle connection: it would be taken for the answer to the next request
            self.abort()
            return
        self._heard = True
        try:
            answer.feed(data)
        except Malformed as exc:
            self.fail(httpx.RemoteProtocolError, f"{self._host} does not answer in HTTP/1.1 ({exc}).")
            return
        self._unread += len(data)
        if self._waiter is not None:
            self._wake()
        elif self._unread > MAX_UNREAD and not self._reading_paused:
            self._pause_reading()
        if answer.complete and not self._sending:
            self._finish(answer)

    def eof_received(self) -> None:
        answer = self._answer
        if answer is not None and not answer.complete and not (self._ended_properly() and answer.end()):
            self._lose(None)
        # Not left to the transport: it would first wait for a peer that may read no more.
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.complete:
            self._lose(exc)
        self.abort()
        self._keeper.forget(self)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake()

    # The two halves of an exchange

    async def _send_rest(self, message: Message, answer: Answer, limit: float | None) -> None:
        """Write the body as the peer takes it; stop where an answer says that it does not want it."""
        try:
            async with asyncio.timeout(limit) as timeout:
                if message.rest is not None:
                    async with aclosing(message.rest()) as pieces:
                        async for piece in pieces:
                            if not await self._takes_more(answer):
                                return
                            assert self._transport is not None
                            self._transport.write(piece)
                            await asyncio.sleep(0)  # other requests' turn
                await self._takes_more(answer)
        except TimeoutError:
            if not timeout.expired():
                raise  # the body's own
            text = f"{self._host} did not take the request within {limit} seconds."
            raise httpx.WriteTimeout(text) from None

    async def _takes_more(self, answer: Answer) -> bool:
        """Wait for room in what is to be written; whether the peer still wants it (RFC 9112, section 9.5)."""
        while self._writing_paused and not self.gone and answer.status < 300:
            await self.wait()
        if answer.status >= 300:
            answer.reusable = False
            return False
        return not self.gone

    async def _hear(self, answer: Answer, limit: float | None) -> None:
        timer = None if limit is None else self._loop.call_later(limit, self._unheard, answer, limit)
        try:
            while not answer.status:
                if self.failure is not None:
                    kind, text = self.failure
                    raise kind(text) from None
                await self.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _unheard(self, answer: Answer, limit: float) -> None:
        if not answer.status:  # else it has come just now, and the connection may be with another exchange
            self.fail(httpx.ReadTimeout, f"No answer from {self._host} within {limit} seconds.")

    def _finish(self, answer: Answer) -> None:
        """The whole answer is there and all has been sent: whose turn it is now is for the pool to say."""
        self._answer = None
        transport = self._transport
        assert transport is not None
        if self._reading_paused:
            self._resume_reading()
        self._unread = 0
        if answer.reusable and not transport.is_closing() and not transport.get_write_buffer_size():
            self.reused = True
            self._keeper.release(self)
        else:
            self.abort()

    def _lose(self, exc: Exception | None) -> None:
        """The peer has ended the connection within an exchange; by a reset, if there is an `exc`."""
        self.died_unheard = not self._heard
        if exc is not None:
            self.fail(httpx.ReadError, f"The connection to {self._host} was lost ({type(exc).__name__}).")
        elif self._heard:
            self.fail(httpx.RemoteProtocolError, f"The answer from {self._host} is incomplete.")
        else:
            self.fail(httpx.RemoteProtocolError, f"{self._host} closed the connection without an answer.")

    def _ended_properly(self) -> bool:
        """Whether the end is the peer's own: without TLS's farewell it may be anybody's who cuts the connection."""
        assert self._transport is not None
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        try:
            return tls is None or tls.read(1) == b""
        except ssl.SSLError:
            return False

    def _pause_reading(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()
        self._reading_paused = True

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if not self.gone:
            assert self._transport is not None
            self._transport.resume_reading()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
