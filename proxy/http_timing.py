"""How long a connection waits for what its client has begun to send, or has not, and for it to take an answer."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from proxy.answers import BODY_LATE
from proxy.http_flow import PatientTransport, TimedFlow, Untaken


class Patience(NamedTuple):
    """Seconds for a head from its first byte on, seconds for which a body may stand still, bytes a second of it.

    A body has `body` seconds, and one more for every `rate` bytes that have come. Time counts while we read. `send` are
    the seconds in which a client has to take something of an answer that waits for it.
    """

    head: float = 30.0
    body: float = 60.0
    rate: float = 1024.0
    send: float = 60.0


class TimedProtocol(HttpToolsProtocol):
    """Ends connections whose client does not go on; before its first request one may be idle as long as between two.

    A connection has one timer. Nothing resets it: what arrives leaves a time, and the timer looks at these when it
    fires, no later than the shortest limit after it did so last.
    """

    patience = Patience()

    _in_head = False
    _in_body = False
    _since: float | None = None
    """When the first byte of the head came that is not complete yet."""
    _answered = 0.0
    """When the answer to a request was complete whose body was not."""

    # ------------------------------------------------------------ what happened when

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        if transport.get_extra_info("sslcontext") is not None:
            transport = cast(asyncio.Transport, PatientTransport(transport, self.loop))
        super().connection_made(transport)
        self.flow = self._flow = TimedFlow(transport, self.loop)
        self._untaken = Untaken(transport)
        self._made = self._taken_at = self.loop.time()
        self._shortest = min(self.patience.head, self.patience.body, self.patience.send, self.timeout_keep_alive)
        self._timer = self.loop.call_later(self._shortest, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def note_arrival(self) -> None:
        """Bytes have come that nobody has looked at yet."""
        if self._since is None and not self._in_body:
            self._since = self.loop.time()

    def note_turn(self) -> None:
        """Bytes that waited behind an answer are looked at now."""
        self._since = None
        self.note_arrival()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()  # this one may have come in one read with the end of another's body
        self._in_head = True
        if self._since is None:  # it came behind the end of another
            self._since = self.loop.time()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        self._since = None
        self._in_body = True
        self._began = self._moved = self._flow.time()
        self._came = 0

    def on_body(self, body: bytes) -> None:
        self._moved = self._flow.time()
        self._came += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()
        if self.cycle.response_complete:  # this came last: uvicorn has set its timer between requests, and stopped it
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        if self._in_body:
            self._answered = self.loop.time()
        super().on_response_complete()

    # ------------------------------------------------------------ what is too late

    def _look(self) -> None:
        left = self._taking_left()
        if left <= 0:
            return self.transport.abort()  # who answers is told that the client has left
        if not self.transport.is_closing():  # then it is done when all has been sent
            left = min(left, self._coming_left())
        self._timer = self.loop.call_later(min(left, self._shortest), self._look)

    def _taking_left(self) -> float:
        """Seconds for the client to take anything of what waits for it.

        That shows where nothing is added: while writing is paused, and when all that was asked is answered.
        """
        place = (self._flow.resumed, self.cycle)
        if not self._untaken.stands(place, is_fixed=self._flow.write_paused or not self.is_answering):
            self._taken_at = self.loop.time()
        return self._taken_at + self.patience.send - self.loop.time()

    def _coming_left(self) -> float:
        """Seconds for what the client is to send; where there are none left, it is told."""
        left = self._body_left() if self._in_body else self._head_left()
        if left > 0:
            return left
        (self._end_body if self._in_body else self._end_head)()
        return self._shortest

    def _head_left(self) -> float:
        """Seconds for the rest of a head, or for the first byte."""
        now = self.loop.time()
        if self.is_answering:
            return self._shortest  # a head may well wait behind an answer
        if self._since is not None:
            return self._since + self.patience.head - now
        # Between requests uvicorn has a timer of its own.
        return self._made + self.timeout_keep_alive - now if self.cycle is None else self._shortest

    def _body_left(self) -> float:
        """Seconds for the rest of a body, or for its next piece."""
        if self.cycle.response_complete:
            return self._answered + self.patience.body - self.loop.time()
        if self.cycle.waiting_for_100_continue or self.pipeline:  # it is not the client that is late
            self._began = self._moved = self._flow.time()
        if self._flow.read_paused:
            return self._shortest
        until = min(self._moved, self._began + self._came / self.patience.rate) + self.patience.body
        return until - self._flow.time()

    def _end_head(self) -> None:
        """One of which no line has begun is none: the client would take our words for an answer."""
        if self._in_head:
            self.end_with(408, "The request's head did not come in time.")
        else:
            self.transport.close()

    def _end_body(self) -> None:
        """Who reads the body tells of it, in the dialect of the path. After the answer nobody waits for one."""
        if self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.scope["state"][BODY_LATE] = True
            self.cycle.message_event.set()

    # ------------------------------------------------------------ how to end

    @property
    def is_answering(self) -> bool:
        """Whether the last request that was begun is not answered yet, or one before it."""
        return self.cycle is not None and not self.cycle.response_complete

    def end_with(self, status: int, text: str) -> None:
        """An answer in ASCII, and the end. Where it would be taken for another request's, the end alone."""
        is_ours = not self.cycle.response_started if self._in_body else not self.is_answering
        if not is_ours or self.pipeline:
            return self.transport.abort() if self.is_answering else self.transport.close()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + text.encode("ascii"))
        self.transport.close()
