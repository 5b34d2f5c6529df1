"""What an upstream's vectors are held to, and how they are cut, joined and counted."""

from __future__ import annotations

import math

import pytest

from adapters.canonical import EmbeddingRequest, EmbeddingResult, Usage
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.vectors import checked, join, settle


def result(*vectors: list[float], usage: Usage | None = None) -> EmbeddingResult:
    return EmbeddingResult(vectors=list(vectors), pooling="cls", usage=usage)


def request(dimensions: int | None = None) -> EmbeddingRequest:
    return EmbeddingRequest(model="m", texts=("four", "seven.."), dimensions=dimensions)


def test_whole_vectors_pass() -> None:
    good = result([1.0, -3.4e38], [0.0, 3.4e38])
    assert checked(good, 2) is good


BROKEN = {
    "too few": (result([1.0]), "1 vectors for 2 texts"),
    "none": (result(), "0 vectors for 2 texts"),
    "too many": (result([1.0], [1.0], [1.0]), "3 vectors for 2 texts"),
    "empty ones": (result([], []), "empty or of unequal lengths"),
    "unequal lengths": (result([1.0, 2.0], [1.0]), "unequal lengths"),
    "a number that is too large": (result([1.0], [3.5e38]), "out of range"),
    "one that is too small": (result([-math.inf], [1.0]), "out of range"),
}


@pytest.mark.parametrize(("broken", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_answer_is_refused(broken: EmbeddingResult, words: str) -> None:
    with pytest.raises(RelayError, match=words) as caught:
        checked(broken, 2)
    assert caught.value.fault is Fault.UPSTREAM_ERROR


def test_vectors_are_cut_and_have_length_1_again() -> None:
    settled = settle(result([3.0, 4.0, 12.0], [0.0, 0.0, 1.0], usage=Usage(prompt_tokens=1)), request(2))
    assert settled.vectors == [[0.6, 0.8], [0.0, 0.0]], "a vector of zeros stays as it is"
    assert (settled.pooling, settled.usage) == ("cls", Usage(prompt_tokens=1))


@pytest.mark.parametrize("dimensions", [None, 2])
def test_vectors_of_the_wanted_length_are_left_alone(dimensions: int | None) -> None:
    vectors = [[3.0, 4.0], [0.5, 0.5]]
    assert settle(result(*vectors), request(dimensions)).vectors == vectors


def test_more_dimensions_than_there_are_are_the_callers_mistake() -> None:
    with pytest.raises(InvalidRequest, match="'m' have 2") as caught:
        settle(result([1.0, 2.0]), request(3))
    assert caught.value.param == "dimensions"


def test_a_usage_that_nobody_told_is_estimated() -> None:
    assert settle(result([1.0], [1.0]), request()).usage == Usage(prompt_tokens=2 + 3, estimated=True)


def test_parts_are_joined_in_their_order() -> None:
    whole = join(
        [
            result([1.0], [2.0], usage=Usage(prompt_tokens=3, neurons=0.5)),
            result([3.0], usage=Usage(prompt_tokens=4, estimated=True)),
            result([4.0]),
        ]
    )
    assert (whole.vectors, whole.pooling) == ([[1.0], [2.0], [3.0], [4.0]], "cls")
    assert whole.usage == Usage(prompt_tokens=7, neurons=0.5, estimated=True)


def test_parts_of_unequal_lengths_do_not_make_a_whole() -> None:
    with pytest.raises(RelayError, match="unequal lengths"):
        join([result([1.0]), result([1.0, 2.0])])
