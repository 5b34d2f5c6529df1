"""A request as the bytes to be sent.

Raises httpx.LocalProtocolError for one that would arrive as another, as more than one or as none.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import NamedTuple

import httpx

from adapters.http1.route import Route

_PIECE = 2**20
"""Bytes; a larger body is written in pieces, so that other requests get their turn in between."""

_BESIDE = 2**16
"""Bytes; a smaller body is sent with its head."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_NAMES = re.compile(rb"%b(?:\n%b)*" % (_TOKEN, _TOKEN))
_METHOD = re.compile(_TOKEN)
_CONTROLS = bytes([*range(9), 11, 12, *range(14, 32), 127])
"""All but tab, carriage return and line feed."""

_WITH_BODY = ("POST", "PUT", "PATCH")
"""Methods whose requests say that they have no body (RFC 9110, section 8.6)."""


Pieces = AsyncGenerator[bytes | memoryview, None]


class Message(NamedTuple):
    """`opening` is written first, then what `rest` gives, anew with every call."""

    opening: bytes
    rest: Callable[[], Pieces] | None
    bodiless: bool
    """Whether the answer will have no body, whatever it says of one."""
    repeatable: bool


def message_of(request: httpx.Request, route: Route) -> Message:
    """The request as it is, with a Host and the framing of its body where it has none."""
    stream = request.stream
    if isinstance(stream, httpx.ByteStream):
        body = b"".join(stream)
        head = _head(request, route, len(body), whole=True)
        bodiless = request.method == "HEAD"
        if len(body) <= _BESIDE:
            return Message(head + body, None, bodiless, True)
        return Message(head, partial(_slices, body), bodiless, True)
    if not isinstance(stream, httpx.AsyncByteStream):
        raise _unsendable(route, "its body cannot be read asynchronously")
    length = _length(request, route)
    head = _head(request, route, length, whole=False)
    rest = partial(_chunks, stream) if length is None else partial(_exactly, stream, length, route)
    return Message(head, rest, request.method == "HEAD", False)


def _head(request: httpx.Request, route: Route, length: int | None, *, whole: bool) -> bytes:
    """The head of a request with a body of `length` bytes; `None`: in chunks."""
    first = b"%b %b%b HTTP/1.1\r\n" % (_method(request, route), route.prefix, request.url.raw_path)
    if first.count(b" ") != 2 or not first.isascii():
        raise _unsendable(route, "its target")
    names: list[bytes] = []
    lines = [first]
    host, framed = False, False
    for name, value in request.headers.raw:
        names.append(name)
        lines.append(b"%b: %b\r\n" % (name, value))
        size = len(name)  # most names need no second look
        if size == 4:
            host = host or name.lower() == b"host"
        elif size == 14 and name.lower() == b"content-length":
            if framed or value != b"%d" % (length or 0):
                raise _unsendable(route, "its body is not as long as it says")
            framed = True
        elif size == 17 and name.lower() == b"transfer-encoding":
            if whole or framed or value.lower() != b"chunked":
                raise _unsendable(route, "its transfer coding")
            framed = True
    if not host:
        lines.insert(1, b"Host: %b\r\n" % request.url.netloc)
    if not framed:
        if length is None:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        elif length or request.method in _WITH_BODY:
            lines.append(b"Content-Length: %d\r\n" % length)
    lines.append(route.proxy_header)
    lines.append(b"\r\n")
    head = b"".join(lines)
    _check(head, names, len(lines) - (not route.proxy_header), route)
    return head


def _method(request: httpx.Request, route: Route) -> bytes:
    """CONNECT is not for callers: its answer begins a tunnel."""
    method = request.method.encode()
    if not _METHOD.fullmatch(method) or method == b"CONNECT":
        raise _unsendable(route, "its method")
    return method


def _check(head: bytes, names: list[bytes], lines: int, route: Route) -> None:
    """All headers at once, since that is done in C: tokens as names; UTF-8 without control characters as values."""
    if names and not _NAMES.fullmatch(b"\n".join(names)):
        raise _unsendable(route, "a header's name")
    if not head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == lines:
        raise _unsendable(route, "a header's value")
    if head.translate(None, _CONTROLS) != head or not (head.isascii() or _is_utf8(head)):
        raise _unsendable(route, "a header's value")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _length(request: httpx.Request, route: Route) -> int | None:
    """What the request says of a body that is yet to be read."""
    value = request.headers.get("content-length")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise _unsendable(route, "its body's length")
    return int(value)


async def _slices(body: bytes) -> Pieces:
    view = memoryview(body)
    for start in range(0, len(body), _PIECE):
        yield view[start : start + _PIECE]


async def _pieces(stream: httpx.AsyncByteStream) -> AsyncGenerator[bytes, None]:
    """None of them empty or too large to be written at once."""
    async for part in stream:
        for start in range(0, len(part), _PIECE):
            yield part[start : start + _PIECE]


async def _chunks(stream: httpx.AsyncByteStream) -> Pieces:
    async for piece in _pieces(stream):
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


async def _exactly(stream: httpx.AsyncByteStream, length: int, route: Route) -> Pieces:
    """Raises LocalProtocolError rather than end early, or go on into what would be the next request."""
    async for piece in _pieces(stream):
        length -= len(piece)
        if length < 0:
            break
        yield piece
    if length:
        raise _unsendable(route, "its body is not as long as it says")


def _unsendable(route: Route, reason: str) -> httpx.LocalProtocolError:
    return httpx.LocalProtocolError(f"This request to {route.host} cannot be sent ({reason}).")
