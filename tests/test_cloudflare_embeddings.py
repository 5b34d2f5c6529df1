"""Embeddings at Cloudflare's seam: what goes out, and that nothing but whole vectors comes back."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import anyio
import httpx
import pytest
import respx

from adapters.base import Call
from adapters.canonical import EmbeddingRequest, EmbeddingResult, Usage
from adapters.catalogue import load_snapshot
from adapters.cloudflare_calls import Account, CloudflareCalls, Timeouts
from adapters.cloudflare_embeddings import CloudflareEmbedder
from adapters.errors import Fault, InvalidRequest, RelayError
from tests.support.cloudflare import ACCOUNT, TOKEN

pytestmark = pytest.mark.anyio

BASE = f"https://api.cloudflare.com/client/v4/accounts/{ACCOUNT}/ai/run/"
BGE = "@cf/baai/bge-base-en-v1.5"
M3 = "@cf/baai/bge-m3"
QWEN = "@cf/qwen/qwen3-embedding-0.6b"
TWO = {"shape": [2, 3], "data": [[1, 0, 0.5], [0, 1, 0]], "pooling": "mean"}
VECTORS = [[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]


@pytest.fixture
def router() -> respx.Router:
    return respx.Router(assert_all_called=False)


def embedder(router: respx.Router, **options: Any) -> CloudflareEmbedder:
    account = Account(account_id=ACCOUNT, api_token=TOKEN)
    calls = CloudflareCalls(httpx.MockTransport(router.async_handler), account, **options)
    return CloudflareEmbedder(calls, model_of=load_snapshot().resolve)


def asking(model: str = BGE, **fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest(**{"model": model, "texts": ("a", "b"), **fields})


def enveloped(result: object) -> dict[str, object]:
    return {"result": result, "success": True, "errors": [], "messages": []}


# ---------------------------------------------------------------- what goes out

SENT: dict[str, tuple[EmbeddingRequest, dict[str, Any], list[str]]] = {
    "texts": (asking(), {"text": ["a", "b"]}, []),
    "a pooling": (asking(pooling="cls"), {"text": ["a", "b"], "pooling": "cls"}, []),
    "a pooling where there is no choice": (asking(QWEN, pooling="cls"), {"text": ["a", "b"]}, ["pooling=dropped"]),
    "questions": (
        asking(QWEN, query=True, instruction="Find it"),
        {"queries": ["a", "b"], "instruction": "Find it"},
        [],
    ),
    "questions where all texts are alike": (
        asking(query=True, instruction="Find it"),
        {"text": ["a", "b"]},
        ["instruction=dropped", "queries=dropped"],
    ),
    "texts that may be cut": (
        asking("@cf/baai/bge-m3", truncate=True),
        {"text": ["a", "b"], "truncate_inputs": True},
        [],
    ),
    "dimensions": (asking(dimensions=2), {"text": ["a", "b"]}, ["dimensions=emulated"]),
    "the dimensions that it has anyway": (asking(dimensions=768), {"text": ["a", "b"]}, []),
    "unknown fields": (asking(unknown=("priority",)), {"text": ["a", "b"]}, ["priority=ignored"]),
    "a model that nobody knows": (
        asking("@cf/acme/embed-1", pooling="cls"),
        {"text": ["a", "b"], "pooling": "cls"},
        [],
    ),
}


@pytest.mark.parametrize(("request_", "sent", "changes"), SENT.values(), ids=SENT)
async def test_a_request_goes_out_in_the_models_form(
    router: respx.Router, request_: EmbeddingRequest, sent: dict[str, Any], changes: list[str]
) -> None:
    route = router.post(BASE + request_.model).respond(json=enveloped(TWO))
    call = Call("id")
    await embedder(router).embed(request_, call)
    assert json.loads(route.calls.last.request.content) == sent
    assert route.calls.last.request.headers["authorization"] == f"Bearer {TOKEN}"
    assert ([str(change) for change in call.changes], call.upstream) == (changes, "cloudflare")


async def test_strict_callers_refuse_what_would_be_emulated(router: respx.Router) -> None:
    with pytest.raises(InvalidRequest, match="dimensions=emulated"):
        await embedder(router).embed(asking(dimensions=2), Call("id", strict=True))
    assert not router.calls


# ---------------------------------------------------------------- what comes back

ANSWERS = {
    "in its envelope": (enveloped(TWO), EmbeddingResult(vectors=VECTORS, pooling="mean")),
    "bare": (TWO, EmbeddingResult(vectors=VECTORS, pooling="mean")),
    "no more than the numbers": (enveloped({"data": TWO["data"]}), EmbeddingResult(vectors=VECTORS)),
    "counted": (
        enveloped({**TWO, "usage": {"prompt_tokens": 4, "total_tokens": 4}}),
        EmbeddingResult(vectors=VECTORS, pooling="mean", usage=Usage(prompt_tokens=4)),
    ),
}


@pytest.mark.parametrize(("body", "expected"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_read(router: respx.Router, body: object, expected: EmbeddingResult) -> None:
    router.post(BASE + BGE).respond(json=body)
    assert await embedder(router).embed(asking(), Call("id")) == expected


def numbers(*data: object) -> bytes:
    return json.dumps(enveloped({"data": data})).encode()


BROKEN = {
    "too few vectors": numbers([1.0, 2.0]),
    "unequal lengths": numbers([1.0], [1.0, 2.0]),
    "no numbers": numbers([], []),
    "a number that is missing": numbers([1.0, None], [1.0, 2.0]),
    "not a number": b'{"result":{"data":[[NaN],[1]]},"success":true}',
    "a number without bounds": b'{"result":{"data":[[1e999],[1]]},"success":true}',
    "a number beyond 32 bits": numbers([1e39], [1.0]),
    "a vector that is a word": numbers("one", "two"),
    "no vectors": json.dumps(enveloped({"shape": [2, 3]})).encode(),
    "nothing": json.dumps(enveloped({})).encode(),
    "null": json.dumps(enveloped(None)).encode(),
    "another shape than it says": json.dumps(enveloped({**TWO, "shape": [2, 4]})).encode(),
    "no vectors of a shape": json.dumps(enveloped({"shape": [0, 0], "data": []})).encode(),
    "scores": json.dumps(enveloped({"response": [{"id": 0, "score": 0.5}]})).encode(),
    "a page": b"<html>",
    "half an answer": json.dumps(enveloped(TWO)).encode()[:40],
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_answer_is_an_error(router: respx.Router, body: bytes) -> None:
    router.post(BASE + BGE).respond(content=body, content_type="application/json")
    with pytest.raises(RelayError) as caught:
        await embedder(router).embed(asking(), Call("id"))
    assert caught.value.fault is Fault.UPSTREAM_ERROR


REFUSALS = {
    "bad input": (400, 5006, Fault.INVALID_VALUE),
    "no such model": (400, 5007, Fault.MODEL_NOT_FOUND),
    "a failure inside a success": (200, 3040, Fault.RATE_LIMITED),
    "a timeout": (408, 3046, Fault.UPSTREAM_TIMEOUT),
}


@pytest.mark.parametrize(("status", "code", "fault"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_is_read_as_for_chat(router: respx.Router, status: int, code: int, fault: Fault) -> None:
    body = {"errors": [{"code": code, "message": f"AiError: for {TOKEN}"}], "success": False, "result": {}}
    router.post(BASE + BGE).respond(status, json=body)
    with pytest.raises(RelayError) as caught:
        await embedder(router).embed(asking(), Call("id"))
    assert (caught.value.fault, caught.value.upstream_code) == (fault, code)
    assert TOKEN not in caught.value.message


async def test_a_spent_allocation_is_not_asked_for_again_before_midnight(router: respx.Router) -> None:
    now = dt.datetime(2026, 11, 21, 23, 0, tzinfo=dt.UTC).timestamp()
    route = router.post(BASE + BGE).respond(429, json={"errors": [{"code": 3036, "message": ""}], "success": False})
    vectors = embedder(router, now=lambda: now)
    for _ in range(2):
        with pytest.raises(RelayError) as caught:
            await vectors.embed(asking(), Call("id"))
        assert caught.value.fault is Fault.QUOTA_EXHAUSTED
    assert route.call_count == 1
    now += 3601
    route.respond(json=enveloped(TWO))
    assert (await vectors.embed(asking(), Call("id"))).vectors == VECTORS


async def test_an_answer_that_does_not_come_is_given_up(router: respx.Router) -> None:
    async def silent(request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    router.post(BASE + BGE).mock(side_effect=silent)
    with pytest.raises(RelayError) as caught:
        await embedder(router, timeouts=Timeouts(first_byte=0.01)).embed(asking(), Call("id"))
    assert caught.value.fault is Fault.UPSTREAM_TIMEOUT
