"""What a job must be, and the numbers that the engine tells; needs no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adapters.local.inference.errors import InvalidJob, PromptTooLong
from adapters.local.inference.request import Job, Sampling, check_job, siblings
from adapters.local.inference.stats import Meter

JOB = Job(prompt_ids=[1, 2], max_tokens=3)
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no tokens": ({"max_tokens": 0}, {}, "max_tokens: must be at least 1"),
    "negative logprobs": ({"logprobs": -1}, {}, "logprobs: must be in 0..10"),
    "more logprobs than tokens": ({"logprobs": 11}, {}, "logprobs: must be in 0..10"),
    "unknown token": ({"prompt_ids": [1, 10]}, {}, "prompt_ids: a token is not in 0..9"),
    "empty": ({"prompt_ids": []}, {}, "prompt_ids: a prompt has at least one token"),
    "cold": ({}, {"temperature": -0.1}, "temperature: must be in 0..100"),
    "no number": ({}, {"temperature": float("nan")}, "temperature: must be in 0..100"),
    "top-p": ({}, {"top_p": 1.1}, "top_p: must be in 0..1"),
    "penalty": ({}, {"repetition_penalty": 0}, "repetition_penalty: must be in 0.01..100"),
    "bias on nothing": ({}, {"logit_bias": {10: 1.0}}, "logit_bias: token 10 is not in 0..9"),
    "infinite bias": ({}, {"logit_bias": {1: float("inf")}}, "logit_bias: must be finite"),
}


@pytest.mark.parametrize(("job", "sampling", "message"), REFUSED.values(), ids=REFUSED)
def test_what_could_only_fail_later_is_refused(job: dict[str, Any], sampling: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        check_job(replace(JOB, sampling=Sampling(**sampling), **job), vocabulary=10, context=100)
    assert str(caught.value) == message


def test_a_prompt_leaves_room_for_one_token_at_least() -> None:
    check_job(replace(JOB, prompt_ids=[1] * 99, logprobs=10), vocabulary=10, context=100)
    with pytest.raises(PromptTooLong) as caught:
        check_job(replace(JOB, prompt_ids=[1] * 100), vocabulary=10, context=100)
    assert (caught.value.tokens, caught.value.limit) == (100, 100)


class Free:
    mask = advance = staticmethod(bool)


def test_siblings_have_seeds_and_constraints_of_their_own() -> None:
    seeded = replace(JOB, sampling=Sampling(seed=7))
    assert [job.sampling.seed for job in siblings(seeded, 3)] == [7, 8, 9]
    assert siblings(JOB, 2) == [JOB, JOB]
    mine = [Free(), Free()]
    assert [job.constraint for job in siblings(replace(JOB, constraint=Free()), 2, mine)] == mine
    with pytest.raises(InvalidJob, match="constraint: 2 answers need as many constraints"):
        siblings(replace(JOB, constraint=Free()), 2)


def test_a_rate_is_that_of_the_last_ten_seconds() -> None:
    meter = Meter()
    assert meter.rate(5.0) == 0.0
    for second in range(20):
        meter.count(float(second), 4)
    assert meter.rate(20.0) == pytest.approx(4 * 9 / 9)
    assert meter.rate(40.0) == 0.0
    assert meter.total == 80


def test_what_is_too_old_for_a_rate_is_forgotten_though_nobody_asks() -> None:
    meter = Meter()
    for step in range(100_000):
        meter.count(step / 10, 1)
    assert len(meter._steps) <= 101
    assert meter.rate(10_000.0) == pytest.approx(10, rel=0.02)
    assert meter.total == 100_000
