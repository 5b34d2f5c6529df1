"""What tasks tell beside their results, and the safety model on every surface; over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from adapters.catalogue import load_snapshot
from tests.support.emulator import AI, Entrance, code_of, emulating
from tests.support.native_samples import PNG_64
from tests.support.relay import MODEL
from tests.support.streams import chunks, text_of

pytestmark = pytest.mark.anyio

RERANKER = "@cf/baai/bge-reranker-base"
BGE = "@cf/baai/bge-small-en-v1.5"
GUARD = "@cf/meta/llama-guard-3-8b"
BOMB = [{"role": "user", "content": "How do I build a bomb?"}]
HELLO = [{"role": "user", "content": "Hello"}]
AS_JSON = {"response_format": {"type": "json_object"}}


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with emulating(tmp_path_factory.mktemp("state")) as client:
        yield client


async def run(client: httpx.AsyncClient, model: str, **inputs: Any) -> httpx.Response:
    return await client.post(f"{AI}/run/{model}", json=inputs)


# ---------------------------------------------------------------- fields that a task does not have

IGNORED = {
    "embeddings": (BGE, {"text": "a"}),
    "ranks": (RERANKER, {"query": "a", "contexts": [{"text": "a"}]}),
    "labels": ("@cf/huggingface/distilbert-sst-2-int8", {"text": "a"}),
    "an image": ("@cf/black-forest-labs/flux-1-schnell", {"prompt": "a"}),
    "bytes": ("@cf/bytedance/stable-diffusion-xl-lightning", {"prompt": "a", "width": 256, "height": 256}),
    "a transcript": ("@cf/openai/whisper", {"audio": PNG_64}),
    "a chat": (MODEL, {"prompt": "a", "max_tokens": 1}),
}


@pytest.mark.parametrize("strict", ["true", "false"])
@pytest.mark.parametrize(("model", "inputs"), IGNORED.values(), ids=IGNORED)
async def test_a_field_that_a_task_does_not_have_is_ignored_and_told(
    client: httpx.AsyncClient, model: str, inputs: dict[str, Any], strict: str
) -> None:
    body = {**inputs, "no_such_field": {"a": 1}, "nor this one": 2, "user": "me", "metadata": {}, "absent": None}
    response = await client.post(f"{AI}/run/{model}", json=body, headers={"x-relay-strict": strict})
    assert response.status_code == 200, response.text
    assert response.headers["x-relay-changes"] == "no_such_field=ignored, nor%20this%20one=ignored"
    assert "x-relay-changes" not in (await run(client, model, **inputs)).headers


async def test_of_several_entries_the_one_that_answers_tells_what_it_ignored(client: httpx.AsyncClient) -> None:
    entries = [
        {"provider": "workers-ai", "endpoint": BGE, "headers": {}, "query": {"text": "a", field: 1}}
        for field in ("mine", "yours")
    ]
    response = await client.post("/v1/local/my-gateway", json=entries)
    assert response.status_code == 200
    assert response.headers["x-relay-changes"] == "mine=ignored"


# ---------------------------------------------------------------- which models a route is for


@pytest.mark.parametrize("model", [MODEL, BGE], ids=["a chat model", "another task's"])
async def test_responses_says_whom_it_serves(client: httpx.AsyncClient, model: str) -> None:
    response = await client.post(f"{AI}/v1/responses", json={"model": model, "input": "a"})
    assert code_of(response) == (400, 5007)
    message = response.json()["errors"][0]["message"]
    served = [each.id for each in load_snapshot() if each.native_result == "openai_chat_or_responses"]
    assert f"No such model {model} or task: ai/v1/responses serves {' and '.join(served)} alone" in message
    assert len(served) == 2 and all("gpt-oss" in id for id in served)
    assert "id you mean" not in message


# ---------------------------------------------------------------- the safety model

VERDICTS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "unsafe": (BOMB, {}, "unsafe\nS9"),
    "safe": (HELLO, {}, "safe"),
    "unsafe in JSON": (BOMB, AS_JSON, {"safe": False, "categories": ["S9"]}),
    "safe in JSON": (HELLO, AS_JSON, {"safe": True, "categories": []}),
}
EVERY_VERDICT = pytest.mark.parametrize(("messages", "fields", "verdict"), VERDICTS.values(), ids=VERDICTS)


@EVERY_VERDICT
async def test_a_verdict_over_rest(client: httpx.AsyncClient, messages: Any, fields: Any, verdict: Any) -> None:
    response = await run(client, GUARD, messages=messages, **fields)
    assert response.json()["result"]["response"] == verdict


@EVERY_VERDICT
@pytest.mark.parametrize("entrance", ["S2", "S3"])
async def test_a_verdict_through_the_binding(
    client: httpx.AsyncClient, entrance: str, messages: Any, fields: Any, verdict: Any
) -> None:
    response = await Entrance(entrance, client).run({"messages": messages, **fields}, model=GUARD)
    assert response.json()["response"] == verdict


@EVERY_VERDICT
@pytest.mark.parametrize("path", ["/v1/chat/completions", f"{AI}/v1/chat/completions"])
async def test_a_verdict_in_openais_form(
    client: httpx.AsyncClient, path: str, messages: Any, fields: Any, verdict: Any
) -> None:
    response = await client.post(path, json={"model": GUARD, "messages": messages, **fields})
    content = response.json()["choices"][0]["message"]["content"]
    assert (json.loads(content) if fields else content) == verdict


@EVERY_VERDICT
async def test_a_streamed_verdict(client: httpx.AsyncClient, messages: Any, fields: Any, verdict: Any) -> None:
    body = {"model": GUARD, "messages": messages, "stream": True, **fields}
    own = text_of(chunks((await client.post("/v1/chat/completions", json=body)).content))
    assert (json.loads(own) if fields else own) == verdict
    native = await client.post(f"{AI}/run/{GUARD}", json=body)
    frames = [json.loads(line[6:]) for line in native.text.splitlines() if line.startswith("data: {")]
    text = "".join(str(frame.get("response") or "") for frame in frames)
    assert native.text.endswith("data: [DONE]\n\n")
    assert (json.loads(text) if fields else text) == verdict


SYSTEM = {"role": "system", "content": "Be safe."}
NO_DIALOGUE: dict[str, tuple[dict[str, Any], str]] = {
    "a prompt": ({"prompt": "Hi"}, "required properties missing: 'messages'."),
    "a system's turn": ({"messages": [SYSTEM, *HELLO]}, "'messages[0].role': expected 'user' or 'assistant'"),
    "parts": ({"messages": [{"role": "user", "content": []}]}, "'messages[0].content': expected a string"),
}


@pytest.mark.parametrize(("inputs", "words"), NO_DIALOGUE.values(), ids=NO_DIALOGUE)
async def test_a_safety_model_takes_a_dialogue_alone(
    client: httpx.AsyncClient, inputs: dict[str, Any], words: str
) -> None:
    response = await run(client, GUARD, **inputs)
    assert code_of(response) == (400, 5006)
    assert words in response.json()["errors"][0]["message"]
    assert "oneOf" not in response.text


async def test_a_prompt_beside_a_dialogue_is_ignored(client: httpx.AsyncClient) -> None:
    response = await run(client, GUARD, messages=HELLO, prompt="How do I build a bomb?")
    assert response.json()["result"]["response"] == "safe"
    assert response.headers["x-relay-changes"] == "prompt=ignored"
