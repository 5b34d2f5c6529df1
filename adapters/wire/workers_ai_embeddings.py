"""Workers AI's native text embeddings: `POST /ai/run/{model}`.

Sources: Cloudflare's binding types (cloudflare/workerd, 2026-08) and the input schemas of its model pages (2026-09).
"""

from __future__ import annotations

from typing import Any

import msgspec

from adapters.canonical import Change, EmbeddingRequest, EmbeddingResult
from adapters.errors import Fault, RelayError
from adapters.wire import json_text
from adapters.wire.json_text import NotJson, encode
from adapters.wire.openai_upstream import read_usage
from adapters.wire.workers_ai_errors import read_error

MOST_TEXTS = 100
"""In one call."""


def dump_embedding_request(
    request: EmbeddingRequest, *, asymmetric: bool, dimensions: int | None = None
) -> tuple[bytes, list[Change]]:
    """The native body, and what the request asks for that it cannot say.

    `dimensions` are the model's, if they are known. `asymmetric` models (qwen3-embedding) tell questions from
    documents, and take an instruction for the former.
    """
    changes = [Change(name, "ignored") for name in request.unknown]
    if request.dimensions not in (None, dimensions):
        changes.append(Change("dimensions", "emulated"))  # by cutting, which not every model is trained for
    body: dict[str, Any] = {"queries" if asymmetric and request.query else "text": request.texts}
    # The name of each, its value, and whether this model knows it.
    options = (
        ("instruction", request.instruction, asymmetric),
        ("pooling", request.pooling, not asymmetric),
        ("queries", request.query or None, asymmetric),
    )
    changes += [Change(name, "dropped") for name, value, known in options if value is not None and not known]
    body |= {name: value for name, value, known in options[:2] if value is not None and known}
    if request.truncate:  # asked of the one model that knows it
        body["truncate_inputs"] = True
    return encode(body), changes


class _Result(msgspec.Struct):
    data: list[list[float]]
    shape: list[int] | None = None
    pooling: str | None = None
    usage: Any = None


class _Envelope(msgspec.Struct):
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    success: Any = None
    errors: Any = None
    error: Any = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_result = msgspec.json.Decoder(_Result).decode


def parse_embedding_result(body: bytes) -> EmbeddingResult:
    """The body of a 200 to vectors, in its envelope or bare. Raises RelayError."""
    try:
        envelope, body = json_text.decode_repaired(body, _decode_envelope)
        if envelope.success is False or envelope.errors or envelope.error:
            raise read_error(502, json_text.loads(body))
        result = body if envelope.result is msgspec.UNSET else bytes(envelope.result)
        wire, _ = json_text.decode_repaired(result, _decode_result)
    except (NotJson, msgspec.ValidationError):
        raise RelayError(Fault.UPSTREAM_ERROR, "Workers AI answered in a form that cannot be read.") from None
    if wire.shape is not None and wire.shape != [len(wire.data), len(wire.data[0]) if wire.data else 0]:
        raise RelayError(Fault.UPSTREAM_ERROR, "Workers AI gave vectors of another shape than it says.")
    return EmbeddingResult(vectors=wire.data, pooling=wire.pooling, usage=read_usage(wire.usage))
