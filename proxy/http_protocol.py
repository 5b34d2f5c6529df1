"""uvicorn's HTTP protocol with bounds on what anybody can make it hold before a token was looked at."""

from __future__ import annotations

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.http_timing import TimedProtocol

MOST_BYTES = 64 * 2**10
"""Of a head: its target, and the names and values of its headers. Trailers count too."""
MOST_LINES = 256
MOST_UNREAD = 512 * 2**10
"""Bytes in which a head has to be whole, and of a body without one of content; others of the same piece count too."""
MOST_AHEAD = 64 * 2**10
"""Bytes behind a request that waits for its turn; with more of them nothing is read."""
PIECE = 4096
"""Bytes parsed at once: as many requests as are in them can wait, each far larger than its bytes."""


class HeadRefused(Exception):
    """The head is too large, or says what cannot be served safely."""


class HttpProtocol(TimedProtocol):
    """Refuses heads that are too large, and ignores an `Upgrade`, as a server may (RFC 9110, 7.8).

    httptools takes a request with an `Upgrade` for one without a body, and what follows for the next request. So such
    a head is read twice: the second time by a new parser, and without that header. Whatever says how
    long the body is stays in it; the application sees all of it.
    """

    _size = 0
    _lines = 0
    _unread = 0
    _upgrading = False
    _asked: list[tuple[bytes, bytes]] | None = None
    """The headers of a head that is read for the second time, as they were."""
    _answered_now: RequestResponseCycle | None = None
    """The request that is answered, or was the last; uvicorn's `cycle` is the last that was read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._ahead = bytearray()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._answered_now is not None:  # uvicorn tells the last one
            self._answered_now.disconnected = True
            self._answered_now.message_event.set()

    def data_received(self, data: bytes) -> None:
        self.note_arrival()
        self._unset_keepalive_if_required()
        self._ahead += data
        self._read_on()

    def on_response_complete(self) -> None:
        if self.pipeline:
            self._answered_now = self.pipeline[-1][0]
        super().on_response_complete()
        if self._ahead:
            self.note_turn()
            self._read_on()

    def _read_on(self) -> None:
        """Parse what has come, as long as no request waits for the answer to another."""
        while self._ahead and not self.pipeline and not self.transport.is_closing():
            piece = bytes(self._ahead[:PIECE])
            del self._ahead[:PIECE]
            self._read(piece)
        if len(self._ahead) > MOST_AHEAD:
            self.flow.pause_reading()  # the end of an answer resumes it

    def _read(self, piece: bytes) -> None:
        try:
            self._feed(memoryview(piece))
        except httptools.HttpParserError:
            return self.end_with(400, "Invalid HTTP request received.")
        if self._in_head or self._in_body:
            self._unread += len(piece)
            if self._unread > MOST_UNREAD:
                self.end_with(400, "The request is too large beside its body.")

    def _feed(self, rest: memoryview) -> None:
        """Let the parser read on. Raises HttpParserError."""
        while rest:
            try:
                return self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                self._read_again()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._size = self._lines = self._unread = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        if self._lines > MOST_LINES:
            raise HeadRefused
        self._count(len(name) + len(value))
        if self._in_head:  # a trailer is none of the headers (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise HeadRefused
            self._upgrading = True
            return
        if self._asked is not None:
            self.headers[:] = self._asked
            self._asked = None
        super().on_headers_complete()
        if not self.pipeline:
            self._answered_now = self.cycle

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._upgrading:
            super().on_message_complete()

    def _read_again(self) -> None:
        """Give the head to a new parser, without `Upgrade`."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        # Without it, the option of this name in `Connection` means nothing.
        lines += (b"%b: %b" % header for header in self.headers if header[0] != b"upgrade")
        self._asked = self.headers
        self._upgrading = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.parser.feed_data(b"\r\n".join((*lines, b"", b"")))

    def _count(self, more: int) -> None:
        self._size += more
        if self._size > MOST_BYTES:
            raise HeadRefused
