"""Load on one server from a process of its own: `python -m benchmarks.load SPEC`, SPEC and the result being JSON.

Keep-alive connections over raw sockets, so that this side costs little of the cores that all of them share.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import cast

import httptools
import msgspec
import uvloop

_STAMP = re.compile(rb"@(\d+)@")
_FAILURE = "connection lost"


class Spec(msgspec.Struct, kw_only=True):
    """What to send: `requests` in all over `connections`, each holding one at a time.

    `chunks` is 0 for whole answers, else each answer must be a stream of that many, `interval` milliseconds apart.
    """

    port: int
    path: str = "/v1/chat/completions"
    token: str = ""
    model: str = "bench"
    connections: int = 1
    requests: int = 1
    chunks: int = 0
    interval: int = 20
    patience: float = 120.0

    def request(self) -> bytes:
        content = "Hello, how are you today?"
        if self.chunks:
            content = f"chunks={self.chunks} interval={self.interval}"
        body = msgspec.json.encode(
            {
                "model": self.model,
                "messages": [
                    {"role": "system", "content": "You are a helpful assistant."},
                    {"role": "user", "content": content},
                ],
                "stream": self.chunks > 0,
                "max_tokens": 1024,
            }
        )
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\nauthorization: Bearer {self.token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float = 0.0
    p99: float = 0.0

    def __sub__(self, other: Latency) -> Latency:
        return Latency(self.p50 - other.p50, self.p99 - other.p99)


class Result(msgspec.Struct, kw_only=True):
    """What came back.

    `whole` is from a request to the end of its answer, `first` to a stream's first chunk, `transit` from the
    upstream's sending a chunk to its arrival here. `held` is the largest number of streams that ran at once.
    """

    answered: int
    seconds: float
    held: int
    whole: Latency
    first: Latency
    transit: Latency
    failures: dict[str, int]


class Run:
    """The state that the connections of one load share."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.request = spec.request()
        self.whole: list[float] = []
        self.first: list[float] = []
        self.transit: list[float] = []
        self.failures: dict[str, int] = {}
        self.held = 0
        self.running = 0
        self.unsent = spec.requests
        self.unanswered = spec.requests
        self.done = asyncio.get_running_loop().create_future()

    def take(self) -> bool:
        """Whether there is another request to send."""
        self.unsent -= 1
        return self.unsent >= 0

    def finish(self, failure: str | None) -> None:
        if failure is not None:
            self.failures[failure] = self.failures.get(failure, 0) + 1
        self.unanswered -= 1
        if not self.unanswered and not self.done.done():
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """Sends a request, reads its answer, and so on until none is left."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def next(self) -> None:
        if not self._run.take():
            self._transport.close()
            return
        self._parser = httptools.HttpResponseParser(self)
        self._chunks = 0
        self._rest = b""
        self._end = b""
        self._waiting = True
        self._started = time.perf_counter()
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._finish(_FAILURE)

    def on_body(self, body: bytes) -> None:
        if not self._run.spec.chunks:
            return
        now = time.monotonic_ns()
        lines, newline, self._rest = (self._rest + body).rpartition(b"\n")
        stamps = _STAMP.findall(lines)
        if stamps and not self._chunks:
            self._run.first.append((time.perf_counter() - self._started) * 1e3)
            self._run.running += 1
            self._run.held = max(self._run.held, self._run.running)
        self._chunks += len(stamps)
        self._run.transit.extend((now - int(stamp)) / 1e6 for stamp in stamps)
        self._end = (self._end + lines + newline)[-32:]

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self._finish(f"status {status}")
        elif self._chunks != self._run.spec.chunks or (self._chunks and b"[DONE]" not in self._end):
            self._finish("not the whole stream")
        else:
            self._run.whole.append((time.perf_counter() - self._started) * 1e3)
            self._finish(None)
        # Not at once: this is called from within the parser that the next request replaces.
        asyncio.get_running_loop().call_soon(self.next)

    def _finish(self, failure: str | None) -> None:
        self._waiting = False
        if self._chunks:
            self._run.running -= 1
        self._run.finish(failure)


async def _drive(spec: Spec) -> Result:
    run = Run(spec)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(spec.patience):
        connections = [
            (await loop.create_connection(lambda: Connection(run), "127.0.0.1", spec.port))[1]
            for _ in range(spec.connections)
        ]
        started = time.perf_counter()
        for connection in connections:
            connection.next()
        await run.done
    return Result(
        answered=len(run.whole),
        seconds=time.perf_counter() - started,
        held=run.held,
        whole=_latency(run.whole),
        first=_latency(run.first),
        transit=_latency(run.transit),
        failures=run.failures,
    )


def _latency(times: list[float]) -> Latency:
    if not times:
        return Latency()
    times.sort()
    return Latency(times[len(times) // 2], times[len(times) * 99 // 100])


def main() -> None:
    spec = msgspec.json.decode(sys.argv[1], type=Spec)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_drive(spec))))


if __name__ == "__main__":
    main()
