"""What is wrong with a request before anybody looks at what it asks: always JSON, always OpenAI's error object."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from proxy.app import create_app
from tests.support.cloudflare import hello
from tests.support.raw_http import Head, chat_request, connected, request
from tests.support.relay import KEY, MODEL, Rig, asking, calling, relaying, settings_for
from tests.support.servers import serving
from tests.support.streams import CHAT

pytestmark = pytest.mark.anyio

MAX_BODY = 100_000
ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module")
async def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with relaying(tmp_path_factory.mktemp("state"), max_body=str(MAX_BODY)) as rig:
        yield rig


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    shared_rig.cloudflare.reset()
    shared_rig.cloudflare.script(MODEL, hello)
    return shared_rig


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(rig.url) as client:
        yield client


async def asked(rig: Rig, data: bytes) -> tuple[Head, bytes]:
    async with connected(rig.relay.port) as connection:
        await connection.send(data)
        return await connection.answer()


def error_of(body: bytes) -> tuple[str, str | None]:
    error = json.loads(body)["error"]
    assert sorted(error) == ["code", "message", "param", "type"] and error["message"]
    return error["type"], error["code"]


ROUTER = {
    "an unknown path": ("GET", "/v1/nothing", 404, "unknown_url"),
    "the root": ("GET", "/", 404, "unknown_url"),
    "a slash too many": ("POST", "/v1/chat/completions/", 404, "unknown_url"),
    "a slash too many after a list": ("GET", "/healthz/", 404, "unknown_url"),
    "two slashes": ("POST", "//v1/chat/completions", 404, "unknown_url"),
    "another case": ("POST", "/V1/chat/completions", 404, "unknown_url"),
    "dots": ("GET", "/v1/../healthz", 404, "unknown_url"),
    "a line end in a model": ("GET", "/v1/models/a%0d%0ab", 404, "unknown_url"),
    "the wrong method": ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
    "a method that changes": ("DELETE", "/v1/models", 405, "method_not_allowed"),
    "a method that nobody knows": ("PROPFIND", "/v1/chat/completions", 405, "method_not_allowed"),
    "half an escape": ("GET", "/v1/models/%4", 400, "invalid_url"),
    "an escape of nothing": ("GET", "/v1/models/%zz", 400, "invalid_url"),
    "a bare per cent": ("GET", "/healthz%", 400, "invalid_url"),
}


@pytest.mark.parametrize(("method", "target", "status", "code"), ROUTER.values(), ids=ROUTER)
async def test_the_routers_own_errors_are_json(rig: Rig, method: str, target: str, status: int, code: str) -> None:
    head, body = await asked(rig, request(method, target))
    assert head.status == status and head.headers["content-type"] == "application/json"
    assert error_of(body) == ("invalid_request_error", code)
    assert head.headers["x-request-id"]
    if status == 405:
        assert head.headers["allow"] in ("post", "get, head", "head, get")
    assert "location" not in head.headers


async def test_an_odd_path_is_repeated_in_moderation(rig: Rig) -> None:
    head, body = await asked(rig, request("GET", "/v1/" + "x" * 5000 + "%22%0d%0ax:%20y"))
    assert head.status == 404 and len(body) < 500


UNREADABLE = {
    "an escape that is no UTF-8": "/v1/models/%ff%fe",
    "a null": "/v1/models/%00",
    "braces": "/v1/models/%7Bmethod%7D",
}


@pytest.mark.parametrize("target", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_model_that_cannot_be_is_not_found(rig: Rig, target: str) -> None:
    head, body = await asked(rig, request("GET", target))
    assert (head.status, error_of(body)[1]) == (404, "model_not_found")


async def test_braces_in_an_unknown_path_are_only_text(rig: Rig) -> None:
    head, body = await asked(rig, request("GET", "/v1/%7Bpath.__class__%7D/%7B0%7D"))
    assert head.status == 404 and "{path.__class__}" in json.loads(body)["error"]["message"]


# ---------------------------------------------------------------- tokens

TOKENS: dict[str, tuple[dict[str, str], int]] = {
    "none": ({}, 401),
    "another": ({"authorization": "Bearer sk-other-0123456789abcdef"}, 401),
    "an empty one": ({"authorization": "Bearer"}, 401),
    "another scheme": ({"authorization": f"Basic {KEY}"}, 401),
    "a part of it": ({"authorization": f"Bearer {KEY[:-1]}"}, 401),
    "odd bytes": ({"authorization": "Bearer \xff\xfe"}, 401),
    "the bearer": ({"authorization": f"Bearer {KEY}"}, 200),
    "the bearer in other letters": ({"authorization": f"bearer {KEY}"}, 200),
    "the key header": ({"x-api-key": KEY}, 200),
    "one wrong and one right": ({"authorization": "Bearer sk-other", "x-api-key": KEY}, 200),
}


@pytest.mark.parametrize(("headers", "status"), TOKENS.values(), ids=TOKENS)
async def test_every_route_wants_a_token(rig: Rig, headers: dict[str, str], status: int) -> None:
    async with httpx.AsyncClient(base_url=rig.url, trust_env=False) as client:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        for method, path in [("POST", CHAT), ("GET", "/v1/models"), ("GET", f"/v1/models/{MODEL}")]:
            response = await client.request(method, path, headers=raw, json=asking() if method == "POST" else None)
            assert response.status_code == status, (method, path)
            if status == 401:
                assert error_of(response.content) == ("invalid_request_error", "invalid_api_key")
                assert response.headers["www-authenticate"] == "Bearer" and response.headers["x-request-id"]
        assert (await client.get("/v1/nothing", headers=raw)).status_code == (404 if status == 200 else 401)
    assert len(rig.cloudflare.runs) == (1 if status == 200 else 0)


WITHOUT_TOKEN: dict[str, tuple[str, str, dict[str, str], int]] = {
    "a header that means nothing": ("GET", "/v1/models", {"x_relay_strict": "maybe"}, 401),
    "another one": ("POST", CHAT, {"x_relay_stream": "sometimes"}, 401),
    "a bad escape": ("GET", "/v1/models/%zz", {}, 401),
    "a route that needs none": ("GET", "/healthz", {"x_relay_strict": "maybe"}, 400),
    "a plain options": ("OPTIONS", CHAT, {"x_relay_strict": "maybe"}, 400),
}


@pytest.mark.parametrize(("method", "target", "headers", "status"), WITHOUT_TOKEN.values(), ids=WITHOUT_TOKEN)
async def test_who_has_no_token_is_told_so_before_anything_else(
    rig: Rig, method: str, target: str, headers: dict[str, str], status: int
) -> None:
    head, body = await asked(rig, request(method, target, b"", token=None, **headers))
    assert head.status == status
    assert (error_of(body)[1] == "invalid_api_key") is (status == 401)


async def test_a_refused_request_leaves_its_connection_usable(rig: Rig) -> None:
    big = b" " * (2 * 2**20)  # more than is read before the answer
    async with connected(rig.relay.port) as connection:
        for data, status in [
            (request("POST", CHAT, big, token="sk-wrong-0123456789abcdef"), 401),
            (request("POST", "/v1/nothing", big), 404),
            (chat_request(asking()), 200),
        ]:
            await connection.send(data)
            head, _ = await connection.answer()
            assert head.status == status


# ---------------------------------------------------------------- bodies


async def test_a_body_past_the_limit_is_413(rig: Rig, client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 8192

    fits = json.dumps(asking()).encode().ljust(MAX_BODY)
    assert (await client.post(CHAT, content=fits)).status_code == 200
    for content in (fits + b" ", pieces()):
        response = await client.post(CHAT, content=content)
        assert response.status_code == 413
        assert error_of(response.content) == ("invalid_request_error", "request_too_large")
    assert len(rig.cloudflare.runs) == 1


async def test_a_body_of_too_many_values_is_413_before_it_is_whole(rig: Rig, client: httpx.AsyncClient) -> None:
    body = b'{"model":"x","messages":[' + b"{}," * (MAX_BODY // 3 - 10)
    assert len(body) < MAX_BODY
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxy.answers._FEW", 2**15)
        patch.setattr("adapters.wire.json_cost.MOST_VALUES", 30_000)
        response = await client.post(CHAT, content=body)
    assert response.status_code == 413
    assert error_of(response.content) == ("invalid_request_error", "request_too_large")
    assert "30000 strings, keys, objects" in response.text


@pytest.mark.parametrize(("coding", "status"), [("gzip", 415), ("br", 415), ("identity", 200), ("", 200)])
async def test_a_compressed_body_is_415(rig: Rig, client: httpx.AsyncClient, coding: str, status: int) -> None:
    response = await client.post(CHAT, json=asking(), headers={"content-encoding": coding})
    assert response.status_code == status
    if status == 415:
        assert error_of(response.content) == ("invalid_request_error", "unsupported_media_type")


BROKEN = {
    "nothing": b"",
    "half a document": b'{"model": "x", "messages": [',
    "a list": b"[]",
    "text": b"hello",
    "no UTF-8": b'{"model": "\xff\xfe", "messages": []}',
    "nested too deeply": b'{"messages": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "a constant of another language": b'{"model": "x", "temperature": NaN, "messages": []}',
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_a_body_that_cannot_be_read_is_400(rig: Rig, client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert error_of(response.content)[0] == "invalid_request_error"
    assert rig.cloudflare.runs == []


async def test_the_content_type_of_a_body_does_not_matter(client: httpx.AsyncClient) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"):
        response = await client.post(CHAT, json=asking(), headers={"content-type": media_type})
        assert response.status_code == 200


# ---------------------------------------------------------------- HEAD, OPTIONS, browsers


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{MODEL}", "/healthz", "/readyz"])
async def test_head_is_get_without_a_body(rig: Rig, path: str) -> None:
    async with connected(rig.relay.port) as connection:
        await connection.send(request("GET", path))
        whole, body = await connection.answer()
        await connection.send(request("HEAD", path))
        head = await connection.head()
        await connection.send(request("GET", "/healthz"))
        _, next_body = await connection.answer()  # nothing of a body stood in between
    assert (head.status, head.headers["content-length"]) == (whole.status, str(len(body)))
    assert next_body == b'{"status":"ok"}'


async def test_a_plain_options_says_what_is_allowed_without_a_token(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=rig.url, trust_env=False) as client:
        response = await client.options(CHAT)
        assert (response.status_code, response.headers["allow"], response.content) == (204, "POST", b"")
        assert (await client.options("/v1/nothing")).status_code == 404


WANTED = "authorization,content-type,x-stainless-os,x-stainless-retry-count,openai-organization,x-relay-stream"


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/nothing", "/healthz"])
async def test_a_preflight_needs_no_token_and_allows_what_it_asks_for(rig: Rig, path: str) -> None:
    async with httpx.AsyncClient(base_url=rig.url, trust_env=False) as client:
        response = await client.options(
            path,
            headers={
                "origin": ORIGIN,
                "access-control-request-method": "POST",
                "access-control-request-headers": WANTED,
            },
        )
    assert response.status_code == 200
    allowed = response.headers["access-control-allow-headers"].lower()
    assert {name.strip() for name in allowed.split(",")} >= set(WANTED.split(","))
    assert response.headers["access-control-allow-origin"] == "*"
    assert {"GET", "POST", "DELETE", "OPTIONS"} <= set(response.headers["access-control-allow-methods"].split(", "))
    assert int(response.headers["access-control-max-age"]) > 600
    assert "access-control-allow-credentials" not in response.headers
    assert response.headers["x-request-id"]


ANSWERS: dict[str, tuple[str, str, int]] = {
    "an answer": ("POST", CHAT, 200),
    "a list": ("GET", "/v1/models", 200),
    "an unknown path": ("GET", "/v1/nothing", 404),
    "a wrong method": ("GET", CHAT, 405),
    "a bad escape": ("GET", "/v1/models/%zz", 400),
    "no token": ("GET", "/v1/models?", 401),
    "a stream": ("POST", CHAT + "?stream", 200),
}


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS.values(), ids=ANSWERS)
async def test_every_answer_can_be_read_by_a_page(rig: Rig, method: str, path: str, status: int) -> None:
    token = None if status == 401 else KEY
    body = json.dumps(asking(stream=path.endswith("stream"))).encode() if method == "POST" else b""
    async with connected(rig.relay.port) as connection:
        await connection.send(request(method, path, body, token=token, origin=ORIGIN))
        head = await connection.head()
    assert head.status == status
    assert head.headers["access-control-allow-origin"] == "*"
    exposed = {name.strip() for name in head.headers["access-control-expose-headers"].split(",")}
    assert {"x-request-id", "retry-after", "x-relay-upstream", "x-relay-changes", "server-timing"} <= exposed


async def test_only_the_named_origins_where_they_are_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with relaying(tmp_path_factory.mktemp("state"), cors_origins=ORIGIN) as rig, calling(rig.url) as client:
        response = await client.get("/v1/models", headers={"origin": ORIGIN})
        assert response.headers["access-control-allow-origin"] == ORIGIN
        response = await client.get("/v1/models", headers={"origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in response.headers
        response = await client.options(CHAT, headers={"origin": ORIGIN, "access-control-request-method": "POST"})
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, ORIGIN)


# What a preflight asks for beside an origin, and the word that says what is not allowed.
NOT_ALLOWED: dict[str, tuple[dict[str, str], str]] = {
    "an origin": ({"origin": "https://evil.example.com", "access-control-request-method": "POST"}, "origin"),
    "a method": ({"origin": ORIGIN, "access-control-request-method": "PATCH"}, "method"),
    "a header of ours besides": (
        {"origin": ORIGIN, "access-control-request-method": "PATCH", "x-relay-strict": "maybe"},
        "method",
    ),
    "a private network": (
        {
            "origin": ORIGIN,
            "access-control-request-method": "POST",
            "access-control-request-private-network": "true",
        },
        "private-network",
    ),
}


@pytest.mark.parametrize(("preflight", "what"), NOT_ALLOWED.values(), ids=NOT_ALLOWED)
@pytest.mark.parametrize("path", [CHAT, "/v1/nothing", "/healthz"])
async def test_a_preflight_that_is_not_allowed_is_refused_as_everything_else_is(
    tmp_path: Path, path: str, preflight: dict[str, str], what: str
) -> None:
    settings = settings_for(tmp_path, cors_origins=ORIGIN)
    app = create_app(settings, settings.tokens)
    async with serving(app) as relay, httpx.AsyncClient(base_url=relay.url, trust_env=False) as client:
        response = await client.options(path, headers=preflight)
    assert (response.status_code, response.headers["content-type"]) == (400, "application/json")
    assert error_of(response.content) == ("invalid_request_error", "cors_not_allowed")
    assert what in response.json()["error"]["message"]
    allowed = ORIGIN if preflight["origin"] == ORIGIN else None
    assert response.headers.get("access-control-allow-origin") == allowed
    assert "Origin" in response.headers["vary"] and response.headers["x-request-id"]
