"""What a user of the Miniflare plugin is told when something is missing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients.processes import DEADLINE, finished, running
from tests.clients.surroundings import Surroundings, initialise, make_project, wrangler

DEV = ("dev", "--env", "relay", "--ip", "127.0.0.1", "--port", "0", "--inspector-port", "0")
TOKEN = {"CLOUDFLARE_API_TOKEN": "token-of-nobody"}


@pytest.fixture
def project(tmp_path: Path, surroundings: Surroundings) -> Path:
    folder = make_project(tmp_path / "project")
    initialise(folder, surroundings)
    return folder


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


WRONG = {
    "no token": ({}, "there is no token for the relay"),
    "no address": ({**TOKEN, "CLOUDFLARE_API_BASE_URL": "localhost:8790"}, "base_url must be the URL of a relay"),
    "no account": ({**TOKEN, "CLOUDFLARE_ACCOUNT_ID": "a/b"}, "account_id may hold"),
}


@pytest.mark.parametrize(("environ", "text"), WRONG.values(), ids=WRONG)
def test_wrangler_stops_and_says_what_is_missing(
    project: Path, surroundings: Surroundings, environ: dict[str, str], text: str
) -> None:
    done = finished(wrangler("wrangler", *DEV), cwd=project, env=surroundings.environ(**environ))
    assert done.returncode == 1
    assert text in done.stdout + done.stderr
    assert TOKEN["CLOUDFLARE_API_TOKEN"] not in done.stdout + done.stderr


def test_a_worker_is_told_that_no_relay_answers(project: Path, surroundings: Surroundings, closed_port: int) -> None:
    base = f"http://127.0.0.1:{closed_port}/client/v4"
    env = surroundings.environ(CLOUDFLARE_API_BASE_URL=base, **TOKEN)
    with running(wrangler("wrangler", *DEV), cwd=project, env=env) as server:
        url = server.wait_for(r"Ready on (http://\S+)")[1]
        seen = httpx.get(url, timeout=DEADLINE, trust_env=False).json()
    message = f"The relay at {base} cannot be reached. Start it with: relay serve"
    assert seen["text"] == {"error": "InferenceUpstreamError", "message": f"503: {message}"}
    assert seen["raw_error"] == {"status": 503, "code": 503}
    assert message in seen["models"]["message"]


def test_options_of_the_binding_come_before_the_environment(
    project: Path, surroundings: Surroundings, closed_port: int
) -> None:
    file = project / "wrangler.jsonc"
    text = file.read_text()
    base = f"http://127.0.0.1:{closed_port}/client/v4/"
    options = {"base_url": base, "account_id": "mine", "token": "token"}
    plugin = '"plugin": {'
    assert text.count(plugin) == 1
    file.write_text(text.replace(plugin, f'"options": {json.dumps(options)}, {plugin}'))
    env = surroundings.environ(CLOUDFLARE_API_BASE_URL="nothing", CLOUDFLARE_ACCOUNT_ID="a/b")
    with running(wrangler("wrangler", *DEV), cwd=project, env=env) as server:
        url = server.wait_for(r"Ready on (http://\S+)")[1]
        seen = httpx.get(url, timeout=DEADLINE, trust_env=False).json()
    assert base.rstrip("/") in seen["text"]["message"]
