"""Requests as bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from adapters.http1.request import message_of
from adapters.http1.route import route_to

pytestmark = pytest.mark.anyio

URL = "http://upstream.test:8080/a?b=c"


async def parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


class Prebuilt(httpx.AsyncByteStream):
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return parts(*self._pieces)


async def sent(request: httpx.Request) -> bytes:
    """Every byte that is written for a request."""
    message = message_of(request, route_to(request.url))
    rest = b""
    if message.rest is not None:
        rest = b"".join([bytes(piece) async for piece in message.rest()])
    return message.opening + rest


def prebuilt(method: str, *pieces: bytes, url: str = URL, **headers: str) -> httpx.Request:
    """As adapters build theirs: httpx adds nothing. A body in several pieces is one of unknown length."""
    stream = httpx.ByteStream(pieces[0]) if len(pieces) == 1 else Prebuilt(*pieces)
    return httpx.Request(method, url, headers={k.replace("_", "-"): v for k, v in headers.items()}, stream=stream)


LINE = b"POST /a?b=c HTTP/1.1\r\n"
HOST = b"Host: upstream.test:8080\r\n"
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n"

SENT: dict[str, tuple[httpx.Request, bytes]] = {
    "a host and a length are added": (prebuilt("POST", b"ok"), LINE + HOST + b"Content-Length: 2\r\n\r\nok"),
    "what is there stays": (
        prebuilt("POST", b"ok", Content_Length="2", HOST="other.test"),
        LINE + b"Content-Length: 2\r\nHOST: other.test\r\n\r\nok",
    ),
    "a POST says that it has no body": (prebuilt("POST", b""), LINE + HOST + b"Content-Length: 0\r\n\r\n"),
    "a GET need not": (prebuilt("GET", b""), LINE.replace(b"POST", b"GET") + HOST + b"\r\n"),
    "a GET that has one": (
        prebuilt("GET", b"ok"),
        LINE.replace(b"POST", b"GET") + HOST + b"Content-Length: 2\r\n\r\nok",
    ),
    "a body of unknown length": (prebuilt("POST", b"ok", b"", b"!"), LINE + HOST + CHUNKS),
    "chunks that were announced": (
        prebuilt("POST", b"ok", b"!", Transfer_Encoding="Chunked"),
        LINE + HOST + CHUNKS.replace(b"chunked", b"Chunked"),
    ),
    "a length that was announced": (
        prebuilt("POST", b"ok", b"!", Content_Length="3"),
        LINE + HOST + b"Content-Length: 3\r\n\r\nok!",
    ),
    "other headers as long as these": (
        prebuilt("POST", b"", XXXX="1", x_fourteen_xxx="2", x_seventeen_xxxxx="3", Content_Length="0"),
        LINE + HOST + b"XXXX: 1\r\nx-fourteen-xxx: 2\r\nx-seventeen-xxxxx: 3\r\nContent-Length: 0\r\n\r\n",
    ),
    "no path": (
        prebuilt("DELETE", b"", url="http://[::1]:8080"),
        b"DELETE / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
    ),
}


@pytest.mark.parametrize(("request_", "wire"), SENT.values(), ids=SENT)
async def test_a_request_goes_out_with_what_it_needs_and_no_more(request_: httpx.Request, wire: bytes) -> None:
    assert await sent(request_) == wire


@pytest.mark.parametrize("size", [2**16, 2**16 + 1, 2**20 + 1])
async def test_bodies_of_any_size_go_out_whole_and_can_be_sent_again(size: int) -> None:
    request = prebuilt("POST", bytes(size))
    for _ in range(2):
        assert (await sent(request)).partition(b"\r\n\r\n")[2] == bytes(size)
    assert message_of(request, route_to(request.url)).repeatable


async def test_a_large_piece_of_unknown_length_goes_out_in_several_chunks() -> None:
    wire = await sent(prebuilt("POST", bytes(2**20), bytes(2**20 + 1)))
    assert wire.count(b"\r\n100000\r\n") == 2
    assert wire.endswith(b"\r\n1\r\n\0\r\n0\r\n\r\n")


class Sync(httpx.SyncByteStream):
    """A body that cannot be read without blocking."""


def with_target(target: bytes) -> httpx.Request:
    request = prebuilt("GET", b"")

    class Raw(httpx.URL):
        raw_path = target

    request.url = Raw(URL)
    return request


def with_header(name: bytes, value: bytes) -> httpx.Request:
    return httpx.Request("GET", URL, headers=[(name, value)], stream=httpx.ByteStream(b""))


REFUSED: dict[str, httpx.Request] = {
    "a method that is none": prebuilt("GET /b", b""),
    "a method with a line feed": prebuilt("GET\n", b""),
    "a method in other letters": prebuilt("ΓΕΤ", b""),
    "no method": prebuilt("", b""),
    "a tunnel": prebuilt("CONNECT", b""),
    "a space in the target": with_target(b"/a b"),
    "a line feed in the target": with_target(b"/a\nb"),
    "a NUL in the target": with_target(b"/a\0b"),
    "other letters in the target": with_target("/ä".encode()),
    "a line feed in a value": with_header(b"x-a", b"b\nc: d"),
    "a carriage return in a value": with_header(b"x-a", b"b\rc"),
    "both in a value": with_header(b"x-a", b"b\r\nc: d"),
    "a NUL in a value": with_header(b"x-a", b"b\0c"),
    "a control character in a value": with_header(b"x-a", b"b\x1bc"),
    "a value that is no UTF-8": with_header(b"x-a", b"\xff"),
    "a line feed in a name": with_header(b"x-a: b\nc", b"d"),
    "a line feed at the end of a name": with_header(b"x-a\n", b"b"),
    "a space in a name": with_header(b"x a", b"b"),
    "a colon in a name": with_header(b"x:a", b"b"),
    "no name": with_header(b"", b"b"),
    "a name in other letters": with_header("x-ä".encode(), b"b"),
    "a body longer than it says": prebuilt("POST", b"ok", Content_Length="1"),
    "a body shorter than it says": prebuilt("POST", b"ok", Content_Length="3"),
    "a stream longer than it says": prebuilt("POST", b"ok", b"!", Content_Length="2"),
    "a stream shorter than it says": prebuilt("POST", b"ok", b"!", Content_Length="4"),
    "a length that is no number": prebuilt("POST", b"ok", b"!", Content_Length="-3"),
    "two lengths": httpx.Request("POST", URL, headers=[("content-length", "2")] * 2, stream=httpx.ByteStream(b"ok")),
    "chunks where the length is known": prebuilt("POST", b"ok", Transfer_Encoding="chunked"),
    "chunks and a length": prebuilt("POST", b"ok", b"!", Content_Length="3", Transfer_Encoding="chunked"),
    "another transfer coding": prebuilt("POST", b"ok", b"!", Transfer_Encoding="gzip"),
    "a body that blocks": httpx.Request("POST", URL, stream=Sync()),
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
async def test_what_would_arrive_as_something_else_is_refused(request_: httpx.Request) -> None:
    with pytest.raises(httpx.LocalProtocolError, match=r"upstream\.test cannot be sent"):
        await sent(request_)


async def test_no_byte_goes_out_beyond_the_announced_length() -> None:
    request = prebuilt("POST", b"ok", b"!", b"?", Content_Length="2")
    rest = message_of(request, route_to(request.url)).rest
    assert rest is not None
    written = b""
    with pytest.raises(httpx.LocalProtocolError):
        async for piece in rest():
            written += piece
    assert written == b"ok"
