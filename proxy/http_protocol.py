"""uvicorn's HTTP protocol with bounds on what anybody can make it hold before a token was looked at."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_BYTES = 64 * 2**10
"""Of a head: its target, and the names and values of its headers."""
MOST_LINES = 256
MOST_UNREAD = 512 * 2**10
"""Bytes in which a head has to be whole; what came before it in the same read counts too."""

_LENGTHS = frozenset((b"content-length", b"transfer-encoding"))


class HeadRefused(Exception):
    """The head is too large, or says what cannot be served safely."""


class HttpProtocol(HttpToolsProtocol):
    """Refuses heads that are too large, and bodies beside an `Upgrade`.

    httptools takes a request with an `Upgrade` for one without a body, and what follows for the next request. Nothing
    here upgrades, so that a caller could pass its body off as somebody else's request behind a shared proxy.
    """

    _in_head = False
    _size = 0
    _lines = 0
    _unread = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._unread += len(data)
            if self._unread > MOST_UNREAD:
                self.send_400_response("The request's head is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._size = self._lines = self._unread = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        if self._lines > MOST_LINES:
            raise HeadRefused
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.parser.should_upgrade() and any(
            name in _LENGTHS and value.strip() != b"0" for name, value in self.headers
        ):
            raise HeadRefused
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Never in the middle of an answer: then the connection ends without a word."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
        elif not self.transport.is_closing():
            super().send_400_response(msg)

    def _count(self, more: int) -> None:
        self._size += more
        if self._size > MOST_BYTES:
            raise HeadRefused
