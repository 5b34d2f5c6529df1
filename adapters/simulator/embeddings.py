"""Vectors without a model: hashed features, so that texts which share words lie near each other."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable, Sequence

from adapters.canonical import Change, EmbeddingRequest, NativeResult
from adapters.catalogue import Model
from adapters.errors import InvalidRequest
from adapters.simulator.features import features, norm
from adapters.simulator.limits import fitted
from adapters.simulator.ranking import ranked
from adapters.simulator.tokens import usage_of
from adapters.wire.native.inputs import EmbeddingInputs, EmbeddingOrScoreInputs, QueryEmbeddingInputs
from adapters.wire.native.results import ContextEmbeddings, Embeddings

_DIMENSIONS = 768
"""Of a model whose own number is not known."""
_SIGN = 1 << 31
_INSTRUCTION_WEIGHT = 0.2
_GRAIN = 0.1
"""Length of what sets two texts apart whose features are the same; that of the features is 1."""
_BYTE_DEVIATION = math.sqrt((256 * 256 - 1) / 12)
_DIGITS = 7


def dimensions_of(model: Model, asked: int | None) -> int:
    """How long the vectors become. Raises InvalidRequest for more than the model has, or less than one."""
    own = model.output_dimensions or _DIMENSIONS
    if asked is not None and not 1 <= asked <= own:
        raise InvalidRequest(f"dimensions must be from 1 to {own} for {model.id}.", param="dimensions")
    return asked or own


def pooling_of(model: Model, asked: str | None) -> str | None:
    """What Cloudflare reports: bge-m3 pools by its first token, qwen3-embedding says nothing, the others average."""
    if model.native_result == "data_shape_or_scores":
        return "cls"
    return None if tells_queries(model) else asked or "mean"


def tells_queries(model: Model) -> bool:
    """Whether it treats questions and documents differently; an instruction then says what the questions are for."""
    return "queries" in model.input_kinds


def changes_to_embedding(request: EmbeddingRequest, model: Model) -> list[Change]:
    """What would lead to other vectors at a model that had it."""
    unmet = {
        "pooling": request.pooling not in (None, pooling_of(model, request.pooling)),
        "instruction": bool(request.instruction) and not (request.query and tells_queries(model)),
    }
    changes = [Change(field, "dropped") for field, dropped in unmet.items() if dropped]
    return changes + [Change(field, "ignored") for field in request.unknown]


class Space:
    """Where a model's vectors lie; each kind of pooling has a space of its own, as with the real models."""

    def __init__(self, model: Model, pooling: str | None, dimensions: int | None, instruction: str | None) -> None:
        self._own = dimensions_of(model, None)
        self._cut = dimensions_of(model, dimensions)
        self._salt = zlib.crc32(f"{model.id} {pooling}".encode())
        self._instruction = instruction or ""
        self._coloured = dict(_scaled(features(self._instruction).items(), _INSTRUCTION_WEIGHT))

    def vectors(self, texts: Iterable[str]) -> list[list[float]]:
        """One vector a text, of unit length."""
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        sums = [0.0] * self._own
        found = features(text)
        scale = 1.0 / (norm(found) or 1.0)
        for feature, weight in (*_scaled(found.items(), scale), *self._coloured.items()):
            place = zlib.crc32(feature.encode("utf-8", "surrogatepass"), self._salt)
            sums[place % self._own] += weight if place & _SIGN else -weight
        return _unit([value + grain for value, grain in zip(sums[: self._cut], self._grain(text), strict=False)])

    def _grain(self, text: str) -> list[float]:
        """A faint vector of every character of the text, none of its numbers 0: every cut of it has a length."""
        identity = f"{self._salt} {self._instruction}\n{text}".encode("utf-8", "surrogatepass")
        step = _GRAIN / (_BYTE_DEVIATION * math.sqrt(self._own))
        return [(byte - 127.5) * step for byte in hashlib.shake_256(identity).digest(self._own)]


def _scaled(found: Iterable[tuple[str, float]], scale: float) -> Iterable[tuple[str, float]]:
    return ((feature, weight * scale) for feature, weight in found)


def _unit(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    return [round(value / length, _DIGITS) for value in vector]


def embeddings(model: Model, inputs: EmbeddingInputs) -> NativeResult:
    return _embedded(model, _listed(inputs.text), pooling=inputs.pooling)


def query_embeddings(model: Model, inputs: QueryEmbeddingInputs) -> NativeResult:
    """qwen3-embedding: an instruction says what queries are for, and documents are free of it."""
    if inputs.queries is not None:
        return _embedded(model, _listed(inputs.queries), instruction=inputs.instruction)
    texts = inputs.documents if inputs.text is None else inputs.text
    if texts is None:
        raise InvalidRequest("One of text, queries and documents is required.", param="text")
    return _embedded(model, _listed(texts))


def embeddings_or_scores(model: Model, inputs: EmbeddingOrScoreInputs) -> NativeResult:
    """bge-m3: a query with contexts gets scores, contexts alone get vectors under another name than texts do."""
    truncate = bool(inputs.truncate_inputs)
    if inputs.contexts is None:
        if inputs.text is None:
            missing = "text" if inputs.query is None else "contexts"
            raise InvalidRequest("Either text, or contexts with or without a query, is required.", param=missing)
        return _embedded(model, fitted(_listed(inputs.text), model, truncate=truncate, param="text"))
    given = [context.text for context in inputs.contexts]
    texts = fitted(given, model, truncate=truncate, param="contexts")
    if inputs.query is not None:
        return NativeResult(ranked(inputs.query, texts), usage_of(inputs.query, *texts))
    plain = _embedded(model, texts)
    value: Embeddings = plain.value
    return NativeResult(ContextEmbeddings(value.data, value.shape, value.pooling), plain.usage)


def _embedded(
    model: Model, texts: Sequence[str], *, pooling: str | None = None, instruction: str | None = None
) -> NativeResult:
    pooled = pooling_of(model, pooling)
    data = Space(model, pooled, None, instruction).vectors(texts)
    value = Embeddings([len(data), len(data[0])], data, pooled)
    return NativeResult(value, usage_of(instruction, *texts))


def _listed(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts
