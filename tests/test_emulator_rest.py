"""The REST surface of inference, asked over real sockets; the simulator answers."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.emulator import AI, OTHER_KEY, SHORT, code_of, emulating
from tests.support.relay import MODEL, OPENAI_MODEL, asking

pytestmark = pytest.mark.anyio

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WAV = (
    bytes.fromhex("524946462c00000057415645 666d7420 10000000 0100 0100 401f0000 803e0000 0200 1000 64617461 08000000")
    + b"\x00\x01" * 4
)
BGE = "@cf/baai/bge-small-en-v1.5"
GPT_OSS = "@cf/openai/gpt-oss-20b"


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with emulating(tmp_path_factory.mktemp("state"), max_body=str(12 * 2**20)) as client:
        yield client


async def run(client: httpx.AsyncClient, model: str, inputs: Any) -> httpx.Response:
    return await client.post(f"{AI}/run/{model}", json=inputs)


RESULTS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "a prompt": (MODEL, SHORT, {"response", "tool_calls", "usage"}),
    "messages, nulls among them": (
        MODEL,
        {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "stop": None},
        {"response", "tool_calls", "usage"},
    ),
    "a chat in OpenAI's shape": (
        OPENAI_MODEL,
        {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
        {"id", "object", "created", "model", "choices", "usage", "system_fingerprint"},
    ),
    "a prompt in OpenAI's shape": (OPENAI_MODEL, SHORT, {"id", "object", "created", "model", "choices", "usage"}),
    "one text": (BGE, {"text": "a"}, {"shape", "data", "pooling"}),
    "queries": ("@cf/qwen/qwen3-embedding-0.6b", {"queries": ["a"]}, {"shape", "data"}),
    "documents": ("@cf/qwen/qwen3-embedding-0.6b", {"documents": "a"}, {"shape", "data"}),
    "texts for a model of many forms": ("@cf/baai/bge-m3", {"text": ["a", "b"]}, {"shape", "data"}),
    "contexts alone": ("@cf/baai/bge-m3", {"contexts": [{"text": "a"}]}, {"shape", "response"}),
    "a query and contexts": ("@cf/baai/bge-m3", {"query": "a", "contexts": [{"text": "a"}]}, {"response"}),
    "ranks": ("@cf/baai/bge-reranker-base", {"query": "a", "contexts": [{"text": "a"}]}, {"response"}),
    "a translation": ("@cf/meta/m2m100-1.2b", {"text": "a", "target_lang": "fr"}, {"translated_text"}),
    "an image as base64": ("@cf/black-forest-labs/flux-1-schnell", {"prompt": "a"}, {"image"}),
    "speech as base64": ("@cf/myshell-ai/melotts", {"prompt": "a"}, {"audio"}),
    "what an image shows, not streamed": (
        "@cf/moondream/moondream3.1-9B-A2B",
        {
            "task": "caption",
            "stream": False,
            "image": "data:image/png;base64," + base64.b64encode(PNG).decode(),
        },
        {"finish_reason", "metrics", "caption"},
    ),
}


@pytest.mark.parametrize(("model", "inputs", "keys"), RESULTS.values(), ids=RESULTS)
async def test_a_task_has_its_own_result_in_the_envelope(
    client: httpx.AsyncClient, model: str, inputs: dict[str, Any], keys: set[str]
) -> None:
    response = await run(client, model, inputs)
    body = response.json()
    assert response.status_code == 200, body
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cf-ai-req-id"] == response.headers["x-request-id"]
    assert response.headers["cf-ai-neurons"] == f"{float(response.headers['cf-ai-neurons']):.2f}"
    assert set(body) == {"result", "success", "errors", "messages"}
    assert (body["success"], body["errors"], body["messages"]) == (True, [], [])
    assert keys <= set(body["result"]) <= keys | {"pooling", "reasoning"}


async def test_labels_are_a_list(client: httpx.AsyncClient) -> None:
    response = await run(client, "@cf/huggingface/distilbert-sst-2-int8", {"text": "a great day"})
    assert {row["label"] for row in response.json()["result"]} == {"POSITIVE", "NEGATIVE"}


async def test_embeddings_have_the_models_dimension_and_the_pooling_asked_for(client: httpx.AsyncClient) -> None:
    result = (await run(client, BGE, {"text": ["a", "b"], "pooling": "cls"})).json()["result"]
    assert result["shape"] == [2, 384] == [len(result["data"]), len(result["data"][0])]
    assert result["pooling"] == "cls"


async def test_neurons_are_those_of_the_tokens(client: httpx.AsyncClient) -> None:
    response = await run(client, OPENAI_MODEL, {"prompt": "a " * 20_000, "max_tokens": 2})
    neurons = response.json()["result"]["usage"]["neurons"]
    assert neurons > 10
    assert response.headers["cf-ai-neurons"] == f"{neurons:.2f}"


BINARY: dict[str, tuple[str, dict[str, Any], str]] = {
    "a PNG": ("@cf/bytedance/stable-diffusion-xl-lightning", {"prompt": "a", "height": 256, "width": 256}, "image/png"),
    "a JPEG": ("@cf/leonardo/phoenix-1.0", {"prompt": "a", "height": 256, "width": 256}, "image/jpeg"),
}


@pytest.mark.parametrize(("model", "inputs", "media_type"), BINARY.values(), ids=BINARY)
async def test_an_image_comes_as_bytes_without_an_envelope(
    client: httpx.AsyncClient, model: str, inputs: dict[str, Any], media_type: str
) -> None:
    response = await run(client, model, inputs)
    assert response.headers["content-type"] == media_type
    assert "cf-ai-neurons" in response.headers
    assert response.content[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0")


async def test_speech_comes_as_bytes(client: httpx.AsyncClient) -> None:
    response = await run(client, "@cf/deepgram/aura-1", {"text": "a", "encoding": "linear16", "container": "wav"})
    assert response.headers["content-type"].startswith("audio/")
    assert response.content.startswith(b"RIFF")


RAW: dict[str, tuple[str, bytes, str, str]] = {
    "an image": ("@cf/microsoft/resnet-50", PNG, "application/octet-stream", "label"),
    "a sound": ("@cf/openai/whisper", WAV, "audio/wav", "text"),
    "a sound and options in the query": ("@cf/deepgram/nova-3?language=en&anything=x", WAV, "audio/wav", "results"),
}


@pytest.mark.parametrize(("model", "body", "content_type", "key"), RAW.values(), ids=RAW)
async def test_a_body_may_be_the_image_or_the_sound(
    client: httpx.AsyncClient, model: str, body: bytes, content_type: str, key: str
) -> None:
    response = await client.post(f"{AI}/run/{model}", content=body, headers={"content-type": content_type})
    result = response.json()["result"]
    assert key in (result[0] if isinstance(result, list) else result)


async def test_a_form_is_taken(client: httpx.AsyncClient) -> None:
    model = "@cf/black-forest-labs/flux-2-klein-4b"
    response = await client.post(f"{AI}/run/{model}", data={"prompt": "a", "width": "256"}, files={"x": b""})
    assert response.json()["result"]["image"]
    pictures = set()
    for picture in (PNG, PNG + b"x"):
        files = {"input_image_0": ("a.png", picture)}
        response = await client.post(f"{AI}/run/{model}", data={"prompt": "a", "width": "64"}, files=files)
        assert "x-relay-changes" not in response.headers
        pictures.add(response.json()["result"]["image"])
    assert len(pictures) == 2


@pytest.mark.parametrize("path", ["run/@cf/black-forest-labs/flux-2-dev", "run"])
async def test_a_model_that_takes_forms_alone_refuses_json(client: httpx.AsyncClient, path: str) -> None:
    body: dict[str, Any] = {"prompt": "a cat"}
    if path == "run":
        body = {"model": "@cf/black-forest-labs/flux-2-dev", "input": body}
    response = await client.post(f"{AI}/{path}", json=body)
    assert code_of(response) == (400, 5006)
    assert "Bad input: Error: required properties at '/' are 'multipart'" in response.json()["errors"][0]["message"]


async def test_a_chat_takes_a_form_and_an_image_too(client: httpx.AsyncClient) -> None:
    response = await client.post(f"{AI}/run/{MODEL}", data={"prompt": "hi"}, files={"x": ("", b"")})
    assert response.json()["result"]["response"]
    response = await client.post(
        f"{AI}/run/@cf/meta/llama-3.2-11b-vision-instruct?prompt=hi", content=PNG, headers={"content-type": "image/png"}
    )
    assert response.json()["result"]["response"]


SPELLINGS = {
    "as it is": MODEL,
    "escaped": MODEL.replace("/", "%2F"),
    "escaped all over": MODEL.replace("/", "%2F").replace("@", "%40"),
    "with run before it": f"run/{MODEL}",
    "by its short name": "llama-3.2-1b-instruct",
    "with query parameters that mean nothing": f"{MODEL}?safe_prompt=true&queueRequest=false",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
async def test_a_model_is_found_by_every_spelling(client: httpx.AsyncClient, spelling: str) -> None:
    assert (await run(client, spelling, SHORT)).json()["success"] is True


async def test_the_model_may_be_named_in_the_body(client: httpx.AsyncClient) -> None:
    response = await client.post(f"{AI}/run", json={"model": MODEL, "input": SHORT})
    assert response.json()["result"]["response"]


async def test_gpt_oss_answers_in_the_form_of_its_input(client: httpx.AsyncClient) -> None:
    responses = (await run(client, GPT_OSS, {"input": "hi", "max_output_tokens": 16})).json()["result"]
    assert responses["object"] == "response"
    chat = (await run(client, GPT_OSS, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2})).json()
    assert chat["result"]["object"] == "chat.completion"


async def test_gpt_oss_asked_by_input_answers_whole_though_a_stream_was_wanted(client: httpx.AsyncClient) -> None:
    response = await run(client, GPT_OSS, {"input": "hi", "stream": True, "max_output_tokens": 16})
    assert response.json()["result"]["object"] == "response"


SCHEMA = {"type": "json_schema", "json_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}


async def test_an_older_models_stream_follows_no_schema(client: httpx.AsyncClient) -> None:
    asked = {"prompt": "hi", "response_format": SCHEMA}
    response = await run(client, MODEL, asked | {"stream": True})
    assert code_of(response) == (400, 5023)
    assert "JSON Schema mode is not supported with stream mode" in response.json()["errors"][0]["message"]
    assert (await run(client, MODEL, asked)).json()["success"] is True
    wrapped = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA["json_schema"]}}
    for model, wanted in ((OPENAI_MODEL, wrapped), (MODEL, {"type": "json_object"})):
        response = await run(client, model, {"prompt": "hi", "response_format": wanted, "stream": True})
        assert response.content.endswith(b"data: [DONE]\n\n")


async def test_a_stream_of_chunks_tells_its_neurons_at_the_end(client: httpx.AsyncClient) -> None:
    asked = asking(model=OPENAI_MODEL, max_tokens=2, stream=True, stream_options={"include_usage": True})
    native = await run(client, OPENAI_MODEL, SHORT | {"stream": True})
    openai = await client.post(f"{AI}/v1/chat/completions", json=asked)
    for response in (native, openai):
        told = json.loads(response.content.split(b"\n\n")[-3].removeprefix(b"data: "))
        assert told["usage"]["neurons"] > 0


UNKNOWN_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("v1/chat/completions", asking(model="@cf/no/such")),
    "embeddings": ("v1/embeddings", {"model": "@cf/no/such", "input": "a"}),
    "responses": ("v1/responses", {"model": "@cf/no/such", "input": "a"}),
    "messages": ("v1/messages", {"model": "@cf/no/such"}),
    "a run": ("run/@cf/no/such", SHORT),
    "an adapter": ("finetunes", {"model": "@cf/no/such", "name": "a"}),
}


@pytest.mark.parametrize(("path", "body"), UNKNOWN_MODELS.values(), ids=UNKNOWN_MODELS)
async def test_a_model_that_there_is_not_is_told_in_cloudflares_words(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    response = await client.post(f"{AI}/{path}", json=body)
    assert code_of(response) == (400, 5007)
    assert response.json()["errors"][0]["message"].startswith("AiError: No such model @cf/no/such or task")


STREAMS = {"the older shape": (MODEL, b'data: {"response":'), "chunks": (OPENAI_MODEL, b'data: {"id":')}


@pytest.mark.parametrize(("model", "head"), STREAMS.values(), ids=STREAMS)
async def test_a_stream_has_the_models_shape_and_its_end(client: httpx.AsyncClient, model: str, head: bytes) -> None:
    response = await run(client, model, SHORT | {"stream": True})
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cf-ai-req-id"]
    assert response.content.startswith(head)
    tail, done = response.content.split(b"\n\n")[-3:-1]
    assert json.loads(tail.removeprefix(b"data: "))["usage"]["completion_tokens"] == 2
    assert done == b"data: [DONE]"


async def test_a_client_of_little_patience_gets_its_stream_too(client: httpx.AsyncClient) -> None:
    response = await client.post(
        f"{AI}/run/{MODEL}", json=SHORT | {"stream": True}, headers={"x-stainless-read-timeout": "4"}
    )
    assert response.content.endswith(b"data: [DONE]\n\n")


async def test_moondream_streams_unless_told_not_to(client: httpx.AsyncClient) -> None:
    response = await run(client, "@cf/moondream/moondream3.1-9B-A2B", {"question": "What is it?"})
    assert response.headers["content-type"] == "text/event-stream"
    frame, done, end = response.content.split(b"\n\n")
    assert json.loads(frame.removeprefix(b"data: "))["answer"]
    assert (done, end) == (b"data: [DONE]", b"")


OPENAI: dict[str, tuple[str, dict[str, Any], str]] = {
    "chat": ("chat/completions", asking(max_tokens=2), "chat.completion"),
    "embeddings": ("embeddings", {"model": BGE, "input": "a"}, "list"),
    "responses": ("responses", {"model": GPT_OSS, "input": "a", "max_output_tokens": 16}, "response"),
}


@pytest.mark.parametrize(("path", "body", "object_"), OPENAI.values(), ids=OPENAI)
async def test_openais_forms_come_bare(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], object_: str
) -> None:
    response = await client.post(f"{AI}/v1/{path}", json=body)
    assert response.json()["object"] == object_
    assert response.headers["cf-ai-req-id"]


async def test_openais_chat_streams_in_openais_form(client: httpx.AsyncClient) -> None:
    response = await client.post(f"{AI}/v1/chat/completions", json=asking(max_tokens=2, stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert b"chat.completion.chunk" in response.content and response.content.endswith(b"data: [DONE]\n\n")


BAD_RUNS: dict[str, tuple[str, bytes, int, int, str]] = {
    "no such model": ("@cf/no/such", b"{}", 400, 5007, "No such model @cf/no/such or task"),
    "no name of a model": ("x" * 300, b"{}", 400, 5007, "No such model " + "x" * 100 + "..."),
    "a model of another provider": ("openai/gpt-5", b"{}", 400, 5007, "No such model openai/gpt-5 or task"),
    "a retired model": ("@cf/facebook/bart-large-cnn", b"{}", 410, 5028, "has been deprecated"),
    "a retired chat": ("@cf/qwen/qwen1.5-0.5b-chat", b'{"prompt":"a"}', 410, 5028, "has been deprecated"),
    "a model that speaks over sockets": ("@cf/deepgram/flux", b"{}", 400, 5006, "WebSocket"),
    "no JSON": (MODEL, b"{", 400, 5006, "JSON"),
    "nothing": (MODEL, b"", 400, 5006, "oneOf at '/' not met"),
    "a list": (MODEL, b"[]", 400, 5006, "object"),
    "a wrong type": (MODEL, b'{"prompt":1}', 400, 5006, "'prompt'"),
    "a wrong type of another task": (BGE, b'{"text":1}', 400, 5006, "'text'"),
    "a batch's question of nobody's": (MODEL, b'{"request_id":"x"}', 400, 5006, "request_id"),
    "too many texts": (BGE, json.dumps({"text": ["a"] * 101}).encode(), 400, 5006, "text"),
    "an image for a model without eyes": (
        MODEL,
        json.dumps({"messages": [{"role": "user", "content": "a"}], "image": [1, 2]}).encode(),
        400,
        5006,
        "images",
    ),
    "a body beyond the limit": (MODEL, b" " * (13 * 2**20), 413, 3006, "too large"),
}


@pytest.mark.parametrize(("model", "body", "status", "code", "words"), BAD_RUNS.values(), ids=BAD_RUNS)
async def test_a_bad_run_is_refused_with_cloudflares_code(
    client: httpx.AsyncClient, model: str, body: bytes, status: int, code: int, words: str
) -> None:
    response = await client.post(f"{AI}/run/{model}", content=body)
    assert code_of(response) == (status, code)
    assert response.json()["result"] == {}
    message = response.json()["errors"][0]["message"]
    assert message.startswith("AiError: ") and words in message


BAD_OPENAI: dict[str, tuple[str, dict[str, Any], int]] = {
    "a chat of an unknown model": ("chat/completions", asking() | {"model": "@cf/no/such"}, 5007),
    "a chat without messages": ("chat/completions", {"model": MODEL}, 5006),
    "a chat of a model that does not chat": ("chat/completions", asking() | {"model": BGE}, 5006),
    "embeddings of a chat model": ("embeddings", {"model": MODEL, "input": "a"}, 5006),
    "responses of another model": ("responses", {"model": MODEL, "input": "a"}, 5007),
    "responses of a model of nobody's": ("responses", {"model": "nope", "input": "a"}, 5007),
    "Anthropic's form": ("messages", {"model": MODEL, "messages": []}, 5007),
    "Anthropic's form without a model": ("messages", {}, 5006),
}


@pytest.mark.parametrize(("path", "body", "code"), BAD_OPENAI.values(), ids=BAD_OPENAI)
async def test_openais_forms_have_cloudflares_errors(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], code: int
) -> None:
    response = await client.post(f"{AI}/v1/{path}", json=body)
    assert code_of(response) == (400, code)
    assert response.json()["result"] == {}


THIRD_PARTY: dict[str, tuple[str, int, int, Any]] = {
    "a model of another provider": ("openai/gpt-5", 404, 7003, None),
    "one with a version": ("bytedance/seedream-4.0:fast", 404, 7003, None),
    "one in more parts": ("google-ai-studio/models/gemini-3", 404, 7003, None),
    "a model of Cloudflare's form": ("@cf/no/such", 400, 5007, {}),
    "a name alone": ("gpt-5", 400, 5007, {}),
    "no name": ("", 400, 5007, {}),
    "no path": ("a/b c", 400, 5007, {}),
}


@pytest.mark.parametrize(("model", "status", "code", "result"), THIRD_PARTY.values(), ids=THIRD_PARTY)
async def test_the_router_finds_no_way_to_other_providers_models(
    client: httpx.AsyncClient, model: str, status: int, code: int, result: Any
) -> None:
    response = await client.post(f"{AI}/run", json={"model": model, "input": SHORT})
    assert code_of(response) == (status, code)
    assert response.json()["result"] == result
    if code == 7003:
        words = response.json()["errors"][0]["message"]
        assert words == "Could not route to /accounts/local/ai/run, perhaps your object identifier is invalid?"


async def test_a_known_model_may_be_named_in_another_providers_form(client: httpx.AsyncClient) -> None:
    response = await client.post(f"{AI}/run", json={"model": "meta/llama-3.2-1b-instruct", "input": SHORT})
    assert response.status_code == 200


ROUTES: dict[str, tuple[str, str, int, int]] = {
    "no such path": ("GET", "/client/v4/zones", 404, 7003),
    "the root": ("GET", "/client/v4", 404, 7003),
    "an account id that is none": ("POST", f"/client/v4/accounts/a%20b/ai/run/{MODEL}", 404, 7003),
    "no model": ("POST", f"{AI}/run/", 404, 7003),
    "a wrong method": ("GET", f"{AI}/run/{MODEL}", 405, 7001),
    "models of OpenAI's form": ("GET", f"{AI}/v1/models", 405, 7001),
    "a bad escape": ("GET", f"{AI}/run/%zz", 400, 7000),
}


@pytest.mark.parametrize(("method", "path", "status", "code"), ROUTES.values(), ids=ROUTES)
async def test_the_router_answers_as_cloudflares_does(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: int
) -> None:
    response = await client.request(method, path)
    assert code_of(response) == (status, code)
    assert response.json()["result"] is None


async def test_a_socket_to_a_model_is_not_implemented(client: httpx.AsyncClient) -> None:
    handshake = {"connection": "upgrade", "upgrade": "WebSocket", "sec-websocket-version": "13"}
    response = await client.get(f"{AI}/run/{MODEL}", headers=handshake)
    assert code_of(response) == (501, 7001)
    assert "WebSocket" in response.json()["errors"][0]["message"]
    assert (await client.get(f"{AI}/run/{MODEL}")).headers["allow"] == "POST"


async def test_a_compressed_body_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post(f"{AI}/run/{MODEL}", content=b"x", headers={"content-encoding": "gzip"})
    assert code_of(response) == (415, 5006)


CALLERS: dict[str, tuple[dict[str, str], int, int]] = {
    "no token": ({}, 400, 9106),
    "a wrong token": ({"authorization": "Bearer nope"}, 401, 10000),
    "a wrong key": ({"x-auth-key": "nope", "x-auth-email": "a@b.c"}, 401, 10000),
    "a key": ({"x-auth-key": OTHER_KEY, "x-auth-email": "a@b.c"}, 200, 0),
}


@pytest.mark.parametrize(("headers", "status", "code"), CALLERS.values(), ids=CALLERS)
async def test_callers_are_let_in_as_cloudflare_does(
    client: httpx.AsyncClient, headers: dict[str, str], status: int, code: int
) -> None:
    async with httpx.AsyncClient(base_url=client.base_url, headers=headers, trust_env=False) as stranger:
        response = await stranger.post(f"{AI}/run/{MODEL}", json=SHORT)
    assert response.status_code == status
    if status != 200:
        assert code_of(response) == (status, code)
        assert response.json()["result"] is None


async def test_options_of_a_path_are_told_without_a_token(client: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=client.base_url, trust_env=False) as stranger:
        for path in (f"{AI}/run/proxy", f"{AI}/run/{MODEL}", "/remote-bindings/x", f"{AI}/v1/models"):
            assert (await stranger.options(path)).status_code == 204


async def test_an_openai_client_keeps_openais_errors(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/chat/completions", json={"model": "nope"})
    assert response.json()["error"]["type"] == "invalid_request_error"
