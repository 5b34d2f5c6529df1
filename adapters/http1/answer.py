"""One response as it is parsed from bytes that come in any pieces; no I/O.

llhttp, the parser in C, refuses by itself what a peer could smuggle with: two lengths, a length beside chunks, bare
line feeds, folded headers, names and values with control characters. Framing by RFC 9112, sections 6 and 7.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD = 2**16
"""Bytes of everything that comes before the body, interim answers included; also of chunk sizes and trailers between
two bytes of a body."""

MAX_HEADERS = 256

_SWITCHING_PROTOCOLS = 101
_FRAMING = (b"content-length", b"transfer-encoding")


class Malformed(Exception):
    """These bytes are no response that we take. The text holds nothing that the peer has sent."""


class Answer:
    """A response: first its head, then `pieces` of its body, which whoever reads takes out of the list.

    `status` is 0 until the head is there; interim answers (1xx) are passed over. After `complete` nothing changes any
    more, but for `reusable`: whether the connection stands at the beginning of another answer.
    """

    __slots__ = (
        "_interim",
        "_parser",
        "_room",
        "complete",
        "headers",
        "on_body",
        "pieces",
        "reusable",
        "status",
        "version",
    )

    def __init__(self, *, bodiless: bool = False) -> None:
        """`bodiless`: the request was a HEAD, whose answer has the headers of a body alone."""
        self.status = 0
        self.version = ""
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.complete = False
        self.reusable = False
        self._interim = False
        self._room = MAX_HEAD
        # The parser's own call goes straight into the list: no Python runs for a piece.
        self.on_body = None if bodiless else self.pieces.append
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Raises Malformed."""
        parser = self._parser
        if parser is None:
            self.reusable = False
            return
        try:
            if self.status or len(data) <= self._room:
                parser.feed_data(data)
            else:
                self._feed_long_head(parser, data)
        except (HttpParserError, HttpParserUpgrade) as exc:
            self._refuse(exc)
        if self.complete:
            self._parser = None  # it refers back to this object
        elif self.pieces:
            self._room = MAX_HEAD
        else:
            self._room -= len(data)
            if self._room <= 0:
                raise Malformed("it sends too much around the body")

    def end(self) -> bool:
        """The peer has finished; whether the answer is whole. One without a length ends here."""
        if self.status and not self.complete:
            self.complete = not any(name.lower() in _FRAMING for name, _ in self.headers)
        self._parser = None
        return self.complete

    def drop(self) -> None:
        """Nothing more will be fed."""
        self._parser = None

    def _feed_long_head(self, parser: HttpResponseParser, data: bytes) -> None:
        room = self._room
        parser.feed_data(data[:room])
        if not self.status:
            raise Malformed("its headers are too long")
        parser.feed_data(data[room:])

    def _refuse(self, exc: Exception) -> None:
        """What follows a whole answer spoils the connection alone."""
        if not self.complete:
            reason = exc.__context__ if isinstance(exc.__context__, Malformed) else Malformed("it cannot be parsed")
            raise reason from None
        self.reusable = False

    # What the parser calls

    def on_message_begin(self) -> None:
        if self.complete:
            raise Malformed("it goes on after its end")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return  # a trailer
        # Of all transfer codings only this one is ours to undo; the others would be taken for the body.
        if len(name) == 17 and name.lower() == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise Malformed("its transfer coding is unknown")
        self.headers.append((name, value.rstrip()))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if status < 200:
            if status < 100 or status == _SWITCHING_PROTOCOLS:
                raise Malformed("it changes the protocol")
            self.headers.clear()
            self._interim = True
            return
        self.version = parser.get_http_version()
        if not self.version.startswith("1."):
            raise Malformed("it has another version of HTTP")
        if len(self.headers) > MAX_HEADERS:
            raise Malformed("it has too many headers")
        self.status = status
        if self.on_body is None:
            # The parser cannot be told; where it stands then is no place to go on from.
            self.complete = True
        else:
            self.reusable = parser.should_keep_alive()

    def on_message_complete(self) -> None:
        if not self._interim:
            self.complete = True
        elif self.pieces:
            raise Malformed("an interim answer has a body")
        self._interim = False
