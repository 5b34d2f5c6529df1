"""`adapters.local.serving.sampling`: what a request and its model's authors say of choosing tokens."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.canonical import ChatRequest, Message
from adapters.errors import InvalidRequest
from adapters.local.inference.request import Sampling
from adapters.local.serving.sampling import recommended, sampling_of

RECOMMENDED: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "nothing": ({}, {}),
    "all": (
        {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05, "do_sample": True},
        {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05},
    ),
    "what makes no sense": ({"temperature": "hot", "top_p": 7, "top_k": None, "min_p": True}, {}),
}


@pytest.mark.parametrize(("generation", "expected"), RECOMMENDED.values(), ids=RECOMMENDED)
def test_the_authors_recommend(generation: dict[str, Any], expected: dict[str, float]) -> None:
    assert recommended(generation) == expected


def asking(**fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(Message(role="user", content="Hi"),), **fields)


ASKED: dict[str, tuple[dict[str, Any], Sampling]] = {
    "nothing": ({}, Sampling(temperature=0.6, top_k=20)),
    "something else": ({"temperature": 0.0, "top_p": 0.5}, Sampling(temperature=0.0, top_p=0.5, top_k=20)),
    "penalties": (
        {"presence_penalty": 1.0, "frequency_penalty": -1.0, "repetition_penalty": 1.2},
        Sampling(temperature=0.6, top_k=20, presence_penalty=1.0, frequency_penalty=-1.0, repetition_penalty=1.2),
    ),
    "a negative seed": ({"seed": -1}, Sampling(temperature=0.6, top_k=20, seed=2**64 - 1)),
    "a bias": ({"logit_bias": {"5": 1.5}}, Sampling(temperature=0.6, top_k=20, logit_bias={5: 1.5})),
    "a bias for the first token": (
        {"logit_bias": {"0": 1.0, "99": 2.0}},
        Sampling(temperature=0.6, top_k=20, logit_bias={0: 1.0, 99: 2.0}),
    ),
}


@pytest.mark.parametrize(("fields", "expected"), ASKED.values(), ids=ASKED)
def test_a_request_wins_over_what_is_recommended(fields: dict[str, Any], expected: Sampling) -> None:
    assert sampling_of(asking(**fields), {"temperature": 0.6, "top_k": 20}, 100) == expected


@pytest.mark.parametrize("key", ["word", "", "-1", "100", "1e1", "٣", "9" * 5000, "0" * 5000 + "7", "07", "00", "7\n"])
def test_a_bias_for_no_token_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sampling_of(asking(logit_bias={key: 1.0}), {}, 100)
    assert caught.value.param == "logit_bias"


def test_so_many_tokens_may_have_a_bias_that_nobody_waits_for_them() -> None:
    biases = {str(token): -1.0 for token in range(301)}
    with pytest.raises(InvalidRequest, match="it has 301 tokens; 300 are the most") as caught:
        sampling_of(asking(logit_bias=biases), {}, 1000)
    assert caught.value.param == "logit_bias"
    del biases["300"]
    assert len(sampling_of(asking(logit_bias=biases), {}, 1000).logit_bias) == 300
