"""What makes an upstream's vectors a truthful answer to the request, whichever upstream it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul

import msgspec

from adapters.canonical import EmbeddingRequest, EmbeddingResult, Usage
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.tokens import estimate_text

_LARGEST = 3.4e38
"""About the largest number that 32 bits can hold."""


def checked(result: EmbeddingResult, count: int) -> EmbeddingResult:
    """`result` if it holds `count` vectors of one length, of numbers that 32 bits can hold (NaN is none that JSON has).

    Raises RelayError (UPSTREAM_ERROR).
    """
    vectors = result.vectors
    if len(vectors) != count:
        raise RelayError(Fault.UPSTREAM_ERROR, f"The upstream gave {len(vectors)} vectors for {count} texts.")
    length = len(vectors[0])
    if not length or any(len(vector) != length for vector in vectors):
        raise RelayError(Fault.UPSTREAM_ERROR, "The upstream's vectors are empty or of unequal lengths.")
    if not all(-_LARGEST <= min(vector) and max(vector) <= _LARGEST for vector in vectors):
        raise RelayError(Fault.UPSTREAM_ERROR, "The upstream's vectors hold numbers out of range.")
    return result


def settle(result: EmbeddingResult, request: EmbeddingRequest) -> EmbeddingResult:
    """`result` with the dimensions that were asked for and a usage in every case.

    Raises InvalidRequest if the vectors have fewer dimensions than that.
    """
    usage = result.usage or _estimate(request)
    wanted = request.dimensions
    length = len(result.vectors[0])
    if wanted is None or wanted == length:
        return msgspec.structs.replace(result, usage=usage)
    if wanted > length:
        raise too_many_dimensions(request.model, length)
    vectors = [_unit(vector[:wanted]) for vector in result.vectors]
    return msgspec.structs.replace(result, vectors=vectors, usage=usage)


def too_many_dimensions(model: str, length: int) -> InvalidRequest:
    return InvalidRequest(f"Invalid 'dimensions': vectors of '{model}' have {length}.", param="dimensions")


def join(results: Sequence[EmbeddingResult]) -> EmbeddingResult:
    """Settled results of the parts of one request, in their order, as one.

    Raises RelayError (UPSTREAM_ERROR) if their vectors differ in length.
    """
    if len({len(result.vectors[0]) for result in results}) > 1:
        raise RelayError(Fault.UPSTREAM_ERROR, "The upstream's vectors are of unequal lengths.")
    return EmbeddingResult(
        vectors=[vector for result in results for vector in result.vectors],
        pooling=results[0].pooling,
        usage=sum((result.usage or Usage(estimated=True) for result in results), Usage()),
    )


def _unit(vector: list[float]) -> list[float]:
    """The vector at length 1; one of zeros has no direction and stays."""
    length = math.sqrt(sum(map(mul, vector, vector)))
    return [number / length for number in vector] if length else vector


def _estimate(request: EmbeddingRequest) -> Usage:
    return Usage(prompt_tokens=sum(estimate_text(len(text)) for text in request.texts), estimated=True)
