"""No input to any surface of the emulator may yield a 500, or no answer at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.catalogue import load_snapshot
from tests.support.emulator import AI, ORIGIN, REMOTE, emulating
from tests.support.relay import AUTH, MODEL
from tests.support.servers import DEADLINE

MODELS = sorted(model.id for model in load_snapshot() if model.status == "listed")
NAMES: tuple[str, ...] = (
    "prompt",
    "messages",
    "text",
    "image",
    "audio",
    "input",
    "query",
    "contexts",
    "requests",
    "request_id",
    "stream",
    "task",
    "state",
    "questions",
    "tools",
    "max_tokens",
    "options",
    "prompt",
    "model",
    "inputs",
    "queueRequest",
)

text = st.text(max_size=20)
value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | text, inner, max_size=4),
    max_leaves=12,
)
fields = st.dictionaries(st.sampled_from(NAMES) | text, value, max_size=5)
TURNS = st.just([{"role": "user", "content": "hi"}])
likely = st.fixed_dictionaries(
    {"max_tokens": st.just(1) | value},
    optional={name: value | text for name in NAMES if name != "max_tokens"} | {"messages": TURNS | value},
)
body = st.one_of(
    likely.map(json.dumps).map(str.encode),
    fields.map(json.dumps).map(str.encode),
    value.map(json.dumps).map(str.encode),
    st.binary(max_size=60),
)
model = st.sampled_from(MODELS) | st.just(MODEL) | text
header = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
content_type = st.sampled_from(
    ["", "application/json", "application/json; charset=utf-8", "audio/wav", "image/png", "text/plain"]
    + ["multipart/form-data", "multipart/form-data; boundary=x", "application/octet-stream"]
)
path = (
    st.sampled_from(
        ["/run", "/ai-gateway/run", "/ai-api/models/search", "/to-everything/markdown/transformer", "/autorag/rags"]
        + ["/to-everything/markdown/supported", "/ai-gateway/gateways/g/url/x", "/ai-gateway/gateways/g/logs/x"]
        + ["/ai-gateway/universal/run/g", "/", "//", "/%ff/\u00e9"]
    )
    | text
)
method = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"])
query = st.dictionaries(st.sampled_from(NAMES + ("userInputs", "version", "page", "per_page")), text, max_size=3)


class Client:
    """The relay and a client of it, in a thread of their own, for hypothesis calls its examples one after another."""

    def __init__(self, portal: BlockingPortal, client: httpx.AsyncClient) -> None:
        self._portal = portal
        self._client = client

    def ask(self, method: str, url: str, body: bytes, headers: dict[str, str], params: dict[str, str]) -> None:
        """Ask, and see that the answer is one, and no bug."""

        async def exchange() -> httpx.Response:
            async with asyncio.timeout(3 * DEADLINE):
                raw = {name.encode(): value.encode() for name, value in headers.items()}
                return await self._client.request(method, url, content=body, headers=raw, params=params)

        response = self._portal.call(exchange)
        assert response.status_code < 500 or response.status_code == 501, response.text
        if response.status_code >= 400:
            assert response.headers["content-type"] == "application/json"
            assert response.json()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(emulating(tmp_path_factory.mktemp("state"))) as client,
    ):
        yield Client(portal, client)


def escaped(name: str) -> str:
    """As part of a path; a percent sign stays, and may begin no escape at all."""
    return quote(name, safe="/@%")


def printable(name: str) -> str:
    """What a header can carry of it."""
    return "".join(letter for letter in name if " " <= letter <= "~").strip()


fast = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@given(model, body, content_type, query)
@fast
def test_no_run_of_the_api_fails_the_relay(
    client: Client, model: str, body: bytes, content_type: str, query: dict[str, str]
) -> None:
    client.ask("POST", f"{AI}/run/{escaped(model)}", body, {"content-type": content_type}, query)


@given(st.sampled_from(["run", "v1/chat/completions", "v1/embeddings", "v1/responses", "v1/messages"]), model, likely)
@fast
def test_no_form_of_openais_fails_the_relay(client: Client, path: str, model: str, fields: dict[str, Any]) -> None:
    body = json.dumps({"input": "a", **fields, "model": model}).encode()
    client.ask("POST", f"{AI}/{path}", body, {}, {})


@given(st.booleans(), method, path, model, body, content_type, query)
@fast
def test_no_inner_request_fails_the_relay(
    client: Client,
    remote: bool,
    method: str,
    path: str,
    model: str,
    body: bytes,
    content_type: str,
    query: dict[str, str],
) -> None:
    address = f"{ORIGIN}/{escaped(path.lstrip('/'))}" + ("?" + str(httpx.QueryParams(query)) if query else "")
    inner = {"content-type": content_type, "cf-consn-model-id": printable(model)}
    if remote:
        headers = {"MF-URL": address} | {f"MF-Header-{name}": value for name, value in inner.items()}
        client.ask(method, REMOTE, body, headers, {})
    else:
        client.ask(method, f"{AI}/run/proxy", body, {"X-Forwarded": address} | inner, {})


run = st.fixed_dictionaries({"inputs": likely | value, "options": fields | value})


@given(st.booleans(), st.sampled_from(["/run", "/ai-gateway/run"]), model, run)
@fast
def test_no_run_of_the_binding_fails_the_relay(
    client: Client, remote: bool, path: str, model: str, run: dict[str, Any]
) -> None:
    name = printable(model)
    body = json.dumps(run).encode()
    if remote:
        headers = {"MF-URL": ORIGIN + path, "MF-Header-cf-consn-model-id": name}
        client.ask("POST", REMOTE, body, headers, {})
    else:
        headers = {"X-Forwarded": ORIGIN + path, "cf-consn-model-id": name, "content-type": "application/json"}
        client.ask("POST", f"{AI}/run/proxy", body, headers, {})


entry = st.fixed_dictionaries(
    {"provider": st.sampled_from(["workers-ai", "compat", "openai"]) | text},
    optional={
        "endpoint": st.sampled_from([f"run/{MODEL}", MODEL, "v1/chat/completions", "v1/embeddings"]) | text,
        "headers": st.dictionaries(st.sampled_from(["cf-aig-request-timeout", "x"]), value, max_size=2),
        "query": likely | value,
    },
)


@given(st.lists(entry, max_size=3) | value, header, header)
@fast
def test_no_list_of_calls_fails_the_relay(client: Client, calls: Any, wait: str, metadata: str) -> None:
    headers = {"cf-aig-request-timeout": wait.strip(), "cf-aig-metadata": metadata.strip(), **AUTH}
    client.ask("POST", "/v1/local/g", json.dumps(calls).encode(), headers, {})


@given(st.integers(1, 5000), st.sampled_from(["[", '{"a":']))
@settings(max_examples=30)
def test_no_nesting_fails_the_relay(client: Client, depth: int, opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    nested = opening * depth + "1" + closing * depth
    run = {"content-type": "application/json", "cf-consn-model-id": MODEL, "X-Forwarded": f"{ORIGIN}/run"}
    client.ask("POST", f"{AI}/run/{MODEL}", nested.encode(), {}, {})
    client.ask("POST", f"{AI}/run", f'{{"model":"{MODEL}","input":{nested}}}'.encode(), {}, {})
    client.ask("POST", f"{AI}/run/{MODEL}", f'{{"prompt":1,"x":{nested}}}'.encode(), {}, {"queueRequest": "true"})
    inner = f'{{"inputs":{nested},"options":{{"rejectIfBusy":true,"gateway":{nested}}}}}'
    client.ask("POST", f"{AI}/run/proxy", inner.encode(), run, {})
    calls = f'[{{"provider":"workers-ai","endpoint":"{MODEL}","query":{nested}}}]'
    client.ask("POST", "/v1/local/g", calls.encode(), {}, {})
