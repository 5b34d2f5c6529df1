"""The headers that people rely on: who asked, who answered, what was changed, how long it took."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.app import create_app
from proxy.handover import Retries
from tests.support.cloudflare import ACCOUNT, BASE_PATH, TOKEN, Asked, failure, hello
from tests.support.raw_http import chat_request, connected, request
from tests.support.relay import KEY, MODEL, OPENAI_MODEL, Rig, asking, calling, relaying, settings_for
from tests.support.servers import serving
from tests.support.streams import CHAT, chunks

pytestmark = pytest.mark.anyio

TIMING = re.compile(r"relay;dur=(\d+\.\d), upstream;dur=(\d+\.\d)")


@pytest.fixture(scope="module")
async def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with relaying(tmp_path_factory.mktemp("state")) as rig:
        yield rig


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    shared_rig.cloudflare.reset()
    for model in (MODEL, OPENAI_MODEL):
        shared_rig.cloudflare.script(model, hello)
    return shared_rig


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(rig.url) as client:
        yield client


def last(rig: Rig) -> Asked:
    return rig.cloudflare.runs[-1]


# ---------------------------------------------------------------- request ids

IDS = {
    "a sane one": ("x-request-id", "my-request_1.2", True),
    "by its other name": ("request-id", "my-request-2", True),
    "the longest": ("x-request-id", "a" * 128, True),
    "too long": ("x-request-id", "a" * 129, False),
    "too short": ("x-request-id", "abcdefg", False),
    "with a space": ("x-request-id", "my request id", False),
    "with markup": ("x-request-id", "<script>alert</script>", False),
    "empty": ("x-request-id", "", False),
}


@pytest.mark.parametrize(("name", "value", "kept"), IDS.values(), ids=IDS)
async def test_a_sane_request_id_is_taken_over_and_any_other_replaced(
    client: httpx.AsyncClient, name: str, value: str, kept: bool
) -> None:
    response = await client.get("/v1/models", headers={name: value})
    told = response.headers["x-request-id"]
    assert response.headers["request-id"] == told
    assert (told == value) is kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{8,128}", told)


async def test_made_ids_differ(client: httpx.AsyncClient) -> None:
    told = {(await client.get("/healthz")).headers["x-request-id"] for _ in range(20)}
    assert len(told) == 20 and all(id.startswith("req_") for id in told)


# Status, and the upstream that was asked, or that `/healthz` tells of.
EVERYWHERE: dict[str, tuple[str, str, dict[str, str], int, str | None]] = {
    "an answer": ("POST", CHAT, {}, 200, "cloudflare"),
    "a list": ("GET", "/v1/models", {}, 200, None),
    "health": ("GET", "/healthz", {}, 200, "cloudflare"),
    "readiness": ("GET", "/readyz", {}, 200, None),
    "an unknown path": ("GET", "/v1/nothing", {}, 404, None),
    "a wrong method": ("GET", CHAT, {}, 405, None),
    "a bad escape": ("GET", "/v1/models/%zz", {}, 400, None),
    "an options": ("OPTIONS", CHAT, {}, 204, None),
    "a preflight": (
        "OPTIONS",
        CHAT,
        {"origin": "https://a.example", "access_control_request_method": "POST"},
        200,
        None,
    ),
    "a head": ("HEAD", "/v1/models", {}, 200, None),
    "a bad header": ("GET", "/v1/models", {"x_relay_strict": "maybe"}, 400, None),
}


@pytest.mark.parametrize(("method", "target", "headers", "status", "upstream"), EVERYWHERE.values(), ids=EVERYWHERE)
async def test_every_answer_tells_how_long_it_took_and_who_was_asked_if_anybody(
    rig: Rig, method: str, target: str, headers: dict[str, str], status: int, upstream: str | None
) -> None:
    body = b'{"model": "%b", "messages": [{"role": "user", "content": "Hi"}]}' % MODEL.encode()
    async with connected(rig.relay.port) as connection:
        await connection.send(request(method, target, body if method == "POST" else b"", **headers))
        head = await connection.head()
    assert head.status == status
    assert head.headers["x-request-id"] == head.headers["request-id"]
    assert head.headers.get("x-relay-upstream") == upstream
    assert TIMING.fullmatch(head.headers["server-timing"])


async def test_every_error_of_an_upstream_tells_it_too(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, failure(403, 5035))
    for streamed in (False, True):
        response = await client.post(CHAT, json=asking(stream=streamed), headers={"x-request-id": "request-9"})
        assert response.status_code == 403 and response.headers["x-request-id"] == "request-9"
        assert response.headers["x-relay-upstream"] == "cloudflare"
        assert TIMING.fullmatch(response.headers["server-timing"])


async def test_a_model_that_nobody_knows_is_no_upstreams_answer(rig: Rig, client: httpx.AsyncClient) -> None:
    for streamed in (False, True):
        response = await client.post(CHAT, json=asking(model="no-such-model", stream=streamed))
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
        assert "x-relay-upstream" not in response.headers
    assert rig.cloudflare.runs == []


async def test_the_times_are_those_that_passed(tmp_path: Path) -> None:
    async with relaying(tmp_path, policy=Retries(1, 0.1)) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, failure(500, 1), hello)
        started = time.monotonic()
        response = await client.post(CHAT, json=asking())
        passed = (time.monotonic() - started) * 1000
        match = TIMING.fullmatch(response.headers["server-timing"])
        assert match is not None
        own, upstream = map(float, match.groups())
        assert own > 40, "the pause before another try is ours"
        assert 0 < upstream and own + upstream < passed + 1


async def test_the_simulator_says_that_it_is_one(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with serving(create_app(settings, settings.tokens)) as relay, calling(relay.url) as client:
        for response in (await client.get("/healthz"), await client.post(CHAT, json=asking())):
            assert response.status_code == 200 and response.headers["x-relay-upstream"] == "simulator"


async def test_with_credentials_the_simulator_answers_for_itself_alone(rig: Rig, client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json=asking(model="relay/simulator"))
    assert response.headers["x-relay-upstream"] == "simulator" and rig.cloudflare.runs == []
    assert (await client.post(CHAT, json=asking())).headers["x-relay-upstream"] == "cloudflare"


# ---------------------------------------------------------------- what was changed

CHANGES: dict[str, tuple[str, dict[str, Any], str]] = {
    "nothing": (MODEL, {"temperature": 1, "max_tokens": 5}, ""),
    "out of a range": (MODEL, {"presence_penalty": -1}, "presence_penalty=clamped"),
    "dropped": (MODEL, {"logit_bias": {"1": 2}}, "logit_bias=dropped"),
    "emulated": (MODEL, {"stop": ["x"]}, "stop=emulated"),
    "unknown": (MODEL, {"frobnicate": 1, "user": "u"}, "frobnicate=ignored"),
    "several": (
        MODEL,
        {"seed": -5, "stop": "x", "frequency_penalty": -2, "zzz": 1},
        "zzz=ignored, stop=emulated, seed=clamped, frequency_penalty=clamped",
    ),
    "known and without effect": (
        MODEL,
        {"user": "u", "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "prompt_cache_key": "k"},
        "",
    ),
    "nulls": (MODEL, {"stop": None, "logit_bias": None, "frobnicate": None}, ""),
    "inside a field": (
        MODEL,
        {"reasoning": {"max_tokens": 5}, "options": {"tags": ["a"]}},
        "reasoning.max_tokens=dropped, options.tags=ignored",
    ),
    "what the other form takes as it is": (OPENAI_MODEL, {"presence_penalty": -1, "stop": ["x"], "seed": -5}, ""),
}


@pytest.mark.parametrize(("model", "fields", "listed"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_changes_are_listed(
    client: httpx.AsyncClient, model: str, fields: dict[str, Any], listed: str, streamed: bool
) -> None:
    response = await client.post(CHAT, json=asking(model=model, stream=streamed, **fields))
    assert response.status_code == 200
    told = response.headers.get("x-relay-changes")
    assert sorted((told or "").split(", ")) == sorted(listed.split(", "))
    assert (told is None) is (listed == "")


async def test_names_of_unknown_fields_cannot_break_the_header(client: httpx.AsyncClient) -> None:
    odd: dict[str, Any] = {"a\r\nset-cookie: x=1": 1, "ä€😀": 2, **{f"field-{i}": i for i in range(500)}}
    response = await client.post(CHAT, json=asking(**odd))
    assert response.status_code == 200 and "set-cookie" not in response.headers
    assert len(response.headers["x-relay-changes"]) <= 1000


# ---------------------------------------------------------------- strict mode


@pytest.mark.parametrize("setting", [False, True])
@pytest.mark.parametrize("header", [None, "true", "false", "1", "0", "TRUE"])
async def test_strict_mode_is_the_settings_unless_the_header_says_otherwise(
    tmp_path: Path, setting: bool, header: str | None
) -> None:
    strict = setting if header is None else header.lower() in ("true", "1")
    headers = {} if header is None else {"x-relay-strict": header}
    async with relaying(tmp_path, strict=setting) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, hello)
        response = await client.post(CHAT, json=asking(presence_penalty=-1), headers=headers)
        assert response.status_code == (400 if strict else 200)
        assert len(rig.cloudflare.runs) == (0 if strict else 1)


STRICT: dict[str, tuple[dict[str, Any], dict[str, str], str, str]] = {
    "a clamped value": ({"presence_penalty": -1}, {}, "presence_penalty", "invalid_value"),
    "a dropped field": ({"logit_bias": {"1": 2}}, {}, "logit_bias", "unsupported_parameter"),
    "an emulated one": ({"stop": "x"}, {}, "stop", "unsupported_parameter"),
    "a dropped field inside another": (
        {"reasoning": {"enabled": False}},
        {},
        "reasoning.enabled",
        "unsupported_parameter",
    ),
    "names of speakers": (
        {"messages": [{"role": "user", "content": "Hi", "name": "Ann"}]},
        {},
        "messages[].name",
        "unsupported_parameter",
    ),
    "an impossible stream": (
        {"stream": True, "response_format": {"type": "json_object"}},
        {"x-relay-stream": "native"},
        "stream",
        "unsupported_parameter",
    ),
}


@pytest.mark.parametrize(("fields", "headers", "param", "code"), STRICT.values(), ids=STRICT)
async def test_strict_mode_refuses_every_listed_change(
    rig: Rig, client: httpx.AsyncClient, fields: dict[str, Any], headers: dict[str, str], param: str, code: str
) -> None:
    response = await client.post(CHAT, json=asking(**fields), headers={"x-relay-strict": "true", **headers})
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"], error["code"]) == (
        *(400, "invalid_request_error", param, code),
    )
    assert rig.cloudflare.runs == []


async def test_strict_mode_ignores_what_it_does_not_know(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json=asking(frobnicate=1, user="u"), headers={"x-relay-strict": "true"})
    assert response.status_code == 200 and response.headers["x-relay-changes"] == "frobnicate=ignored"


# ---------------------------------------------------------------- the stream's mode


@pytest.mark.parametrize(
    ("setting", "header", "asked"),
    [
        ("auto", None, True),
        ("synthetic", None, False),
        ("synthetic", "native", True),
        ("synthetic", "AUTO", True),
        ("native", "synthetic", False),
    ],
)
async def test_the_mode_of_streams_is_the_settings_unless_the_header_says_otherwise(
    tmp_path: Path, setting: str, header: str | None, asked: bool
) -> None:
    headers = {} if header is None else {"x-relay-stream": header}
    async with relaying(tmp_path, stream=setting) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, hello)
        response = await client.post(CHAT, json=asking(stream=True), headers=headers)
        assert len(chunks(response.content)) == (4 if asked else 3)
        assert last(rig).json["stream"] is asked


async def test_a_models_own_mode_is_a_setting_by_any_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('[models."llama-3.2-1b-instruct"]\nstream = "synthetic"\n')
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, hello)
        await client.post(CHAT, json=asking(stream=True))
        assert last(rig).json["stream"] is False


@pytest.mark.parametrize(("name", "value"), [("x-relay-stream", "sometimes"), ("x-relay-strict", "maybe")])
async def test_a_header_that_means_nothing_is_refused_by_name(
    rig: Rig, client: httpx.AsyncClient, name: str, value: str
) -> None:
    response = await client.post(CHAT, json=asking(), headers={name: value})
    assert (response.status_code, response.json()["error"]["param"]) == (400, name)
    assert rig.cloudflare.runs == []


# ---------------------------------------------------------------- loops


async def test_a_relay_that_is_its_own_upstream_ends_the_loop(tmp_path: Path) -> None:
    """The upstream's address leads back to the relay, by a way that the settings cannot see."""
    relay_address: list[str] = []

    async def mirror(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": message["type"] + ".complete"})
            return
        if "/ai/run/" not in scope["path"]:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body"})
            return
        sent = {name.decode(): value.decode() for name, value in scope["headers"]}
        forwarded = {"x-relay-hop": sent.get("x-relay-hop", ""), "authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(relay_address[0] + CHAT, json=asking(), headers=forwarded)
        seen.append(response)
        await send({"type": "http.response.start", "status": response.status_code, "headers": []})
        await send({"type": "http.response.body", "body": response.content})

    seen: list[httpx.Response] = []
    async with serving(mirror) as upstream:
        settings = settings_for(tmp_path, upstream.url)
        app = create_app(settings, settings.tokens, retries=Retries(0, 0.0))
        async with serving(app) as relay, calling(relay.url) as client:
            relay_address.append(relay.url)
            response = await client.post(CHAT, json=asking())
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in seen] == [(508, "loop_detected")]
    assert (response.status_code, response.json()["error"]["code"]) == (508, "loop_detected")


async def test_another_relays_mark_is_no_loop(rig: Rig, client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json=asking(), headers={"x-relay-hop": "0123456789abcdef"})
    assert response.status_code == 200
    mark = last(rig).headers["x-relay-hop"]
    assert mark != "0123456789abcdef"
    response = await client.post(CHAT, json=asking(), headers={"x-relay-hop": mark})
    assert (response.status_code, response.json()["error"]["code"]) == (508, "loop_detected")


# ---------------------------------------------------------------- the client's own limits and wishes


@pytest.mark.parametrize("name", ["x-stainless-read-timeout", "x-stainless-timeout"])
async def test_the_patience_of_a_clients_sdk_is_a_deadline(tmp_path: Path, name: str) -> None:
    async def never(asked: Asked, send: Any) -> None:
        await asked.gone.wait()

    async with relaying(tmp_path, keepalive_form="off") as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, never)
        for streamed in (False, True):
            response = await client.post(CHAT, json=asking(stream=streamed), headers={name: "0.1"})
            assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("value", ["", "soon", "-1", "0", "nan", "inf", "1e9"])
async def test_a_patience_that_means_nothing_is_no_deadline(client: httpx.AsyncClient, value: str) -> None:
    response = await client.post(CHAT, json=asking(), headers={"x-stainless-read-timeout": value})
    assert response.status_code == 200


async def test_an_affinity_is_passed_on_or_derived_and_never_an_address(rig: Rig, client: httpx.AsyncClient) -> None:
    await client.post(CHAT, json=asking(user="ann@example.com"), headers={"x-session-affinity": "conversation-7"})
    assert last(rig).headers["x-session-affinity"] == "conversation-7"
    await client.post(CHAT, json=asking(user="ann@example.com"))
    derived = last(rig).headers["x-session-affinity"]
    assert re.fullmatch(r"[0-9a-f]{32}", derived)
    await client.post(CHAT, json=asking(user="ann@example.com", prompt_cache_key="k"))
    assert last(rig).headers["x-session-affinity"] != derived
    await client.post(CHAT, json=asking(user="ann@example.com"), headers={"x-session-affinity": "no good"})
    assert last(rig).headers["x-session-affinity"] == derived
    await client.post(CHAT, json=asking())
    assert "x-session-affinity" not in last(rig).headers
    assert all(b"ann@example.com" not in asked.body for asked in rig.cloudflare.runs)


async def test_nothing_of_a_callers_headers_reaches_cloudflare(rig: Rig) -> None:
    headers = {"cookie": "session=1", "x_api_key": "sk-other", "user_agent": "me/1", "x_forwarded_for": "10.0.0.1"}
    async with connected(rig.relay.port) as connection:
        await connection.send(chat_request(asking(), cf_aig_authorization="Bearer stolen", **headers))
        assert (await connection.head()).status == 200
    sent = last(rig)
    assert sent.raw_path == f"{BASE_PATH}/accounts/{ACCOUNT}/ai/run/{MODEL}"
    assert sent.headers["authorization"] == f"Bearer {TOKEN}"
    assert sent.headers["user-agent"].startswith("workers-ai-relay/")
    assert set(sent.headers) == {
        *("host", "authorization", "content-type", "content-length", "accept-encoding", "user-agent", "x-relay-hop"),
    }


async def test_a_gateway_from_the_settings_is_called_through(tmp_path: Path) -> None:
    async with (
        relaying(tmp_path, ai_gateway="my-gateway", ai_gateway_token="gw-token") as rig,
        calling(rig.url) as client,
    ):
        rig.cloudflare.script(MODEL, hello)
        await client.post(CHAT, json=asking())
        assert last(rig).headers["cf-aig-gateway-id"] == "my-gateway"
        assert last(rig).headers["cf-aig-authorization"] == "Bearer gw-token"


async def test_calls_one_after_the_other_share_one_upstream_connection(rig: Rig, client: httpx.AsyncClient) -> None:
    for streamed in (False, True, True, False):
        assert (await client.post(CHAT, json=asking(stream=streamed))).status_code == 200
    assert len({asked.client for asked in rig.cloudflare.runs}) == 1, "a stream left its connection unusable"


async def test_a_flood_of_unknown_fields_hides_no_change(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, hello)
    unknown = {f"{i:03}{'x' * 61}": 1 for i in range(60)}
    response = await client.post(CHAT, json=asking(top_p=0, seed=0, logprobs=True) | unknown)
    changes = response.headers["x-relay-changes"].split(", ")
    assert {"top_p=clamped", "seed=clamped", "logprobs=dropped", "40-more=ignored"} < set(changes)


async def test_the_name_of_a_field_cannot_forge_a_change(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, hello)
    response = await client.post(CHAT, json=asking() | {"a=1, temperature=clamped": 1})
    assert response.headers["x-relay-changes"] == "a%3D1%2C%20temperature%3Dclamped=ignored"
