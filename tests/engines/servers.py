"""The two engines as processes on free loopback ports, from what `tests/engines/build` has left."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.clients.processes import Started, running

_LISTENS = r"(?:running|listening) on http://127\.0\.0\.1:(\d+)"


class Engine(NamedTuple):
    """An engine that takes requests."""

    program: Started
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@contextmanager
def chatglm(built: Path, model: str, *, max_length: int = 4096) -> Iterator[Engine]:
    """chatglm.cpp's server with one of the tiny models, by its name."""
    environ = {"PATH": os.environ["PATH"], "MODEL": f"{model}.bin", "MAX_LENGTH": str(max_length)}
    words = ["-m", "uvicorn", "chatglm_cpp.openai_api:app", "--host", "127.0.0.1", "--port", "0"]
    python = str(built / "venv" / "bin" / "python")
    with running([python, *words], cwd=built / "models", env=environ) as program:
        yield Engine(program, int(program.wait_for(_LISTENS)[1]))


@contextmanager
def llama(built: Path, model: str, *options: str) -> Iterator[Engine]:
    """llama-server with one of the tiny models, and two slots of 1024 tokens unless `options` say otherwise."""
    with running(llama_command(built, model, 0, *options), cwd=built / "models", env=os.environ) as program:
        yield Engine(program, int(program.wait_for(_LISTENS)[1]))


def llama_command(built: Path, model: str, port: int, *options: str) -> list[str]:
    """The words that start llama-server in the folder of models; a port of 0 is any."""
    server = str(built / "llama-server" / "bin" / "llama-server")
    words = ["-m", f"{model}.gguf", "-a", model, "--host", "127.0.0.1", "--port", str(port)]
    return [server, *words, "-c", "2048", "-np", "2", "-t", "1", *options]


def free_port() -> int:
    """A port that nobody listens on, for an engine that has to be met before it is ready."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port
