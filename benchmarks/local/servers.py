"""Programs that serve the same weights over HTTP, started for a measurement and ended after it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.local.convert import missing_packages
from benchmarks.local.load import Ask
from benchmarks.local.streams import Address, chat_completions, llama_completion
from benchmarks.processes import ROOT, Account, clean_environment, free_port, started, wait_until_ready

_TOKEN = "sk-bench-0123456789abcdef0123456789abcdef"
_MODEL = "bench"
_PATIENCE = 300.0


class Running(NamedTuple):
    ask: Ask
    account: Account
    startup: float
    """Seconds until it took requests."""
    behind: Callable[[], Ask] | None = None
    """The engine itself, past the relay; there once the first request has started it."""


class Serving(NamedTuple):
    """How the model is served."""

    python: str
    folder: Path
    device: str
    dtype: str
    threads: int
    rows: int
    context: int


class Server(Protocol):
    """Raises RuntimeError where it does not start."""

    @property
    def name(self) -> str: ...

    def missing(self, serving: Serving) -> str | None:
        """Why it cannot be measured here."""

    def start(self, serving: Serving, scratch: Path) -> AbstractContextManager[Running]: ...


class OwnServer:
    """The engine's process alone, asked at its Unix socket."""

    name = "own engine, its server"

    def missing(self, serving: Serving) -> str | None:
        return None

    @contextmanager
    def start(self, serving: Serving, scratch: Path) -> Iterator[Running]:
        path = scratch / "socket"
        command = [
            *(serving.python, "-m", "adapters.local.serving.main", str(path), "--model", str(serving.folder)),
            *("--name", _MODEL, "--device", serving.device, "--dtype", serving.dtype),
            *("--threads", str(serving.threads), "--rows", str(serving.rows), "--queue", "1024"),
            *("--context", str(serving.context)),
        ]
        begun = time.monotonic()
        environment = clean_environment() | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with started(command, environment=environment, folder=scratch) as process:
            while not path.exists():
                if process.poll() is not None or time.monotonic() > begun + _PATIENCE:
                    raise RuntimeError(f"it does not serve:\n{(scratch / 'log').read_text()[-2000:]}")
                time.sleep(0.01)
            ask = chat_completions(Address(socket=str(path)), _MODEL, "")
            yield Running(ask, Account(process.pid), time.monotonic() - begun)


class Relay:
    """The relay with the engine behind it, which it starts itself; memory is that of both."""

    name = "own engine, through the relay"

    def missing(self, serving: Serving) -> str | None:
        return None

    @contextmanager
    def start(self, serving: Serving, scratch: Path) -> Iterator[Running]:
        port = free_port()
        (scratch / "relay.toml").write_text(
            f'[[engines]]\nname = "own"\nkind = "transformers"\nmodels = ["{_MODEL}"]\nmodel = "{serving.folder}"\n'
            f'device = "{serving.device}"\ndtype = "{serving.dtype}"\nthreads = {serving.threads}\n'
            f"max_concurrency = {serving.rows}\ncontext_window = {serving.context}\nqueue = 1024\n"
        )
        environment = clean_environment() | {
            "RELAY_PORT": str(port),
            "RELAY_TOKENS": _TOKEN,
            "RELAY_STATE_DIR": str(scratch / "state"),
            "XDG_CONFIG_HOME": str(scratch),
        }
        command = [serving.python, "-c", "from proxy.cli import main; main()", "serve"]
        begun = time.monotonic()
        with started(command, environment=environment, folder=scratch) as process:
            wait_until_ready(process, scratch / "log", port, "/healthz")
            ask = chat_completions(Address(port=port), _MODEL, _TOKEN)

            def behind() -> Ask:
                sockets = (scratch / "state" / "run").glob("*.sock")
                engine = next(path for path in sockets if path.name != "control.sock")
                return chat_completions(Address(socket=str(engine)), _MODEL, "")

            yield Running(ask, Account(process.pid), time.monotonic() - begun, behind)


class Llama:
    """llama.cpp's server with the same weights, rounded to F16."""

    name = "llama-server (F16)"

    def __init__(self, program: str) -> None:
        self._program = program

    def missing(self, serving: Serving) -> str | None:
        if shutil.which(self._program) is None:
            return f"{self._program} is no program"
        return missing_packages(serving.python)

    @contextmanager
    def start(self, serving: Serving, scratch: Path) -> Iterator[Running]:
        file = scratch / "model.gguf"
        words = [serving.python, "-m", "benchmarks.local.convert", str(serving.folder), str(file)]
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
        port = free_port()
        command = [
            *(self._program, "-m", str(file), "--host", "127.0.0.1", "--port", str(port)),
            *("-c", str(serving.rows * serving.context), "-np", str(serving.rows), "-t", str(serving.threads)),
            *("-ngl", "999" if serving.device == "cuda" else "0", "--no-warmup"),
        ]
        begun = time.monotonic()
        with started(command, environment=dict(os.environ), folder=scratch) as process:
            wait_until_ready(process, scratch / "log", port, "/health")
            yield Running(llama_completion(Address(port=port)), Account(process.pid), time.monotonic() - begun)


def servers(llama: str | None) -> list[Server]:
    return [OwnServer(), Relay(), *([Llama(llama)] if llama else [])]
