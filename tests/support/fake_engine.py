"""An inference server for tests that behaves as badly as it is told. Runs alone: the standard library is all it needs.

python fake_engine.py (--port N | --socket PATH) [how it misbehaves]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

WORDS = ("Hello", " from", " the", " engine")
USAGE = {"prompt_tokens": 3, "completion_tokens": len(WORDS), "total_tokens": 3 + len(WORDS)}
GARBAGE = b"\x00\xff no HTTP at all\r\n" * 3


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: Any, options: argparse.Namespace) -> None:
        self.options = options
        self.served = 0
        super().__init__(address, _Handler)


class _UnixServer(_Server):
    address_family = socket.AF_UNIX


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle(self) -> None:
        if self.server.options.garbage:
            self.connection.sendall(GARBAGE)
        else:
            super().handle()

    def do_GET(self) -> None:
        options = self.server.options
        if options.deaf_while is not None and Path(options.deaf_while).exists():
            threading.Event().wait()  # answers nothing any more
        routes: dict[str, Any] = {
            "/health": {"status": "ok"},
            "/v1/models": {"object": "list", "data": [{"id": "fake", "object": "model"}]},
            "/environment": dict(os.environ),
            "/process": {"pid": os.getpid(), "directory": os.getcwd()},
        }
        self._answer(200 if self.path in routes else 404, routes.get(self.path, {"error": {"message": "not found"}}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.served += 1
        if body.get("stream"):
            self._stream()
        else:
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._answer(200, {**_head("chat.completion"), "choices": [choice], "usage": USAGE})
        if self.server.served == self.server.options.exit_after:
            os._exit(0)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for number, word in enumerate(WORDS):
            if self.server.options.crash_mid_stream and number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            self._event(choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}])
        self._event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        self._event(choices=[], usage=USAGE)
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, **fields: Any) -> None:
        self.wfile.write(b"data: " + json.dumps({**_head("chat.completion.chunk"), **fields}).encode() + b"\n\n")
        self.wfile.flush()

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        sys.stderr.write(f"{self.command} {self.path}\n")


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-fake", "object": kind, "created": int(time.time()), "model": "fake"}


def _fork(work: Callable[[], None]) -> None:
    if os.fork() == 0:
        work()
        os._exit(0)


def _wait_for_ever(file: Path) -> None:
    with file.open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    while True:
        signal.pause()


def _escape(file: Path) -> None:
    """As daemons do: a session of its own, and a parent that is gone."""
    os.setsid()
    _fork(lambda: _wait_for_ever(file))


def _spread(options: argparse.Namespace) -> None:
    if options.offspring is not None:
        _fork(lambda: _wait_for_ever(options.offspring))
        _fork(lambda: _escape(options.offspring))
        while not options.offspring.exists() or options.offspring.read_text().count("\n") < 2:
            time.sleep(0.01)


def _log_endlessly() -> None:
    while True:
        sys.stdout.write("x" * 99 + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--socket")
    parser.add_argument("--say", default="", help="a line for the log, before anything else")
    parser.add_argument("--gate", type=Path, help="a FIFO: it does not listen before somebody has written to it")
    parser.add_argument("--starts", type=Path, help="gets a line for each start")
    parser.add_argument("--hang-at-start", action="store_true")
    parser.add_argument("--crash-at-start", type=int, metavar="STATUS")
    parser.add_argument("--crash-mid-stream", action="store_true")
    parser.add_argument("--exit-after", type=int, metavar="REQUESTS")
    parser.add_argument("--fill-memory", type=int, default=0, metavar="MIB")
    parser.add_argument("--garbage", action="store_true")
    parser.add_argument("--deaf-while", metavar="FILE", help="answers no GET while the file exists")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--offspring", type=Path, metavar="FILE", help="a child and a daemon; the file gets their ids")
    parser.add_argument("--log-endlessly", action="store_true")
    options = parser.parse_args()
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.starts is not None:
        with options.starts.open("a") as starts:
            starts.write(f"{os.getpid()}\n")
    if options.say:
        sys.stderr.write(options.say + "\n")
    _spread(options)
    if options.crash_at_start is not None:
        sys.exit(options.crash_at_start)
    while options.hang_at_start:
        signal.pause()
    ballast = bytearray(os.urandom(1)) * (options.fill_memory * 2**20)
    if options.gate is not None:
        options.gate.read_bytes()
    if options.log_endlessly:
        threading.Thread(target=_log_endlessly, daemon=True).start()
    address, kind = (options.socket, _UnixServer) if options.socket else (("127.0.0.1", options.port), _Server)
    with kind(address, options) as server:
        sys.stderr.write(f"listening, with {len(ballast)} bytes\n")
        server.serve_forever()


if __name__ == "__main__":
    main()
