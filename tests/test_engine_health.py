"""Whether an engine can take work, by what it answers over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from adapters.engine_calls import Endpoint, EngineCalls
from adapters.engine_health import Health, Load, probe, read_gauges, read_loaded, read_slots
from adapters.profiles import PROFILES, Gauges
from adapters.transport import open_transport
from tests.support.cloudflare import answer, held
from tests.support.engine_wires import (
    KEY,
    LLAMA_METRICS,
    LLAMA_SLOTS,
    OLLAMA_PS,
    SGLANG_METRICS,
    VLLM_METRICS,
    FakeEngine,
    playing,
)
from tests.support.servers import DEADLINE

pytestmark = pytest.mark.anyio

GAUGES = Gauges(running="r", waiting="w", cache=("new", "old"))


@pytest.fixture
async def transport() -> AsyncIterator[httpx.AsyncBaseTransport]:
    transport = open_transport(connect_timeout=5)
    yield transport
    await transport.aclose()


@pytest.fixture
async def engine() -> FakeEngine:
    return FakeEngine()


async def looked(
    transport: httpx.AsyncBaseTransport, engine: FakeEngine, profile: str, path: str = "/v1", **options: Any
) -> Health:
    async with playing(engine) as served:
        endpoint = Endpoint(name="e", base_url=served.url + path, profile=PROFILES[profile], api_key=KEY)
        return await probe(EngineCalls(transport, endpoint), **options)


# Profile, what its paths answer, what that means.
READY: dict[str, tuple[str, dict[str, Any], Health]] = {
    "vLLM": (
        "vllm",
        {"/health": b"", "/metrics": VLLM_METRICS},
        Health(ready=True, busy=True, load=Load(running=4, waiting=2, cache=0.75)),
    ),
    "SGLang": (
        "sglang",
        {"/health": b"", "/metrics": SGLANG_METRICS},
        Health(ready=True, load=Load(running=5, waiting=0, cache=0.5)),
    ),
    "SGLang without metrics": ("sglang", {"/health": b""}, Health(ready=True)),
    "llama-server": (
        "llama-server",
        {"/health": b'{"status":"ok"}', "/slots": LLAMA_SLOTS},
        Health(ready=True, load=Load(running=1, slots=2, context_window=512)),
    ),
    "llama-server with metrics": (
        "llama-server",
        {"/health": b'{"status":"ok"}', "/slots": LLAMA_SLOTS, "/metrics": LLAMA_METRICS},
        Health(ready=True, busy=True, load=Load(running=1, waiting=4, slots=2, context_window=512)),
    ),
    "llama-server with metrics alone": (
        "llama-server",
        {"/health": b'{"status":"ok"}', "/metrics": LLAMA_METRICS},
        Health(ready=True, busy=True, load=Load(running=1, waiting=4)),
    ),
    "llama-server with all slots taken": (
        "llama-server",
        {"/health": b"{}", "/slots": LLAMA_SLOTS.replace(b"false", b"true")},
        Health(ready=True, busy=True, load=Load(running=2, slots=2, context_window=512)),
    ),
    "Ollama": (
        "ollama",
        {"/api/version": b'{"version":"0.13"}', "/api/ps": OLLAMA_PS},
        Health(ready=True, load=Load(models=("llama3.2:3b", "qwen3:8b"), context_window=4096)),
    ),
    "chatglm.cpp": ("chatglm.cpp", {"/v1/models": b'{"data":[{"id":"gpt-3.5-turbo"}]}'}, Health(ready=True)),
    "transformers serve": ("transformers-serve", {"/health": b'{"status":"ok"}'}, Health(ready=True)),
    "any server": ("openai", {"/v1/models": b"{}"}, Health(ready=True)),
    "any server, without a list of models": ("openai", {}, Health(ready=True)),
}


@pytest.mark.parametrize(("profile", "paths", "health"), READY.values(), ids=READY)
async def test_an_engine_tells_what_it_has_to_do(
    transport: httpx.AsyncBaseTransport, engine: FakeEngine, profile: str, paths: dict[str, Any], health: Health
) -> None:
    for path, body in paths.items():
        engine.script(path, answer(200, body))
    assert await looked(transport, engine, profile, limit=DEADLINE) == health
    assert all(asked.headers["authorization"] == f"Bearer {KEY}" for asked in engine.requests)


NOT_READY: dict[str, tuple[str, int, bytes, bool, str]] = {
    "llama-server that is loading": ("llama-server", 503, b'{"error":{"message":"Loading model"}}', True, "loading"),
    "transformers serve without its worker": ("transformers-serve", 503, b"cb_worker_dead", False, "status 503"),
    "vLLM that has died inside": ("vllm", 500, b"", False, "status 500"),
    "a wrong key": ("openai", 401, b"", False, "key"),
    "a server of another kind": ("vllm", 404, b"", False, "status 404"),
}


@pytest.mark.parametrize(("profile", "status", "body", "loading", "words"), NOT_READY.values(), ids=NOT_READY)
async def test_an_engine_that_is_not_ready_says_why(
    transport: httpx.AsyncBaseTransport,
    engine: FakeEngine,
    profile: str,
    status: int,
    body: bytes,
    loading: bool,
    words: str,
) -> None:
    engine.script(PROFILES[profile].ready, answer(status, body))
    health = await looked(transport, engine, profile)
    assert (health.ready, health.loading) == (False, loading) and words in health.reason


@pytest.mark.parametrize(
    ("profile", "open_requests", "ready"), [("chatglm.cpp", 1, True), ("chatglm.cpp", 0, False), ("vllm", 1, False)]
)
async def test_silence_is_no_death_of_an_engine_that_is_deaf_while_it_works(
    transport: httpx.AsyncBaseTransport, engine: FakeEngine, profile: str, open_requests: int, ready: bool
) -> None:
    engine.script(PROFILES[profile].ready, held(asyncio.Event(), answer(200, b"")))
    health = await looked(transport, engine, profile, open_requests=open_requests, limit=0.1)
    assert (health.ready, health.busy) == (ready, ready)


async def test_metrics_that_hang_do_no_harm(transport: httpx.AsyncBaseTransport, engine: FakeEngine) -> None:
    engine.script("/health", answer(200, b""))
    engine.script("/metrics", held(asyncio.Event(), answer(200, b"")))
    assert await looked(transport, engine, "vllm", limit=3) == Health(ready=True)


async def test_nobody_at_the_address_is_told(transport: httpx.AsyncBaseTransport) -> None:
    async with playing(FakeEngine()) as served:
        url = served.url
    endpoint = Endpoint(name="e", base_url=f"{url}/v1", profile=PROFILES["vllm"])
    health = await probe(EngineCalls(transport, endpoint))
    assert not health.ready and "could not be reached" in health.reason


async def test_an_engine_full_of_our_own_work_is_busy(transport: httpx.AsyncBaseTransport, engine: FakeEngine) -> None:
    engine.script("/health", answer(200, b""))
    assert (await looked(transport, engine, "transformers-serve", open_requests=1)).busy


@pytest.mark.parametrize(
    ("path", "root"), [("/v1", ""), ("/v1/", ""), ("/up/v1", "/up"), ("/api/openai", "/api/openai")]
)
async def test_paths_lie_below_the_engines_root(
    transport: httpx.AsyncBaseTransport, engine: FakeEngine, path: str, root: str
) -> None:
    await looked(transport, engine, "vllm", path)
    await looked(transport, engine, "openai", path)
    assert [asked.path for asked in engine.requests] == [f"{root}/health", f"{path.rstrip('/')}/models"]


GAUGE_TEXTS: dict[str, tuple[bytes, Load | None]] = {
    "of several models": (b'r{a="1"} 1\nr{a="2"} 2\nw 0\n', Load(running=3, waiting=0)),
    "the fullest cache": (b'new{a="1"} 0.1\nnew{a="2"} 0.9', Load(cache=0.9)),
    "the older name": (b"old 0.5", Load(cache=0.5)),
    "a share beyond all": (b"old 7", Load(cache=1.0)),
    "below zero": (b"r -3\nold -1", Load(running=0, cache=0.0)),
    "nothing of it": (b"x 1", None),
    "nothing at all": (b"", None),
}


@pytest.mark.parametrize(("text", "load"), GAUGE_TEXTS.values(), ids=GAUGE_TEXTS)
def test_gauges_are_read(text: bytes, load: Load | None) -> None:
    assert read_gauges(text, GAUGES) == load


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"[1]", b"<html>", b'{"error":{"code":501}}'])
def test_what_is_no_list_of_slots_tells_nothing(body: bytes) -> None:
    assert read_slots(body) is None


def test_slots_without_a_context_have_none() -> None:
    assert read_slots(b'[{"id":0,"is_processing":false},{"id":1}]') == Load(running=0, slots=2)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"models":[1]}', b'{"models":null}'])
def test_what_is_no_list_of_models_tells_nothing(body: bytes) -> None:
    assert read_loaded(body) is None


def test_an_ollama_with_nothing_loaded() -> None:
    assert read_loaded(b'{"models":[]}') == Load(models=())
