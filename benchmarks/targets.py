"""What is measured: this relay, and beside it nginx as a floor and LiteLLM's proxy, each started on loopback."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.processes import Account, clean_environment, free_port, started, wait_until_ready

TOKEN = "sk-bench-0123456789abcdef0123456789abcdef"
MODEL = "@cf/meta/llama-3.2-1b-instruct"

RELAY = [sys.executable, "-c", "from proxy.cli import main; main()", "serve"]


class Running(NamedTuple):
    """A server that answers; `startup` is the time from its execution to its first 200, in seconds."""

    port: int
    account: Account
    startup: float


class Target(Protocol):
    """`weight` is its share of the requests that the relay gets: a slow one gets fewer, so that all end in time."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def weight(self) -> float: ...

    def start(self, upstream: int, folder: Path) -> AbstractContextManager[Running]: ...


class Relay:
    """This relay, translating to and from Cloudflare's native wire."""

    name = "relay"
    model = MODEL
    weight = 1.0

    def __init__(self, command: list[str]) -> None:
        self._command = command

    @contextmanager
    def start(self, upstream: int, folder: Path) -> Iterator[Running]:
        port = free_port()
        environment = clean_environment() | {
            "CLOUDFLARE_ACCOUNT_ID": "0123456789abcdef0123456789abcdef",
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "CLOUDFLARE_API_BASE_URL": f"http://127.0.0.1:{upstream}/client/v4",
            "RELAY_PORT": str(port),
            "RELAY_TOKENS": TOKEN,
            "RELAY_STATE_DIR": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder),
        }
        begun = time.monotonic()
        with started(self._command, environment=environment, folder=folder) as process:
            yield _ready(process, folder / "log", port, "/healthz", begun)


class Nginx:
    """A token check and a pass-through without buffering or translation: the least that a relay can cost."""

    name = "nginx (no translation)"
    model = MODEL
    weight = 1.0

    def __init__(self, program: str) -> None:
        self._program = program

    @contextmanager
    def start(self, upstream: int, folder: Path) -> Iterator[Running]:
        port = free_port()
        (folder / "nginx.conf").write_text(_NGINX % {"folder": folder, "port": port, "up": upstream, "token": TOKEN})
        begun = time.monotonic()
        command = [self._program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "log")]
        with started(command, environment=clean_environment(), folder=folder) as process:
            yield _ready(process, folder / "log", port, "/healthz", begun)


class LiteLLM:
    """LiteLLM's proxy, from a virtual environment of its own, with the upstream as an OpenAI-compatible provider."""

    name = "LiteLLM proxy"
    model = "bench"
    weight = 0.05

    def __init__(self, python: str) -> None:
        self._python = python

    @contextmanager
    def start(self, upstream: int, folder: Path) -> Iterator[Running]:
        port = free_port()
        (folder / "config.yaml").write_text(_LITELLM % {"up": upstream, "token": TOKEN})
        environment = clean_environment() | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
        environment.pop("PYTHONPATH")  # its packages are its own
        command = [
            self._python,
            "-c",
            "from litellm import run_server; run_server()",
            "--config",
            str(folder / "config.yaml"),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        begun = time.monotonic()
        with started(command, environment=environment, folder=folder) as process:
            yield _ready(process, folder / "log", port, "/health/liveliness", begun)


def _ready(process: subprocess.Popen[bytes], log: Path, port: int, path: str, begun: float) -> Running:
    wait_until_ready(process, log, port, path)
    return Running(port, Account(process.pid), time.monotonic() - begun)


_NGINX = """
daemon off;
worker_processes 1;
pid %(folder)s/nginx.pid;
error_log %(folder)s/log warn;
events { worker_connections 8192; }
http {
    access_log off;
    map_hash_bucket_size 128;
    keepalive_requests 10000000;
    client_body_temp_path %(folder)s/client;
    proxy_temp_path %(folder)s/proxy;
    fastcgi_temp_path %(folder)s/fastcgi;
    uwsgi_temp_path %(folder)s/uwsgi;
    scgi_temp_path %(folder)s/scgi;
    upstream up { server 127.0.0.1:%(up)d; keepalive 2048; keepalive_requests 10000000; }
    map $http_authorization $stranger { default 1; "Bearer %(token)s" 0; }
    server {
        listen 127.0.0.1:%(port)d backlog=4096;
        location = /healthz { return 200 "ok"; }
        location = /v1/chat/completions {
            if ($stranger) { return 401; }
            proxy_pass http://up;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }
    }
}
"""

_LITELLM = """
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:%(up)d/v1
      api_key: %(token)s
general_settings:
  master_key: %(token)s
litellm_settings:
  telemetry: false
"""
