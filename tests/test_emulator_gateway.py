"""AI Gateway's addresses, over real sockets; the simulator answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.emulator import AI, ORIGIN, REMOTE, SHORT, emulating
from tests.support.relay import KEY, MODEL, asking
from wrangler_compat import gateway_logs

pytestmark = pytest.mark.anyio

GATEWAY = "/v1/local/my-gateway"
BGE = "@cf/baai/bge-small-en-v1.5"
SLOW = {"prompt": "Tell me everything about it.", "max_tokens": 4000}


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with emulating(tmp_path_factory.mktemp("state")) as client:
        yield client


def error_of(response: httpx.Response) -> tuple[int, int]:
    body = response.json()
    assert {**body, "error": None} == {"success": False, "result": [], "messages": [], "error": None}
    [error] = body["error"]
    assert error["message"]
    return response.status_code, error["code"]


async def log_of(client: httpx.AsyncClient, response: httpx.Response) -> dict[str, Any]:
    """The log of a run through `GATEWAY`, as the binding would get it."""
    address = f"{ORIGIN}/ai-gateway/gateways/my-gateway/logs/{response.headers['cf-aig-log-id']}"
    found = await client.get(REMOTE, headers={"MF-URL": address})
    log: dict[str, Any] = found.json()["result"]
    return log


def test_only_the_newest_logs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_logs, "_MOST", 2)
    logs = gateway_logs.Logs()
    for id in "abc":
        log = gateway_logs.Log(
            id=id,
            created_at="",
            provider="workers-ai",
            model=MODEL,
            path="",
            duration=1,
            status_code=200,
            success=True,
            request_size=1,
            response_size=1,
        )
        logs.add("me", "g", log)
    assert [logs.get("me", "g", id) is not None for id in "abc"] == [False, True, True]


async def test_a_log_keeps_only_the_beginning_of_a_callers_words(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json;" + "x" * 9000}
    response = await client.post(f"{GATEWAY}/workers-ai/{MODEL}", content=json.dumps(SHORT), headers=headers)
    assert (await log_of(client, response))["request_content_type"] == headers["content-type"][:500]


NATIVE = {"a model": f"workers-ai/{MODEL}", "run and a model": f"workers-ai/run/{MODEL.replace('/', '%2F')}"}


@pytest.mark.parametrize("path", NATIVE.values(), ids=NATIVE)
async def test_a_model_runs_natively(client: httpx.AsyncClient, path: str) -> None:
    headers = {"cf-aig-metadata": '{"who":"me"}', "cf-aig-anything": "x", "cf-aig-request-timeout": "9000"}
    response = await client.post(f"{GATEWAY}/{path}", json=SHORT, headers=headers)
    assert response.json()["success"] is True and response.json()["result"]["response"]
    assert response.headers["cf-aig-cache-status"] == "MISS"
    log = await log_of(client, response)
    assert (log["success"], log["metadata"], log["request_content_type"]) == (True, {"who": "me"}, "application/json")


OPENAI: dict[str, tuple[str, dict[str, Any], str]] = {
    "chat": ("workers-ai/v1/chat/completions", asking(max_tokens=2), "chat.completion"),
    "embeddings": ("workers-ai/v1/embeddings", {"model": BGE, "input": "a"}, "list"),
    "the unified form": (
        "compat/chat/completions",
        asking(max_tokens=2) | {"model": f"workers-ai/{MODEL}"},
        "chat.completion",
    ),
}


@pytest.mark.parametrize(("path", "body", "object_"), OPENAI.values(), ids=OPENAI)
async def test_openais_forms_come_bare(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], object_: str
) -> None:
    response = await client.post(f"{GATEWAY}/{path}", json=body)
    assert response.json()["object"] == object_
    assert (await log_of(client, response))["tokens_in"] > 0


async def test_a_token_may_come_as_the_gateways(client: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=client.base_url, trust_env=False) as other:
        headers = {"cf-aig-authorization": f"Bearer {KEY}"}
        assert (await other.post(f"{GATEWAY}/workers-ai/{MODEL}", json=SHORT, headers=headers)).status_code == 200
        assert error_of(await other.post(f"{GATEWAY}/workers-ai/{MODEL}", json=SHORT)) == (401, 2009)


async def test_the_models_have_prices_of_one_token(client: httpx.AsyncClient) -> None:
    body = (await client.get(f"{GATEWAY}/compat/models")).json()
    rows = {row["id"]: row for row in body["data"]}
    row = rows["workers-ai/@cf/openai/gpt-oss-20b"]
    assert set(row) == {"id", "object", "created_at", "owned_by", "cost_in", "cost_out"}
    assert (row["cost_in"], row["cost_out"]) == (2e-07, 3e-07)
    assert "workers-ai/@cf/facebook/bart-large-cnn" not in rows


async def test_a_gateway_named_by_a_header_leaves_a_log_too(client: httpx.AsyncClient) -> None:
    response = await client.post(f"{AI}/run/{MODEL}", json=SHORT, headers={"cf-aig-gateway-id": "my-gateway"})
    assert (await log_of(client, response))["model"] == MODEL


METADATA = {"not JSON": "{", "a list": "[]", "not flat": '{"a":{}}', "too long": json.dumps({"a": "x" * 5000})}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
async def test_metadata_that_is_none_is_let_go(client: httpx.AsyncClient, metadata: str) -> None:
    response = await client.post(f"{GATEWAY}/workers-ai/{MODEL}", json=SHORT, headers={"cf-aig-metadata": metadata})
    assert (await log_of(client, response))["metadata"] is None


TIMED: dict[str, tuple[str, Any]] = {
    "a whole answer": (f"workers-ai/{MODEL}", SLOW),
    "OpenAI's form": ("compat/chat/completions", asking(max_tokens=4000) | {"model": f"workers-ai/{MODEL}"}),
    "a stream": (f"workers-ai/{MODEL}", SLOW | {"stream": True}),
    "a list": ("", [{"provider": "workers-ai", "endpoint": MODEL, "query": SLOW}]),
}


@pytest.mark.parametrize(("path", "body"), TIMED.values(), ids=TIMED)
async def test_a_timeout_is_kept(client: httpx.AsyncClient, path: str, body: Any) -> None:
    response = await client.post(f"{GATEWAY}/{path}", json=body, headers={"cf-aig-request-timeout": "1"})
    assert error_of(response) == (408, 3046)


async def test_an_entry_of_a_list_may_have_a_timeout_of_its_own(client: httpx.AsyncClient) -> None:
    calls = [
        {"provider": "workers-ai", "endpoint": MODEL, "query": SLOW, "headers": {"cf-aig-request-timeout": "1"}},
        {"provider": "workers-ai", "endpoint": f"run/{MODEL}", "query": SHORT},
    ]
    response = await client.post(f"{GATEWAY}/", json=calls)
    assert (response.headers["cf-aig-step"], response.json()["success"]) == ("1", True)


TIMEOUTS = {"not a number": "soon", "not a time": "nan", "negative": "-5", "zero": "0", "for ever": "1e300"}


@pytest.mark.parametrize("value", TIMEOUTS.values(), ids=TIMEOUTS)
async def test_a_timeout_that_is_none_is_let_go(client: httpx.AsyncClient, value: str) -> None:
    headers = {"cf-aig-request-timeout": value}
    assert (await client.post(f"{GATEWAY}/workers-ai/{MODEL}", json=SHORT, headers=headers)).status_code == 200


def call(endpoint: str, query: object, provider: str = "workers-ai") -> dict[str, Any]:
    return {"provider": provider, "endpoint": endpoint, "headers": {}, "query": query}


LISTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "the first": ([call(MODEL, SHORT)], "0"),
    "past one that cannot be read": ([call("@cf/no/such", {}), call(f"run/{MODEL}", SHORT)], "1"),
    "past one that fails": ([call("@cf/qwen/qwen1.5-0.5b-chat", SHORT), call(MODEL, SHORT)], "1"),
    "past another provider": ([call("x", {}, "openai"), call(MODEL, SHORT)], "1"),
    "OpenAI's form": ([call("v1/chat/completions", asking(max_tokens=2))], "0"),
    "OpenAI's embeddings": ([call("v1/embeddings", {"model": BGE, "input": "a"})], "0"),
    "the unified form": ([call("chat/completions", asking(max_tokens=2), "compat")], "0"),
    "a stream": ([call(MODEL, SHORT | {"stream": True})], "0"),
    "a stream past what is none": ([call("@cf/no/x", {}), call(MODEL, SHORT | {"stream": True})], "1"),
}


@pytest.mark.parametrize(("calls", "step"), LISTS.values(), ids=LISTS)
async def test_a_list_is_tried_in_order(client: httpx.AsyncClient, calls: list[dict[str, Any]], step: str) -> None:
    response = await client.post(GATEWAY, json=calls)
    assert response.status_code == 200
    assert response.headers["cf-aig-step"] == step
    assert (await log_of(client, response))["success"] is True


BAD: dict[str, tuple[str, str, Any, int, int]] = {
    "no list": ("POST", "", {}, 400, 5006),
    "an empty list": ("POST", "", [], 400, 5006),
    "too long a list": ("POST", "", [call(MODEL, SHORT)] * 21, 400, 5006),
    "another provider alone": ("POST", "", [call("x", {}, "openai")], 400, 5006),
    "an unknown model": ("POST", "", [call("@cf/no/such", {})], 400, 5007),
    "nothing of it can be answered": ("POST", "", [call(MODEL, None), call(MODEL, {"prompt": 1})], 400, 5006),
    "an unknown model by its address": ("POST", "/workers-ai/@cf/no/such", {}, 400, 5007),
    "a model of another provider": (
        "POST",
        "/compat/chat/completions",
        asking() | {"model": "openai/gpt-5"},
        400,
        5007,
    ),
    "another provider's address": ("POST", "/openai/chat/completions", {}, 404, 7003),
    "a wrong method": ("GET", "/workers-ai/v1/embeddings", None, 405, 7001),
}


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), BAD.values(), ids=BAD)
async def test_an_error_is_told_in_the_gateways_form(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, code: int
) -> None:
    assert error_of(await client.request(method, GATEWAY + path, json=body)) == (status, code)


OPENAIS = {
    "models": ("POST", "/v1/models/x", 405),
    "an unknown word": ("POST", "/v1/audio/transcriptions", 404),
    "a slash too many": ("POST", "/v1/chat/completions/", 404),
    "a name that is no account's": ("POST", "/v1/a.b/c", 404),
}


@pytest.mark.parametrize(("method", "path", "status"), OPENAIS.values(), ids=OPENAIS)
async def test_openais_own_paths_stay_openais(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    response = await client.request(method, path, json={})
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"
