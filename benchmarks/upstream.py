"""A fast upstream on loopback that plays Cloudflare's native wire, and OpenAI's for those who know no other.

`python -m benchmarks.upstream` prints its port and serves until it is ended. A request says in its prompt how it
wants to be answered, `chunks=200 interval=20` (milliseconds), since a prompt is what every relay passes on as it is.
Each chunk carries the time at which it was sent, `@<time.monotonic_ns()>@`: one clock for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import cast

import httptools
import uvloop

PACE = re.compile(rb"chunks=(\d+) interval=(\d+)")

_USAGE = b'"usage":{"prompt_tokens":20,"completion_tokens":12,"total_tokens":32}'
_TEXT = b"The quick brown fox jumps over the lazy dog."


class Wire:
    """How one API writes an answer: whole, and as the head, tail and end of its stream's frames."""

    def __init__(self, whole: bytes, head: bytes, tail: bytes, end: bytes) -> None:
        self.whole = _whole(b"200 OK", whole)
        self.head = head
        self.tail = tail
        self.end = end

    def frame(self) -> bytes:
        return _chunk(b"%b@%d@%b" % (self.head, time.monotonic_ns(), self.tail))


def _whole(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


_OPENAI = b'"id":"chatcmpl-1","created":1700000000,"model":"bench","object":"chat.completion'

NATIVE = Wire(
    b'{"result":{"response":"%b",%b},"success":true,"errors":[],"messages":[]}' % (_TEXT, _USAGE),
    b'data: {"response":"',
    b'","p":"abcdefgh"}\n\n',
    b'data: {"response":"",%b}\n\ndata: [DONE]\n\n' % _USAGE,
)
OPENAI = Wire(
    b'{%b","choices":[{"index":0,"message":{"role":"assistant","content":"%b"},"finish_reason":"stop"}],%b}'
    % (_OPENAI, _TEXT, _USAGE),
    b'data: {%b.chunk","choices":[{"index":0,"delta":{"content":"' % _OPENAI,
    b'"},"finish_reason":null}]}\n\n',
    b'data: {%b.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],%b}\n\ndata: [DONE]\n\n'
    % (_OPENAI, _USAGE),
)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_NO_ROUTE = _whole(b"404 Not Found", b'{"result":null,"success":false,"errors":[{"code":7003}],"messages":[]}')


class Peer(asyncio.Protocol):
    """One connection: a request at a time, no TLS, no limits."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body = b""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if b"/ai/run/" in self._url:
            self._answer(NATIVE)
        elif self._url.endswith(b"/chat/completions"):
            self._answer(OPENAI)
        else:
            self._write(_NO_ROUTE)

    def _answer(self, wire: Wire) -> None:
        pace = PACE.search(self._body)
        if pace is None or not re.search(rb'"stream":\s*true', self._body):
            self._write(wire.whole)
            return
        self._write(_STREAM + wire.frame())
        self._continue(wire, int(pace[1]) - 1, int(pace[2]) / 1000)

    def _continue(self, wire: Wire, left: int, interval: float) -> None:
        """Wait and send the next frame; `left` are still to come, `interval` seconds apart."""
        self._timer = self._loop.call_later(interval, self._step, wire, left, interval)

    def _step(self, wire: Wire, left: int, interval: float) -> None:
        if left:
            self._write(wire.frame())
            self._continue(wire, left - 1, interval)
        else:
            self._write(_chunk(wire.end) + b"0\r\n\r\n")

    def _write(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", 0, backlog=4096)
    async with server:
        sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
