"""OpenAI's embeddings: `POST /v1/embeddings`, both ways.

Source: OpenAI's API reference and what its clients of 2026-10 were seen to send.
"""

from __future__ import annotations

import base64
import struct
from typing import Any, Literal

import msgspec

from adapters.canonical import EmbeddingRequest, EmbeddingResult, Usage
from adapters.errors import InvalidRequest
from adapters.wire.json_text import encode
from adapters.wire.validation import decode, decode_repaired, whole

Encoding = Literal["float", "base64"]

MOST_TEXTS = 2048
_MOST_DIMENSIONS = 2**31 - 1


class EmbeddingBody(msgspec.Struct):
    """The whole body. Token ids are known, so that the refusal can say what to do."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: str | None = None
    dimensions: int | float | None = None
    user: str | None = None


class EmbeddingWish(msgspec.Struct, frozen=True):
    """What a client asked for, and how it wants the numbers: `base64` is that of little-endian 32-bit floats."""

    request: EmbeddingRequest
    encoding: Encoding = "float"


_BODY = msgspec.json.Decoder(EmbeddingBody)
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(EmbeddingBody))


def parse_embedding_request(body: bytes) -> EmbeddingWish:
    """A request body to canonical. Raises InvalidRequest naming the field."""
    wire, body = decode_repaired(body, _BODY)
    given = decode(body, _KEYS)
    request = EmbeddingRequest(
        model=_model(wire),
        texts=_texts(wire.input),
        dimensions=whole(wire.dimensions, "dimensions", 1, _MOST_DIMENSIONS),
        affinity=wire.user,
        unknown=tuple(key[:64] for key, value in given.items() if key not in _FIELDS and bytes(value) != b"null"),
    )
    return EmbeddingWish(request, _encoding(wire))


def _model(wire: EmbeddingBody) -> str:
    if wire.model is not None and wire.model.strip():
        return wire.model
    raise InvalidRequest("You must provide a model parameter.", param="model", code="missing_required_parameter")


def _encoding(wire: EmbeddingBody) -> Encoding:
    match wire.encoding_format:
        case None | "float":
            return "float"
        case "base64":
            return "base64"
    raise InvalidRequest(
        "Invalid value for 'encoding_format': supported values are 'float' and 'base64'.", param="encoding_format"
    )


def _texts(value: str | list[str | int | list[int]]) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_text(value, "input"),)
    if not value:
        raise InvalidRequest(
            "Invalid 'input': empty array. Expected an array with minimum length 1.", param="input", code="empty_array"
        )
    # Before their number is looked at: one text is many ids.
    if not all(isinstance(item, str) for item in value):
        raise InvalidRequest(
            "Invalid 'input': the models here embed text, not token ids. Send strings; LangChain's OpenAIEmbeddings "
            "does with check_embedding_ctx_length=False.",
            param="input",
            code="invalid_type",
        )
    if len(value) > MOST_TEXTS:
        raise InvalidRequest(
            f"Invalid 'input': array too long. Expected at most {MOST_TEXTS} items, but got {len(value)} instead.",
            param="input",
            code="array_above_max_length",
        )
    return tuple(_text(item, f"input[{i}]") for i, item in enumerate(value) if isinstance(item, str))


def _text(text: str, at: str) -> str:
    if not text:
        raise InvalidRequest(f"Invalid '{at}': input cannot be an empty string.", param=at)
    return text


def dump_embedding_result(result: EmbeddingResult, wish: EmbeddingWish, model: str) -> bytes:
    """The JSON body of the answer. The numbers fit into 32 bits, as `adapters.vectors` has checked."""
    vectors: list[Any] = result.vectors
    if wish.encoding == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in result.vectors]
    return encode(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)],
            "model": model,
            "usage": _usage(result.usage or Usage(estimated=True)),
        }
    )


def _usage(usage: Usage) -> dict[str, Any]:
    """`neurons` is there where Cloudflare told them, `estimated` where nobody counted."""
    wire: dict[str, Any] = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens}
    if usage.neurons is not None:
        wire["neurons"] = usage.neurons
    if usage.estimated:
        wire["estimated"] = True
    return wire
