"""A small HTTP server on loopback that gives canned answers, in a thread of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """`path` with its query; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Canned(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    hold: threading.Event | None = None
    """The answer does not end before this is set."""


Answer = Callable[[Asked], Canned]


class Server(NamedTuple):
    url: str
    port: int
    asked: list[Asked]


def as_json(status: int, document: Any) -> Canned:
    return Canned(status, json.dumps(document).encode(), {"content-type": "application/json"})


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    """A server for as long as the block lasts; `asked` holds every request so far."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            request = Asked(self.command, self.path, headers, body)
            asked.append(request)
            canned = answer(request)
            self.send_response(canned.status)
            for name, value in canned.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(canned.body)
            self.wfile.flush()
            if canned.hold is not None:
                canned.hold.wait(20)

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", server.server_port, asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
