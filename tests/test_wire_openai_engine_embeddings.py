"""Embeddings as engines take and give them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.canonical import EmbeddingRequest, EmbeddingResult, Usage
from adapters.errors import Fault, RelayError
from adapters.profiles import PROFILES
from adapters.wire.openai_engine_embeddings import dump_engine_embedding_request, parse_engine_embedding_result

FIELDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], list[str]]] = {
    "texts": ("vllm", {}, {}, []),
    "dimensions": ("openai", {"dimensions": 2}, {"dimensions": 2}, []),
    "dimensions that the relay cuts": ("vllm", {"dimensions": 2}, {}, ["dimensions=emulated"]),
    "what is Workers AI's own": (
        "ollama",
        {"instruction": "Find", "pooling": "cls", "query": True, "truncate": True},
        {},
        ["instruction=dropped", "pooling=dropped", "queries=dropped", "truncate_inputs=dropped"],
    ),
    "unknown fields": ("sglang", {"unknown": ("x",)}, {}, ["x=ignored"]),
}


@pytest.mark.parametrize(("profile", "asked", "sent", "changes"), FIELDS.values(), ids=FIELDS)
def test_a_request_goes_out_in_openais_form(
    profile: str, asked: dict[str, Any], sent: dict[str, Any], changes: list[str]
) -> None:
    request = EmbeddingRequest(**{"model": "theirs", "texts": ("a", "b"), **asked})
    body, listed = dump_engine_embedding_request(request, PROFILES[profile].form, model="own")
    assert json.loads(body) == {"model": "own", "input": ["a", "b"], "encoding_format": "float", **sent}
    assert list(map(str, listed)) == changes


def data(*vectors: tuple[int | None, list[float]]) -> list[dict[str, Any]]:
    return [{"object": "embedding", "index": index, "embedding": vector} for index, vector in vectors]


RESULTS: dict[str, tuple[Any, EmbeddingResult]] = {
    "in order": (
        {"data": data((0, [1.0]), (1, [2.0])), "usage": {"prompt_tokens": 3, "total_tokens": 3}},
        EmbeddingResult(vectors=[[1.0], [2.0]], usage=Usage(prompt_tokens=3)),
    ),
    "out of order": ({"data": data((1, [2.0]), (0, [1.0]))}, EmbeddingResult(vectors=[[1.0], [2.0]])),
    "without places": ({"data": data((None, [1]), (None, [2]))}, EmbeddingResult(vectors=[[1.0], [2.0]])),
}


@pytest.mark.parametrize(("value", "result"), RESULTS.values(), ids=RESULTS)
def test_vectors_come_in_the_order_of_the_texts(value: Any, result: EmbeddingResult) -> None:
    assert parse_engine_embedding_result(json.dumps(value).encode()) == result


FAILED: dict[str, tuple[bytes, Fault]] = {
    "no JSON": (b"<html>", Fault.UPSTREAM_ERROR),
    "no data": (b"{}", Fault.UPSTREAM_ERROR),
    "a list": (b"[]", Fault.UPSTREAM_ERROR),
    "no numbers": (b'{"data":[{"embedding":["x"]}]}', Fault.UPSTREAM_ERROR),
    "an error": (b'{"error":{"message":"Slow down","code":429}}', Fault.RATE_LIMITED),
}


@pytest.mark.parametrize(("body", "fault"), FAILED.values(), ids=FAILED)
def test_what_holds_no_vectors_is_an_error(body: bytes, fault: Fault) -> None:
    with pytest.raises(RelayError) as caught:
        parse_engine_embedding_result(body)
    assert caught.value.fault is fault
