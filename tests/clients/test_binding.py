"""`env.AI` in a Worker, under each program that runs Workers on a developer's machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.clients.conftest import Relay
from tests.clients.expectations import Like, MoreThan
from tests.clients.processes import DEADLINE, finished, running
from tests.clients.surroundings import (
    HERE,
    MODULES,
    Surroundings,
    initialise,
    make_project,
    node,
    pointed,
    printed_object,
    wrangler,
)
from tests.support.relay import AUTH, KEY, MODEL

Seen = dict[str, Any]


class Bench(NamedTuple):
    relay: Relay
    surroundings: Surroundings
    folder: Path
    """Empty."""


def of_dev_server(words: list[str], bench: Bench, **environ: str) -> Seen:
    """What the Worker answers once its development server runs."""
    env = bench.surroundings.environ(**pointed(bench.relay.url), **environ)
    with running(words, cwd=bench.folder, env=env) as server:
        url = server.wait_for(r"(?:Ready on|Local:)\s+(http://\S+)")[1]
        answer = httpx.get(url, timeout=DEADLINE, trust_env=False)
    assert answer.status_code == 200, server.output
    seen: Seen = answer.json()
    return seen


def of_script(words: list[str], cwd: Path, bench: Bench, **environ: str) -> Seen:
    done = finished(words, cwd=cwd, env=bench.surroundings.environ(**environ))
    assert done.returncode == 0, done.stdout + done.stderr
    return printed_object(done.stdout)


_DEV = ("dev", "--ip", "127.0.0.1", "--port", "0", "--inspector-port", "0")


def with_plugin(package: str, *, toml: bool) -> Callable[[Bench], Seen]:
    def see(bench: Bench) -> Seen:
        initialise(make_project(bench.folder, package, toml=toml), bench.surroundings)
        return of_dev_server(wrangler(package, *_DEV, "--env", "relay"), bench)

    return see


def with_variables(package: str) -> Callable[[Bench], Seen]:
    def see(bench: Bench) -> Seen:
        make_project(bench.folder, package)
        return of_dev_server(wrangler(package, *_DEV), bench)

    return see


def vite(bench: Bench) -> Seen:
    initialise(make_project(bench.folder), bench.surroundings)
    words = node(MODULES / "vite" / "bin" / "vite.js", "--host", "127.0.0.1", "--port", "0")
    return of_dev_server(words, bench, CLOUDFLARE_ENV="relay")


def platform_proxy(bench: Bench) -> Seen:
    project = make_project(bench.folder)
    initialise(project, bench.surroundings)
    words = node("platform_proxy.mjs", str(project / "wrangler.jsonc"), "relay")
    return of_script(words, project, bench, **pointed(bench.relay.url))


def miniflare(package: str) -> Callable[[Bench], Seen]:
    def see(bench: Bench) -> Seen:
        return of_script(node("miniflare.mjs", package, bench.relay.binding_url), bench.folder, bench)

    return see


def vitest(bench: Bench) -> Seen:
    words = node(MODULES / "vitest" / "vitest.mjs", "run", "--root", str(HERE))
    environ = bench.surroundings.environ(
        AI_BINDING_URL=bench.relay.binding_url, VITE_CACHE_DIR=str(bench.folder / "vite")
    )
    done = finished(words, cwd=bench.folder, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return printed_object(done.stdout.split("SEEN ")[1].rpartition(" SEEN")[0])


WAYS: dict[str, Callable[[Bench], Seen]] = {
    "wrangler 4.164, plugin": with_plugin("wrangler", toml=False),
    "wrangler 4.42, plugin": with_plugin("wrangler-4-42", toml=True),
    "wrangler 4.35, variables": with_variables("wrangler-4-35"),
    "wrangler 3.114, variables": with_variables("wrangler-3"),
    "Vite, plugin": vite,
    "getPlatformProxy, plugin": platform_proxy,
    "Miniflare 4": miniflare("miniflare-4"),
    "Miniflare 5": miniflare("miniflare"),
    "Vitest": vitest,
}
_BEFORE_SUPPORTED = ("wrangler 4.42, plugin", "wrangler 4.35, variables", "wrangler 3.114, variables")
"""Their runtimes' `Ai` has no `toMarkdown().supported()`."""


class Way(NamedTuple):
    name: str
    seen: Seen


@pytest.fixture(scope="session", params=WAYS)
def way(
    request: pytest.FixtureRequest,
    relay: Relay,
    surroundings: Surroundings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Way:
    """What the Worker saw in all scenarios, run once."""
    folder = tmp_path_factory.mktemp("project")
    return Way(request.param, WAYS[request.param](Bench(relay, surroundings, folder)))


@pytest.fixture(scope="session")
def plain(relay: Relay) -> dict[str, Any]:
    """The answer to the Worker's question, asked without any client."""
    body = {"messages": [{"role": "user", "content": "How warm is it in Oslo?"}], "max_tokens": 12}
    url = f"{relay.api}/accounts/local/ai/run/{MODEL}"
    answer = httpx.post(url, json=body, headers=AUTH, timeout=DEADLINE, trust_env=False)
    result: dict[str, Any] = answer.json()["result"]
    return {"text": result["response"], "total": result["usage"]["total_tokens"]}


PNG = "\x89PNG"
# What a scenario sees, but for the fields of `LIKE_PLAIN`.
EXPECTED: dict[str, Seen] = {
    "text": {},
    "request_id": {"id": Like("^[A-Za-z0-9_-]{8,}$"), "status": 200},
    "stream": {"last": "[DONE]", "several": True},
    "embeddings": {"shape": [2, 768], "unit": True},
    "picture": {"begins": PNG, "bytes": MoreThan(100)},
    "picture_as_text": {"begins": Like("PNG|JFIF|\xff\xd8"), "more": True},
    "transcript_of_numbers": {"text": Like("(?i)[a-z]")},
    "transcript_of_a_stream": {"text": Like("(?i)[a-z]")},
    "error": {"error": "InferenceUpstreamError", "message": Like("^5007: .*No such model @cf/example/no-such-model")},
    "invalid": {"error": "InferenceUpstreamError", "message": Like("^5006: .*'messages'")},
    "raw": {"status": 200, "type": "application/json"},
    "raw_error": {"status": 400, "code": 5007},
    "supported": {"html": True},
    "to_markdown": {
        "name": "oslo.html",
        "format": "markdown",
        "mimeType": "text/html",
        "data": Like("^# Oslo\n\nFour degrees.$"),
    },
    "gateway": {"status": 200, "success": True},
    "through_gateway": {"log": "string"},
}
# Fields that are those of `plain`.
LIKE_PLAIN = {
    "text": ("text", "total"),
    "stream": ("text", "total"),
    "raw": ("total",),
    "gateway": ("text",),
    "through_gateway": ("text",),
}


@pytest.mark.parametrize("scenario", EXPECTED)
def test_a_worker_sees_what_cloudflare_would_show_it(way: Way, plain: dict[str, Any], scenario: str) -> None:
    if scenario == "supported" and way.name in _BEFORE_SUPPORTED:
        assert way.seen[scenario]["error"] == "TypeError"
        return
    same = {name: plain[name] for name in LIKE_PLAIN.get(scenario, ())}
    assert way.seen[scenario] == {**EXPECTED[scenario], **same}


def test_models_are_found(way: Way) -> None:
    assert ["@cf/baai/bge-base-en-v1.5", "Text Embeddings"] in way.seen["models"]


def test_every_scenario_is_judged(way: Way) -> None:
    assert {*way.seen} == {*EXPECTED, "models"}


def test_the_key_in_a_path_reaches_no_log(relay: Relay, way: Way) -> None:
    assert "/remote-bindings" in relay.started.output or "Miniflare" not in way.name
    assert KEY not in relay.started.output
