"""OpenAI's embeddings on the wire: what is read, what is refused in which words, and both forms of the numbers."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse

from adapters.canonical import EmbeddingRequest, EmbeddingResult, Usage
from adapters.errors import InvalidRequest
from adapters.wire.openai_embeddings import EmbeddingWish, dump_embedding_result, parse_embedding_request

MODEL = "@cf/baai/bge-base-en-v1.5"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "input": "a", **fields}).encode()


def wish(encoding: Any = "float", **fields: Any) -> EmbeddingWish:
    return EmbeddingWish(EmbeddingRequest(**{"model": MODEL, "texts": ("a",), **fields}), encoding)


READ = {
    "a text": (body(), wish()),
    "a list": (body(input=["a", "b"]), wish(texts=("a", "b"))),
    "a text of blanks": (body(input=" "), wish(texts=(" ",))),
    "half a surrogate": (b'{"model":"m","input":"\\ud83d"}', wish(model="m", texts=("\ufffd",))),
    "as many as there may be": (body(input=["a"] * 2048), wish(texts=("a",) * 2048)),
    "numbers": (body(encoding_format="float"), wish()),
    "base64": (body(encoding_format="base64"), wish("base64")),
    "dimensions": (body(dimensions=64), wish(dimensions=64)),
    "dimensions as a decimal": (body(dimensions=64.0), wish(dimensions=64)),
    "a user": (body(user="me"), wish(affinity="me")),
    "nothing said": (body(encoding_format=None, dimensions=None, user=None, other=None), wish()),
    "fields that nobody knows": (body(priority=1, input_type="query"), wish(unknown=("priority", "input_type"))),
}


@pytest.mark.parametrize(("wire", "expected"), READ.values(), ids=READ)
def test_a_body_is_read(wire: bytes, expected: EmbeddingWish) -> None:
    assert parse_embedding_request(wire) == expected


REFUSED = {
    "no model": (body(model=None), "model", "missing_required_parameter", "model"),
    "a blank model": (body(model=" "), "model", "missing_required_parameter", "model"),
    "no input": (b'{"model":"m"}', "input", "missing_required_parameter", "'input'"),
    "a number": (body(input=1), "input", "invalid_type", "expected a string or an array"),
    "an empty text": (body(input=""), "input", "invalid_value", "empty string"),
    "an empty text among others": (body(input=["a", ""]), "input[1]", "invalid_value", "empty string"),
    "an empty list": (body(input=[]), "input", "empty_array", "empty array"),
    "too many texts": (body(input=["a"] * 2049), "input", "array_above_max_length", "2049"),
    "token ids": (body(input=[1, 2]), "input", "invalid_type", "check_embedding_ctx_length=False"),
    "token ids of a long text": (body(input=[1] * 3000), "input", "invalid_type", "not token ids"),
    "lists of token ids": (body(input=[[1], [2]]), "input", "invalid_type", "not token ids"),
    "ids among texts": (body(input=["a", [2]]), "input", "invalid_type", "not token ids"),
    "null among texts": (body(input=["a", None]), "input[1]", "invalid_type", "got null"),
    "another encoding": (body(encoding_format="int8"), "encoding_format", "invalid_value", "'float' and 'base64'"),
    "no dimensions": (body(dimensions=0), "dimensions", "integer_below_min_value", "0"),
    "half a dimension": (body(dimensions=1.5), "dimensions", "invalid_type", "integer"),
    "dimensions in words": (body(dimensions="many"), "dimensions", "invalid_type", "a number"),
    "no JSON": (b"input=a", None, "invalid_json", "JSON"),
}


@pytest.mark.parametrize(("wire", "param", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_field(wire: bytes, param: str | None, code: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_embedding_request(wire)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert words in caught.value.message


def test_an_answer_lists_the_vectors_in_order() -> None:
    result = EmbeddingResult(vectors=[[0.25, -1.5], [1.0, 0.0]], usage=Usage(prompt_tokens=7))
    answer = json.loads(dump_embedding_result(result, wish(), "small"))
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.25, -1.5]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 0.0]},
        ],
        "model": "small",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    assert CreateEmbeddingResponse.model_validate(answer, strict=True)


def test_base64_is_that_of_little_endian_32_bit_floats() -> None:
    result = EmbeddingResult(vectors=[[1.0, -2.5, 3.4e38]])
    [entry] = json.loads(dump_embedding_result(result, wish("base64"), "m"))["data"]
    data = base64.b64decode(entry["embedding"], validate=True)
    assert data[:8] == b"\x00\x00\x80\x3f\x00\x00\x20\xc0"
    assert struct.unpack("<3f", data) == pytest.approx((1.0, -2.5, 3.4e38))


USAGE = {
    "counted": (Usage(prompt_tokens=3), {"prompt_tokens": 3, "total_tokens": 3}),
    "billed": (Usage(prompt_tokens=3, neurons=0.5), {"prompt_tokens": 3, "total_tokens": 3, "neurons": 0.5}),
    "estimated": (Usage(prompt_tokens=3, estimated=True), {"prompt_tokens": 3, "total_tokens": 3, "estimated": True}),
    "none": (None, {"prompt_tokens": 0, "total_tokens": 0, "estimated": True}),
}


@pytest.mark.parametrize(("usage", "expected"), USAGE.values(), ids=USAGE)
def test_usage_says_what_is_known_of_it(usage: Usage | None, expected: dict[str, Any]) -> None:
    answer = json.loads(dump_embedding_result(EmbeddingResult(vectors=[[1.0]], usage=usage), wish(), "m"))
    assert answer["usage"] == expected
