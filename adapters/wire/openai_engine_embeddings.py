"""OpenAI's embeddings as an engine takes and gives them: `POST /v1/embeddings`, seen from the client."""

from __future__ import annotations

from typing import Any

import msgspec

from adapters.canonical import Change, EmbeddingRequest, EmbeddingResult
from adapters.errors import Fault, RelayError
from adapters.wire.engine_form import EngineForm
from adapters.wire.json_text import NotJson, decode_repaired, encode, loads
from adapters.wire.openai_engine_errors import is_error, read_engine_error
from adapters.wire.openai_upstream import read_usage


def dump_engine_embedding_request(
    request: EmbeddingRequest, form: EngineForm, *, model: str
) -> tuple[bytes, list[Change]]:
    """The body, and what the request asks for that it cannot say. `model` is the engine's own name."""
    changes = [Change(name, "ignored") for name in request.unknown]
    body: dict[str, Any] = {"model": model, "input": request.texts, "encoding_format": "float"}
    if request.dimensions is not None:
        if form.dimensions:
            body["dimensions"] = request.dimensions
        else:
            changes.append(Change("dimensions", "emulated"))  # by cutting, which not every model is trained for
    native = (
        ("instruction", request.instruction),
        ("pooling", request.pooling),
        ("queries", request.query or None),
        ("truncate_inputs", request.truncate or None),
    )
    changes += [Change(name, "dropped") for name, value in native if value is not None]
    return encode(body), changes


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Result(msgspec.Struct):
    data: list[_Vector] | None = None
    usage: Any = None


_decode_result = msgspec.json.Decoder(_Result).decode


def parse_engine_embedding_result(body: bytes, *, context_window: int | None = None) -> EmbeddingResult:
    """The body of a 200 to vectors in the order of the texts. Raises RelayError."""
    try:
        wire, body = decode_repaired(body, _decode_result)
        if wire.data is None:
            value = loads(body)
            if is_error(value):
                raise read_engine_error(None, value, context_window=context_window)
    except (NotJson, msgspec.ValidationError):
        wire = _Result()
    if wire.data is None:
        raise RelayError(Fault.UPSTREAM_ERROR, "The engine answered in a form that cannot be read.")
    places = [vector.index for vector in wire.data]
    if None not in places:
        wire.data.sort(key=lambda vector: vector.index or 0)
    return EmbeddingResult(vectors=[vector.embedding for vector in wire.data], usage=read_usage(wire.usage))
