"""The emulator in front of (a scripted) Cloudflare: native calls pass, the binding's are turned into the API's."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.types import Message

from proxy.answers import ClientLeft
from proxy.drain import Drain
from proxy.eventstream import KeepAlive
from proxy.serving import Serving
from tests.support.cloudflare import HELLO, HELLO_STREAM, TOKEN, Step, answer, failure, frames, result, stream
from tests.support.emulator import AI, Entrance, code_of, run_headers
from tests.support.raw_http import connected, dechunked, request
from tests.support.relay import KEY, MODEL, Rig, asking, calling, relaying
from wrangler_compat.binding_upstream import Passing

pytestmark = pytest.mark.anyio

GATEWAY = "/v1/local/my-gateway"
OTHER = "@cf/meta/llama-3.1-8b-instruct-fp8"


@pytest.fixture(scope="module")
async def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with relaying(tmp_path_factory.mktemp("state")) as rig:
        yield rig


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    shared_rig.cloudflare.reset()
    return shared_rig


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(rig.url) as client:
        yield client


@pytest.fixture(params=["S2", "S3"])
def entrance(request: pytest.FixtureRequest, client: httpx.AsyncClient) -> Entrance:
    return Entrance(request.param, client)


# ---------------------------------------------------------------- the API


async def test_body_query_and_answer_pass_unchanged(rig: Rig, client: httpx.AsyncClient) -> None:
    told = b'{ "result": {"response": 1.50}, "success":true, "new": [] }'
    rig.cloudflare.script(MODEL, answer(200, told, headers={"cf-ai-req-id": "theirs", "cf-ai-neurons": "7.00"}))
    sent = b'{"prompt":"a",   "unknown": {}}'
    response = await client.post(f"{AI}/run/{MODEL}?queueRequest=true&x=%20y", content=sent)
    assert response.content == told
    assert (response.headers["cf-ai-req-id"], response.headers["cf-ai-neurons"]) == ("theirs", "7.00")
    [asked] = rig.cloudflare.runs
    assert (asked.body, asked.query) == (sent, "queueRequest=true&x=%20y")
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.raw_path.endswith(f"/ai/run/{MODEL}")


async def test_a_model_that_nobody_here_knows_is_asked_for_too(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script("@cf/new/model", HELLO)
    assert (await client.post(f"{AI}/run/@cf/new/model", json={})).json()["success"] is True


async def test_cloudflares_refusal_passes_unchanged(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, failure(429, 3040))
    response = await client.post(f"{AI}/run/{MODEL}", json={})
    assert code_of(response) == (429, 3040)
    assert response.json()["errors"][0]["message"].endswith("(8700d6e7)")
    assert len(rig.cloudflare.runs) == 1


async def test_a_stream_passes_piece_by_piece(rig: Rig, client: httpx.AsyncClient) -> None:
    rest = asyncio.Event()
    rig.cloudflare.script(MODEL, stream(frames({"response": "a"}), Step(frames({"response": "b"}, "[DONE]"), rest)))
    async with client.stream("POST", f"{AI}/run/{MODEL}", json={"stream": True}) as response:
        pieces = response.aiter_raw()
        assert await anext(pieces) == frames({"response": "a"})
        rest.set()
        assert b"".join([piece async for piece in pieces]) == frames({"response": "b"}, "[DONE]")


async def test_a_stream_that_breaks_off_breaks_off_here_too(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, stream(frames({"response": "a"}), cut=True))
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post(f"{AI}/run/{MODEL}", json={"stream": True})


async def test_a_stream_in_openais_form_ends_with_an_error_of_the_api(rig: Rig) -> None:
    rig.cloudflare.script(MODEL, stream(frames({"response": "a"}), cut=True))
    body = json.dumps(asking(stream=True)).encode()
    async with connected(rig.relay.port) as connection:
        await connection.send(request("POST", f"{AI}/v1/chat/completions", body, token=KEY))
        head = await connection.head()
        sent, whole = dechunked(await connection.to_end())
    assert (head.status, whole) == (200, False)
    last = [line for line in sent.split(b"\n") if line.startswith(b"data: ")][-1]
    told = json.loads(last.removeprefix(b"data: "))
    assert (told["success"], told["errors"][0]["code"]) == (False, 3043)
    assert b"[DONE]" not in sent


OURS: dict[str, tuple[Any, int, int]] = {
    "our token": (failure(401, 10000), 500, 3043),
    "our address": (failure(404, 7003), 500, 3043),
    "their capacity": (failure(429, 3040), 429, 3040),
    "the day's allocation": (failure(400, 5021, "too many tokens"), 400, 5021),
}


@pytest.mark.parametrize(("script", "status", "code"), OURS.values(), ids=OURS)
async def test_openais_form_tells_what_its_caller_can_help(
    rig: Rig, client: httpx.AsyncClient, script: Any, status: int, code: int
) -> None:
    rig.cloudflare.script(MODEL, script)
    assert code_of(await client.post(f"{AI}/v1/chat/completions", json=asking())) == (status, code)


async def test_a_callers_key_stays_here(rig: Rig) -> None:
    rig.cloudflare.script(MODEL, HELLO)
    key = {"cf-aig-authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=rig.url, headers=key, trust_env=False) as client:
        assert (await client.post(f"{AI}/run/{MODEL}", json={})).status_code == 200
    assert all(KEY not in value for value in rig.cloudflare.runs[0].headers.values())


async def test_a_client_that_leaves_a_pass_through_is_no_bug() -> None:
    """It is told apart from an upstream that breaks off, which the log would call a bug of ours."""
    begun = asyncio.Event()

    async def receive() -> Message:
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            begun.set()
            await asyncio.Event().wait()  # whoever left takes no more

    async def piece() -> AsyncIterator[bytes]:
        yield b"x"

    @asynccontextmanager
    async def upstream() -> AsyncIterator[Passing]:
        yield Passing(200, (), piece())

    serving = Serving(drain=Drain(), keep_alive=KeepAlive(), max_body=0)
    with pytest.raises(ClientLeft):
        await serving.forward(receive, send, upstream())


# ---------------------------------------------------------------- the binding


async def test_a_key_in_the_inner_request_stays_here(rig: Rig, entrance: Entrance) -> None:
    rig.cloudflare.script(MODEL, HELLO)
    headers = run_headers() | {"cf-aig-authorization": f"Bearer {KEY}"}
    await entrance.send("POST", "/run", b'{"inputs":{}}', headers)
    assert all(KEY not in value for value in rig.cloudflare.runs[0].headers.values())


async def test_a_refusal_repeats_no_token(rig: Rig, entrance: Entrance) -> None:
    told = {"success": False, "errors": [{"code": 10000, "message": f"bad token {TOKEN}"}]}
    rig.cloudflare.script(MODEL, answer(200, told))
    response = await entrance.run({})
    assert TOKEN not in response.text and "bad token ***" in response.json()["message"]


async def test_a_run_is_sent_to_the_api_and_its_result_comes_bare(rig: Rig, entrance: Entrance) -> None:
    rig.cloudflare.script(MODEL, HELLO)
    response = await entrance.run({"prompt": "a"}, {"tags": ["x"]})
    assert response.headers["content-type"] == "application/json"
    assert response.json()["response"] == "Hello there"
    [asked] = rig.cloudflare.runs
    assert (asked.body, asked.query) == (b'{"prompt": "a"}', "")
    assert asked.headers["content-type"] == "application/json"


async def test_options_go_where_the_api_takes_them(rig: Rig, entrance: Entrance) -> None:
    rig.cloudflare.script(MODEL, HELLO)
    gateway = {
        "id": "mine",
        "skipCache": True,
        "cacheTtl": 60,
        "metadata": {"a": 1},
        "cacheKey": "x\n",
        "retries": {"maxAttempts": 2},
    }
    await entrance.run({"prompt": "a"}, {"rejectIfBusy": True, "queueRequest": True, "gateway": gateway})
    [asked] = rig.cloudflare.runs
    assert asked.json == {"prompt": "a", "options": {"rejectIfBusy": True}}
    assert asked.query == "queueRequest=true"
    sent = {name: value for name, value in asked.headers.items() if name.startswith("cf-aig-")}
    assert sent == {
        "cf-aig-gateway-id": "mine",
        "cf-aig-skip-cache": "true",
        "cf-aig-cache-ttl": "60",
        "cf-aig-metadata": '{"a":1}',
        "cf-aig-max-attempts": "2",
    }


async def test_a_batch_is_asked_for_with_the_apis_flag(rig: Rig, entrance: Entrance) -> None:
    rig.cloudflare.script(MODEL, result({"status": "running"}))
    await entrance.run({"request_id": "x"})
    await entrance.run({"request_id": "x", "prompt": "a"})
    await entrance.run(["request_id"])
    assert [asked.query for asked in rig.cloudflare.runs] == ["queueRequest=true", "", ""]


async def test_a_body_of_bytes_goes_up_with_the_others_in_the_query(rig: Rig, entrance: Entrance) -> None:
    rig.cloudflare.script("@cf/deepgram/nova-3", result({"text": "a"}))
    path = "/run?version=3&userInputs=%7B%22language%22%3A%22e%20n%22%2C%22n%22%3A1%7D&queueRequest=true"
    await entrance.send("POST", path, b"RIFF", run_headers("@cf/deepgram/nova-3", "audio/wav"))
    [asked] = rig.cloudflare.runs
    assert (asked.body, asked.headers["content-type"]) == (b"RIFF", "audio/wav")
    assert asked.query == "language=e%20n&n=1&queueRequest=true"


async def test_streams_and_bytes_pass_as_they_are(rig: Rig, entrance: Entrance) -> None:
    rig.cloudflare.script(MODEL, HELLO_STREAM)
    response = await entrance.run({"stream": True})
    assert response.headers["content-type"] == "text/event-stream" and response.content.endswith(b"[DONE]\n\n")
    rig.cloudflare.script(MODEL, answer(200, b"\x89PNG", media_type="image/png"))
    response = await entrance.run({})
    assert (response.headers["content-type"], response.content) == ("image/png", b"\x89PNG")


REFUSALS: dict[str, tuple[Any, int, int]] = {
    "with a code": (failure(400, 5006), 400, 5006),
    "without one": (answer(403, {"errors": []}), 403, 3043),
    "as a page": (answer(502, b"<html>", media_type="text/html"), 502, 3043),
    "inside a success": (answer(200, {"success": False, "errors": [{"code": 3040, "message": "x"}]}), 500, 3040),
    "a success of no JSON": (answer(200, b"{"), 500, 3043),
    "a success that is a list": (answer(200, b"[]"), 500, 3043),
}


@pytest.mark.parametrize(("script", "status", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_cloudflares_refusal_has_both_forms(
    rig: Rig, entrance: Entrance, script: Any, status: int, code: int
) -> None:
    rig.cloudflare.script(MODEL, script)
    response = await entrance.run({})
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert (response.status_code, body["internalCode"]) == (status, code)
    assert body["errors"] == [{"code": code, "message": body["description"]}]


async def test_models_come_from_cloudflare(rig: Rig, entrance: Entrance) -> None:
    rig.cloudflare.rows = [{"name": "@cf/new/one"}]
    assert (await entrance.send("GET", "/ai-api/models/search?page=1")).json()["result"] == rig.cloudflare.rows
    rig.cloudflare.rows = []


async def test_documents_go_to_cloudflare_as_a_form(rig: Rig, entrance: Entrance) -> None:
    rig.cloudflare.script("tomarkdown", result([{"name": "a"}]))
    rig.cloudflare.script("tomarkdown/supported", result([]))
    files = [{"name": 'a"\r\n.html', "mimeType": "text/html", "data": base64.b64encode(b"<p>").decode()}]
    wanted = {"conversionOptions": {"output": {"format": "text"}}, "extraHeaders": {}}
    body = json.dumps({"files": files, "options": wanted}).encode()
    path = "/to-everything/markdown/transformer"
    response = await entrance.send("POST", path, body, {"content-type": "application/json"})
    assert response.json()["result"] == [{"name": "a"}]
    asked = rig.cloudflare.requests[-1]
    assert asked.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="files"; filename="a%22%0D%0A.html"\r\ncontent-type: text/html\r\n\r\n<p>\r\n' in asked.body
    assert b'name="conversionOptions"\r\n\r\n{"output": {"format": "text"}}\r\n' in asked.body
    assert (await entrance.send("GET", "/to-everything/markdown/supported")).json()["result"] == []


DOCUMENT_GATEWAYS: dict[str, tuple[Any, dict[str, str]]] = {
    "its name": ({"id": "g"}, {"cf-aig-gateway-id": "g"}),
    "all that it can say": (
        {"id": "g", "skipCache": True, "cacheTtl": 60, "metadata": {"a": 1}, "retries": {"maxAttempts": 2}},
        {
            "cf-aig-gateway-id": "g",
            "cf-aig-skip-cache": "true",
            "cf-aig-cache-ttl": "60",
            "cf-aig-metadata": '{"a":1}',
            "cf-aig-max-attempts": "2",
        },
    ),
    "one without a name": ({"skipCache": True}, {}),
    "no gateway": (None, {}),
    "nonsense": ("g", {}),
    "a name that no header can hold": ({"id": "a\r\nb: c"}, {}),
}


@pytest.mark.parametrize(("gateway", "headers"), DOCUMENT_GATEWAYS.values(), ids=DOCUMENT_GATEWAYS)
async def test_documents_go_through_the_gateway_that_is_named(
    rig: Rig, entrance: Entrance, gateway: Any, headers: dict[str, str]
) -> None:
    rig.cloudflare.script("tomarkdown", result([]))
    body = json.dumps({"files": [], "options": {"gateway": gateway}}).encode()
    path = "/to-everything/markdown/transformer"
    assert (await entrance.send("POST", path, body, {"content-type": "application/json"})).status_code == 200
    asked = rig.cloudflare.requests[-1]
    assert {name: value for name, value in asked.headers.items() if name.startswith("cf-aig-")} == headers
    assert asked.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b"gateway" not in asked.body


async def test_a_document_that_is_none_is_refused_here(rig: Rig, entrance: Entrance) -> None:
    body = b'{"files":[{"name":"a","data":"%"}]}'
    response = await entrance.send("POST", "/to-everything/markdown/transformer", body)
    assert (response.status_code, response.json()["internalCode"]) == (400, 5006)
    assert "files[0].data" in response.json()["message"]


# ---------------------------------------------------------------- gateways


async def test_a_list_goes_on_past_what_cloudflare_refuses(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, failure(429, 3040))
    rig.cloudflare.script(OTHER, HELLO)
    calls = [{"provider": "workers-ai", "endpoint": model, "query": {}} for model in (MODEL, OTHER)]
    response = await client.post(GATEWAY, json=calls)
    assert response.json()["result"]["response"] == "Hello there"
    assert response.headers["cf-aig-step"] == "1"
    assert "cf-aig-log-id" not in response.headers


async def test_the_last_refusal_of_a_list_is_the_answer(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, failure(429, 3040))
    rig.cloudflare.script(OTHER, failure(400, 5006))
    calls = [{"provider": "workers-ai", "endpoint": model, "query": {}} for model in (MODEL, OTHER)]
    response = await client.post(GATEWAY, json=calls)
    assert code_of(response) == (400, 5006)


async def test_a_timeout_is_kept_while_cloudflare_thinks(rig: Rig, client: httpx.AsyncClient) -> None:
    never = asyncio.Event()

    async def hang(asked: Any, send: Any) -> None:
        await never.wait()

    rig.cloudflare.script(MODEL, hang)
    rig.cloudflare.script(OTHER, HELLO)
    headers = {"cf-aig-request-timeout": "20"}
    response = await client.post(f"{GATEWAY}/workers-ai/{MODEL}", json={}, headers=headers)
    assert response.status_code == 408 and response.json()["error"][0]["code"] == 3046
    calls: list[dict[str, Any]] = [
        {"provider": "workers-ai", "endpoint": MODEL, "query": {}, "headers": headers},
        {"provider": "workers-ai", "endpoint": OTHER, "query": {}},
    ]
    assert (await client.post(GATEWAY, json=calls)).headers["cf-aig-step"] == "1"
