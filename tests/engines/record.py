"""Record what the real engines answer, as the fixtures of the ordinary tests.

    .venv/bin/python -m tests.engines.record [FOLDER]

FOLDER is where `tests/engines/build` has built them, by default tests/engines/.built. The recordings go to
tests/transcripts/engines: one exchange a file, the request as it was sent and after it every byte that came back.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.clients.processes import running
from tests.engines.asks import CHATGLM, ENDLESSLY, FATAL, LLAMA, LLAMA_OPTIONS, PLAIN, STATES, Ask
from tests.engines.servers import Engine, chatglm, free_port, llama, llama_command
from tests.support.exchange import read_exchange

HERE = Path(__file__).parent
TRANSCRIPTS = HERE.parent / "transcripts" / "engines"
_DEADLINE = 60.0  # seconds for one exchange
_TAKE = 2**16


class Recorder:
    """Writes the exchanges with one engine to its folder."""

    def __init__(self, name: str) -> None:
        self._folder = TRANSCRIPTS / name
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob("*.http"):
            old.unlink()

    def record(self, engine: Engine, name: str, ask: Ask) -> None:
        """Ask and write down all that comes until the engine closes the connection."""
        request = _request(ask)
        with _connected(engine.port, request) as sock:
            self.write(name, request, _to_end(sock))

    def record_killed(self, engine: Engine, name: str, ask: Ask) -> None:
        """The same with an engine that is killed once it has begun to answer."""
        request = _request(ask)
        with _connected(engine.port, request) as sock:
            begun = _until(sock, b'"content":"')
            engine.program.process.kill()
            self.write(name, request, begun + _to_end(sock))

    def write(self, name: str, request: bytes, answer: bytes) -> None:
        (self._folder / f"{name}.http").write_bytes(request + answer)
        status = answer.split(b" ", 2)[1].decode() if answer else "nothing"
        _say(f"{self._folder.name}/{name}: {status}, {len(answer)} bytes")


def _request(ask: Ask) -> bytes:
    body = ask.body
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body, ensure_ascii=False).encode() + b"\n"
    lines = [f"{'GET' if body is None else 'POST'} {ask.path} HTTP/1.1", "host: engine", "connection: close"]
    if ask.key:
        lines.append(f"authorization: Bearer {ask.key}")
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


@contextmanager
def _connected(port: int, request: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), _DEADLINE) as sock:
        sock.sendall(request)
        yield sock


def _to_end(sock: socket.socket) -> bytes:
    """All that comes until the connection is closed, or reset."""
    taken = b""
    try:
        while piece := sock.recv(_TAKE):
            taken += piece
    except ConnectionResetError:
        pass
    return taken


def _until(sock: socket.socket, needle: bytes) -> bytes:
    taken = b""
    while needle not in taken:
        piece = sock.recv(_TAKE)
        if not piece:
            raise EOFError(f"{needle!r} did not come, but {taken!r}")
        taken += piece
    return taken


def _asked(engine: Engine, path: str) -> tuple[int, Any]:
    """Status and JSON of what lies at a path."""
    with _connected(engine.port, _request(Ask(path))) as sock:
        exchange = read_exchange(_request(Ask(path)) + _to_end(sock))
    return exchange.status, json.loads(exchange.payload)


# ---------------------------------------------------------------- chatglm.cpp


def record_chatglm(built: Path) -> None:
    recorder = Recorder("chatglm_cpp")
    for model, asks in CHATGLM.items():
        with chatglm(built, model) as engine:
            for name, ask in asks.items():
                recorder.record(engine, name, ask)
    for (model, max_length), asks in FATAL.items():
        for name, ask in asks.items():
            with chatglm(built, model, max_length=max_length) as engine:
                recorder.record(engine, name, ask)
                _say(f"  its process ended with status {engine.program.process.wait(_DEADLINE)}")
    with chatglm(built, "endless", max_length=16384) as engine:
        recorder.record(engine, "chat-limit", Ask.chat({**PLAIN, "max_tokens": 40}))
        recorder.record(engine, "stream-limit", Ask.chat({**PLAIN, "stream": True, "max_tokens": 40}))
        _watch_chatglm(engine)
        _record_waiting(engine, recorder)
        recorder.record_killed(engine, "killed", ENDLESSLY)


def _record_waiting(engine: Engine, recorder: Recorder) -> None:
    """A stream that has to wait for another one to end, or to be left, gets a ping after 15 seconds."""
    waiting = _request(Ask.chat({**PLAIN, "stream": True, "max_tokens": 40}))
    with _connected(engine.port, _request(ENDLESSLY)) as first:
        _until(first, b'"content":"')
        with _connected(engine.port, waiting) as second:
            begun = _until(second, b"ping")
            first.close()
            recorder.write("stream-waited", waiting, begun + _to_end(second))


def _watch_chatglm(engine: Engine) -> None:
    """Say how it behaves at work: what no single exchange shows."""
    long = Ask.chat({**PLAIN, "stream": True, "max_tokens": 150})
    with _connected(engine.port, _request(long)) as first:
        _until(first, b'"content":"')
        _say(f"  a look during a stream took {_seconds(engine, Ask('/v1/models')):.2f} s")
    _say(f"  an answer after a client had left took {_seconds(engine, Ask.chat({**PLAIN, 'max_tokens': 30})):.2f} s")
    with _connected(engine.port, _request(Ask.chat({**PLAIN, "max_tokens": 150}))):
        _say(f"  a look during a whole answer took {_seconds(engine, Ask('/v1/models')):.2f} s")


def _seconds(engine: Engine, ask: Ask) -> float:
    began = time.monotonic()
    with _connected(engine.port, _request(ask)) as sock:
        _to_end(sock)
    return time.monotonic() - began


# ---------------------------------------------------------------- llama-server


def record_llama(built: Path) -> None:
    recorder = Recorder("llama_server")
    for group, asks in LLAMA.items():
        model, *options = LLAMA_OPTIONS[group]
        with llama(built, model, *options) as engine:
            for name, ask in asks.items():
                recorder.record(engine, name, ask)
    _record_loading(built, recorder)
    with llama(built, "endless", "--metrics", "-np", "1", "-c", "16384") as engine:
        for name, ask in STATES.items():
            recorder.record(engine, f"{name}-idle", ask)
        with _connected(engine.port, _request(ENDLESSLY)) as sock:
            _until(sock, b'"content":"')
            for name, ask in STATES.items():
                recorder.record(engine, f"{name}-busy", ask)
            recorder.record(engine, "slots-full", Ask("/slots?fail_on_no_slot=1"))
            left = time.monotonic()
        while _asked(engine, "/slots")[1][0]["is_processing"]:
            if time.monotonic() > left + _DEADLINE:
                raise TimeoutError("it goes on after its client has left")
            time.sleep(0.01)
        _say(f"  it stopped {time.monotonic() - left:.2f} s after its client had left")
        recorder.record_killed(engine, "killed", ENDLESSLY)


def _record_loading(built: Path, recorder: Recorder) -> None:
    """What it says between listening and being ready, which takes it less than a second."""
    names, port = ["loading", "loading-chat"], free_port()
    asks = [Ask("/health"), Ask.chat(PLAIN)]
    command = llama_command(built, "endless", port)
    with running(command, cwd=built / "models", env=os.environ) as program:
        engine = Engine(program, port)
        deadline = time.monotonic() + _DEADLINE
        while names and time.monotonic() < deadline:
            try:
                with _connected(port, _request(asks[0])) as sock:
                    answer = _to_end(sock)
            except ConnectionRefusedError:
                continue
            if b" 503 " not in answer[:20]:
                break
            recorder.write(names.pop(0), _request(asks.pop(0)), answer)
        if names:
            raise RuntimeError(f"not met while {engine.url} was loading: {names}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    built = Path(sys.argv[1] if len(sys.argv) > 1 else HERE / ".built").resolve()
    record_chatglm(built)
    record_llama(built)


if __name__ == "__main__":
    main()
