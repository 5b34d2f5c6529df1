"""Every inner request of `env.AI`, through both entrances, over real sockets; the simulator answers."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.emulator import AI, ORIGIN, OTHER_KEY, REMOTE, SHORT, Entrance, emulating, run_headers
from tests.support.relay import AUTH, KEY, MODEL

pytestmark = pytest.mark.anyio

ENTRANCES = ("S2", "S3")
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt "


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with emulating(tmp_path_factory.mktemp("state")) as client:
        yield client


@pytest.fixture(params=ENTRANCES)
def entrance(request: pytest.FixtureRequest, client: httpx.AsyncClient) -> Entrance:
    return Entrance(request.param, client)


def error_of(response: httpx.Response) -> tuple[int, int]:
    """Status and code of an error, which has both of the forms that the binding reads."""
    body = response.json()
    assert response.headers["content-type"] == "application/json"
    assert set(body) == {"internalCode", "name", "description", "message", "errors", "success", "result"}
    assert body["name"] == "InferenceUpstreamError" and body["success"] is False
    assert body["errors"] == [{"code": body["internalCode"], "message": body["description"]}]
    assert body["message"] == body["description"] != ""
    return response.status_code, body["internalCode"]


# ---------------------------------------------------------------- run


async def test_a_result_comes_bare_and_as_exactly_json(entrance: Entrance) -> None:
    response = await entrance.run(SHORT)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cf-ai-req-id"] and "cf-aig-log-id" not in response.headers
    assert set(response.json()) == {"response", "tool_calls", "usage"}


@pytest.mark.parametrize("value", ["1e400", "[-1e400]"])
async def test_an_input_in_the_query_that_is_no_value_is_named(entrance: Entrance, value: str) -> None:
    inputs = quote(f'{{"language": {value}}}')
    response = await entrance.send("POST", f"/run?userInputs={inputs}", WAV, run_headers("@cf/openai/whisper"))
    assert error_of(response) == (400, 5006)
    assert "'userInputs.language'" in response.json()["message"]


async def test_a_stream_comes_as_one(entrance: Entrance) -> None:
    response = await entrance.run(SHORT | {"stream": True})
    assert response.headers["content-type"] == "text/event-stream"
    assert response.content.startswith(b'data: {"response"') and response.content.endswith(b"data: [DONE]\n\n")


async def test_bytes_come_as_they_are(entrance: Entrance) -> None:
    inputs = {"prompt": "a", "width": 256, "height": 256}
    response = await entrance.run(inputs, model="@cf/bytedance/stable-diffusion-xl-lightning")
    assert response.headers["content-type"] == "image/png"
    assert response.content.startswith(b"\x89PNG")


OPTIONS: dict[str, dict[str, Any]] = {
    "tags and raw responses": {"tags": ["a"], "returnRawResponse": True},
    "not to wait": {"rejectIfBusy": True},
    "a plain input to be queued": {"queueRequest": True},
    "a socket, as older runtimes ask": {"websocket": True},
    "a gateway that is none": {"gateway": "x"},
    "what nobody knows": {"anything": {"deep": [1]}},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_options_do_not_disturb_a_run(entrance: Entrance, options: dict[str, Any]) -> None:
    assert "response" in (await entrance.run(SHORT, options)).json()


async def test_a_prefix_before_the_model_is_let_go(entrance: Entrance) -> None:
    assert "response" in (await entrance.run(SHORT, model=f"dev:{MODEL}")).json()


async def test_a_stream_of_bytes_is_the_input_that_the_others_stand_beside(entrance: Entrance) -> None:
    inputs = quote(json.dumps({"language": "en"}))
    path = f"/run?version=3&userInputs={inputs}&gateway=[object%20Object]&tags=a"
    response = await entrance.send("POST", path, WAV, run_headers("@cf/deepgram/nova-3", "audio/wav"))
    assert "results" in response.json()


async def test_a_form_may_be_the_inputs(entrance: Entrance) -> None:
    body = b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\na\r\n--x--\r\n'
    headers = run_headers("@cf/black-forest-labs/flux-2-klein-4b", "multipart/form-data; boundary=x")
    response = await entrance.send("POST", "/run?version=3&userInputs=%7B%7D", body, headers)
    assert response.json()["image"]


BAD: dict[str, tuple[bytes, dict[str, str], int, int, str]] = {
    "an unknown model": (b'{"inputs":{}}', run_headers("@cf/no/such"), 400, 5007, "No such model @cf/no/such or task"),
    "a retired model": (b'{"inputs":{}}', run_headers("@cf/facebook/bart-large-cnn"), 410, 5028, "deprecated"),
    "a wrong type": (b'{"inputs":{"prompt":1}}', run_headers(), 400, 5006, "'prompt'"),
    "no inputs": (b"{}", run_headers(), 400, 5006, "'inputs'"),
    "inputs that are no object": (b'{"inputs":[],"options":{"rejectIfBusy":true}}', run_headers(), 400, 5006, "object"),
    "options that are no object": (b'{"inputs":{},"options":1}', run_headers(), 400, 5006, "'options'"),
    "no JSON": (b"{", run_headers(), 400, 5006, "JSON"),
    "no model": (b"{}", {"content-type": "application/json"}, 400, 5006, "cf-consn-model-id"),
    "JSON where a form is meant": (
        b'{"inputs":{"prompt":"a"}}',
        run_headers("@cf/black-forest-labs/flux-2-dev"),
        400,
        5006,
        "Error: required properties at '/' are 'multipart'",
    ),
    "an unknown gateway input": (b"{}", run_headers("deepgram/flux"), 400, 5006, "inputs"),
}


@pytest.mark.parametrize(("body", "headers", "status", "code", "words"), BAD.values(), ids=BAD)
async def test_a_bad_run_is_told_in_both_forms(
    entrance: Entrance, body: bytes, headers: dict[str, str], status: int, code: int, words: str
) -> None:
    response = await entrance.send("POST", "/run?version=3", body, headers)
    assert error_of(response) == (status, code)
    assert response.headers["cf-ai-req-id"]
    assert words in response.json()["description"]


@pytest.mark.parametrize("inputs", ["%7B", "[]", "1"])
async def test_inputs_in_the_query_have_to_be_an_object(entrance: Entrance, inputs: str) -> None:
    response = await entrance.send("POST", f"/run?userInputs={inputs}", WAV, run_headers("@cf/openai/whisper"))
    assert error_of(response) == (400, 5006)


SOCKETS = {"a run": "/run?version=3&body=%7B%7D", "a run by a gateway": "/ai-gateway/run?version=3&body=%7B%7D"}


@pytest.mark.parametrize("path", SOCKETS.values(), ids=SOCKETS)
async def test_a_socket_to_a_model_is_not_implemented(entrance: Entrance, path: str) -> None:
    assert error_of(await entrance.send("GET", path, headers=run_headers())) == (501, 7001)


async def test_a_batch_is_queued_and_fetched(entrance: Entrance) -> None:
    queued = await entrance.run({"requests": [SHORT]}, {"queueRequest": True})
    assert queued.status_code == 202 and queued.json()["status"] == "queued"
    id = queued.json()["request_id"]
    while "responses" not in (polled := (await entrance.run({"request_id": id})).json()):
        assert polled["status"] in ("queued", "running")
    [row] = polled["responses"]
    assert (row["id"], row["success"], row["external_reference"]) == (0, True, None)
    assert polled["usage"]["completion_tokens"] == 2


# ---------------------------------------------------------------- gateways


async def test_a_run_by_a_gateway_leaves_a_log(entrance: Entrance) -> None:
    gateway = {"id": "g", "metadata": {"who": "me"}, "requestTimeoutMs": 9000}
    response = await entrance.run(SHORT, {"gateway": gateway}, path="/ai-gateway/run")
    assert set(response.json()) == {"response", "tool_calls", "usage"}
    path = f"/ai-gateway/gateways/g/logs/{response.headers['cf-aig-log-id']}"
    answer = (await entrance.send("GET", path)).json()
    assert answer["success"] is True
    log = answer["result"]
    assert (log["provider"], log["model"], log["status_code"], log["success"]) == ("workers-ai", MODEL, 200, True)
    assert (log["tokens_out"], log["metadata"], log["cached"]) == (2, {"who": "me"}, False)
    assert log["response_size"] == len(response.content)
    assert log["created_at"].endswith("Z")
    assert SHORT["prompt"] not in json.dumps(log)


async def test_a_streams_log_has_its_usage(entrance: Entrance) -> None:
    response = await entrance.run(SHORT | {"stream": True}, {"gateway": {"id": "g"}}, path="/ai-gateway/run")
    path = f"/ai-gateway/gateways/g/logs/{response.headers['cf-aig-log-id']}"
    log = (await entrance.send("GET", path)).json()["result"]
    assert (log["tokens_out"], log["response_content_type"]) == (2, "text/event-stream")
    assert log["response_size"] == len(response.content)


async def test_a_log_can_be_marked(entrance: Entrance) -> None:
    response = await entrance.run(SHORT, {"gateway": {"id": "g"}})
    path = f"/ai-gateway/gateways/g/logs/{response.headers['cf-aig-log-id']}"
    body = json.dumps({"feedback": 1, "score": 0.5, "metadata": {"a": None}}).encode()
    assert (await entrance.send("PATCH", path, body)).status_code == 200
    assert (await entrance.send("PATCH", path, b'{"score":null}')).status_code == 200
    log = (await entrance.send("GET", path)).json()["result"]
    assert (log["feedback"], log["score"], log["metadata"]) == (1, None, {"a": None})


PATCHES = {
    "feedback of two": b'{"feedback":2}',
    "a list": b"[]",
    "too much": b'{"metadata":{"a":"%b"}}' % (b"x" * 5000),
}


@pytest.mark.parametrize("body", PATCHES.values(), ids=PATCHES)
async def test_a_bad_mark_is_refused(entrance: Entrance, body: bytes) -> None:
    response = await entrance.run(SHORT, {"gateway": {"id": "g"}})
    path = f"/ai-gateway/gateways/g/logs/{response.headers['cf-aig-log-id']}"
    assert error_of(await entrance.send("PATCH", path, body)) == (400, 5006)


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_log_that_is_not_there_is_not_found(entrance: Entrance, method: str) -> None:
    response = await entrance.send(method, "/ai-gateway/gateways/g/logs/x", b"{}")
    assert error_of(response) == (404, 7003)
    assert response.json()["message"] == "Log Not Found"


async def test_nobody_sees_the_log_of_another(client: httpx.AsyncClient) -> None:
    response = await Entrance("S2", client).run(SHORT, {"gateway": {"id": "g"}})
    path = f"{ORIGIN}/ai-gateway/gateways/g/logs/{response.headers['cf-aig-log-id']}"
    for key, status in ((KEY, 200), (OTHER_KEY, 404)):
        headers = {"authorization": f"Bearer {key}", "X-Forwarded": path}
        assert (await client.get(f"{AI}/run/proxy", headers=headers)).status_code == status
    elsewhere = path.replace("/g/", "/h/")
    response = await client.get(f"{AI}/run/proxy", headers={**AUTH, "X-Forwarded": elsewhere})
    assert response.status_code == 404


URLS = {"workers-ai": "/v1/local/my%20g/workers-ai", "universal": "/v1/local/my%20g/"}


@pytest.mark.parametrize(("provider", "end"), URLS.items(), ids=URLS)
async def test_a_gateways_address_is_the_relays_own(
    entrance: Entrance, client: httpx.AsyncClient, provider: str, end: str
) -> None:
    response = await entrance.send("GET", f"/ai-gateway/gateways/my%20g/url/{provider}")
    assert response.json()["result"] == {"url": f"{str(client.base_url).rstrip('/')}{end}"}


async def test_a_list_of_calls_is_tried_in_order(entrance: Entrance) -> None:
    calls = [
        {"provider": "openai", "endpoint": "chat/completions", "headers": {}, "query": {}},
        {"provider": "workers-ai", "endpoint": MODEL, "headers": {"authorization": "Bearer x"}, "query": SHORT},
    ]
    response = await entrance.send("POST", "/ai-gateway/universal/run/g", json.dumps(calls).encode())
    assert (response.headers["cf-aig-step"], response.json()["success"]) == ("1", True)
    assert response.json()["result"]["response"] and response.headers["cf-aig-log-id"]


async def test_a_list_of_calls_has_a_timeout(entrance: Entrance) -> None:
    query = {"prompt": "Tell me everything about it.", "max_tokens": 4000}
    calls = [{"provider": "workers-ai", "endpoint": MODEL, "query": query}]
    headers = {"cf-aig-request-timeout": "1"}
    response = await entrance.send("POST", "/ai-gateway/universal/run/g", json.dumps(calls).encode(), headers)
    assert error_of(response) == (408, 3046)


# ---------------------------------------------------------------- all else


async def test_models_come_in_the_envelope(entrance: Entrance) -> None:
    response = await entrance.send("GET", "/ai-api/models/search?search=llama-3.2-1b&per_page=5")
    assert response.headers["content-type"] == "application/json"
    assert [row["name"] for row in response.json()["result"]] == [MODEL]


async def test_documents_become_markdown(entrance: Entrance) -> None:
    files = [{"name": "a.html", "mimeType": "text/html", "data": base64.b64encode(b"<h1>A</h1>").decode()}]
    body = json.dumps({"files": files, "options": {}}).encode()
    headers = {"content-type": "application/json"}
    response = await entrance.send("POST", "/to-everything/markdown/transformer", body, headers)
    assert [row["data"].strip() for row in response.json()["result"]] == ["# A"]
    response = await entrance.send("GET", "/to-everything/markdown/supported", b"", headers)
    assert {"extension": ".html", "mimeType": "text/html"} in response.json()["result"]


async def test_an_image_becomes_a_description(entrance: Entrance) -> None:
    png = await entrance.run({"prompt": "a", "width": 256, "height": 256}, model="@cf/lykon/dreamshaper-8-lcm")
    files = [{"name": "a.png", "mimeType": "image/png", "data": base64.b64encode(png.content).decode()}]
    body = json.dumps({"files": files}).encode()
    response = await entrance.send("POST", "/to-everything/markdown/transformer", body)
    [row] = response.json()["result"]
    assert row["format"] == "markdown" and row["data"]


NOWHERE: dict[str, tuple[str, str, int, int]] = {
    "search": ("POST", "/autorag/rags/x/ai-search", 404, 7003),
    "a list of searches": ("GET", "/autorag/rags", 404, 7003),
    "an unknown path": ("GET", "/nothing", 404, 7003),
    "no path": ("GET", "", 404, 7003),
    "a wrong method": ("DELETE", "/run", 405, 7001),
}


@pytest.mark.parametrize(("method", "path", "status", "code"), NOWHERE.values(), ids=NOWHERE)
async def test_what_is_not_there_is_refused_clearly(
    entrance: Entrance, method: str, path: str, status: int, code: int
) -> None:
    assert error_of(await entrance.send(method, path)) == (status, code)


# ---------------------------------------------------------------- the entrances themselves


ADDRESSES = {
    "another host": ("https://example.com/run", "its host is 'example.com'"),
    "no host": ("https:///run", "it has no host"),
    "no scheme": ("/run", "it has no scheme"),
    "no TLS": ("http://workers-binding.ai/run", "its scheme is 'http'"),
    "no address": ("https://[/run", "it is no address"),
    "nothing": ("", "it has no scheme"),
}


@pytest.mark.parametrize(("address", "words"), ADDRESSES.values(), ids=ADDRESSES)
async def test_an_inner_address_elsewhere_is_never_asked(client: httpx.AsyncClient, address: str, words: str) -> None:
    for path, header in ((f"{AI}/run/proxy", "X-Forwarded"), (REMOTE, "MF-URL")):
        response = await client.post(path, headers={header: address})
        assert error_of(response) == (400, 5006)
        wanted = f"Invalid header '{header}': expected an address at {ORIGIN}, but {words}."
        assert wanted in response.json()["message"]


async def test_a_path_that_the_binding_has_not_is_told_with_its_header(entrance: Entrance) -> None:
    header = "X-Forwarded" if entrance.name == "S2" else "MF-URL"
    response = await entrance.send("POST", "/no/such?x=1", b"{}", run_headers())
    assert error_of(response) == (404, 7003)
    assert response.json()["message"] == f"The binding has no path '/no/such', which the header '{header}' names."
    response = await entrance.send("DELETE", "/run", b"{}", run_headers())
    assert error_of(response) == (405, 7001)
    assert response.json()["message"] == f"DELETE not supported for the path '/run' of the header '{header}'."


async def test_an_entrance_needs_its_address(client: httpx.AsyncClient) -> None:
    assert error_of(await client.post(f"{AI}/run/proxy")) == (400, 5006)
    assert error_of(await client.post(REMOTE)) == (400, 5006)
    assert (await client.post("/client/v4/accounts/a%20b/ai/run/proxy")).status_code == 404


async def test_the_channel_that_miniflare_opens_first_is_refused_at_once(client: httpx.AsyncClient) -> None:
    upgrade = {"upgrade": "websocket", "connection": "upgrade"}
    response = await client.get(f"{REMOTE}?MF-Binding=AI", headers=upgrade)
    assert error_of(response) == (501, 7001)
    assert response.headers["mf-forwarded-response"] == "true"
    assert error_of(await client.post(REMOTE, headers={"MF-Connect-Address": "a:1"})) == (501, 7001)


async def test_miniflare_hears_that_the_answer_was_forwarded(client: httpx.AsyncClient) -> None:
    remote, proxy = Entrance("S3", client), Entrance("S2", client)
    assert (await remote.run(SHORT)).headers["mf-forwarded-response"] == "true"
    assert (await remote.run({})).headers["mf-forwarded-response"] == "true"
    assert "mf-forwarded-response" not in (await proxy.run(SHORT)).headers


@pytest.mark.parametrize("end", ["", "/", "/?x=y"])
async def test_a_key_in_the_path_is_let_in(client: httpx.AsyncClient, end: str) -> None:
    headers = {"MF-URL": f"{ORIGIN}/ai-api/models/search", "authorization": ""}
    assert (await client.get(REMOTE + end, headers=headers)).status_code == 200


async def test_a_wrong_key_in_the_path_is_not(client: httpx.AsyncClient) -> None:
    response = await client.get("/remote-bindings/nope", headers={"MF-URL": f"{ORIGIN}/run"})
    assert error_of(response) == (401, 10000)
