"""What each row draws, against transformers' own warpers one row at a time, and against a plain forward pass."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest
import torch
import transformers

from adapters.local.inference.errors import JobFailed
from adapters.local.inference.request import GREEDY, Job, Sampling, Token
from adapters.local.inference.sampling import Sampler, SamplerState
from tests.inference.with_torch.tiny import VOCABULARY, ids_of, read, running, tiny

SETTINGS = {
    "plain": Sampling(),
    "hot": Sampling(temperature=1.7),
    "almost greedy": Sampling(temperature=1e-5),
    "as good as greedy": Sampling(temperature=1e-40),
    "top-k": Sampling(top_k=5),
    "more than there is": Sampling(top_k=10_000),
    "top-p": Sampling(top_p=0.6),
    "no top-p at all": Sampling(top_p=0.0),
    "min-p": Sampling(min_p=0.2),
    "all filters": Sampling(temperature=0.8, top_k=30, top_p=0.9, min_p=0.05),
    "greedy": GREEDY,
    "greedy by top-k": Sampling(top_k=1),
    "repetition": Sampling(repetition_penalty=1.5, temperature=0.0),
    "presence and frequency": Sampling(presence_penalty=0.7, frequency_penalty=0.4, temperature=0.9),
    "bias": Sampling(logit_bias={3: 9.0, 4: -100.0}, temperature=0.5),
}
PROMPT = [5, 6, 7, 5]
STEPS = 6


def expected(logits: Any, sampling: Sampling, tokens: list[int], u: float) -> int:
    """One row by transformers' processors: slow, and written by others."""
    scores = logits[None].clone()
    ids = torch.tensor([tokens])
    if sampling.repetition_penalty != 1:
        scores = transformers.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(ids, scores)
    answer = tokens[len(PROMPT) :]
    for token in set(answer):
        scores[0, token] -= sampling.presence_penalty + sampling.frequency_penalty * answer.count(token)
    for token, bias in sampling.logit_bias.items():
        scores[0, token] += bias
    if sampling.temperature < 1e-9:
        return int(scores.argmax())
    scores = (scores - scores.max()).double() / sampling.temperature
    if sampling.top_k:
        scores = transformers.TopKLogitsWarper(sampling.top_k)(ids, scores)
    if sampling.top_p < 1:
        scores = transformers.TopPLogitsWarper(sampling.top_p)(ids, scores)
    if sampling.min_p:
        scores = transformers.MinPLogitsWarper(sampling.min_p)(ids, scores)
    cumulated = scores.softmax(-1).cumsum(-1)[0]
    return int(torch.searchsorted(cumulated, u * cumulated[-1], right=True))


@pytest.mark.parametrize("seed", range(4))
def test_each_row_of_a_mixed_batch_draws_as_if_it_were_alone(seed: int) -> None:
    sampler = Sampler(VOCABULARY, "cpu")
    generator = torch.Generator().manual_seed(seed)
    settings = [Sampling(**{**_fields(s), "seed": seed + i}) for i, s in enumerate(SETTINGS.values())]
    states = [SamplerState(Job(prompt_ids=PROMPT, max_tokens=STEPS, sampling=s)) for s in settings]
    numbers = [random.Random(s.seed) for s in settings]
    tokens = [list(PROMPT) for _ in settings]
    for state in states:
        sampler.join(state)
    for _ in range(STEPS):
        logits = torch.randn(len(settings), VOCABULARY, generator=generator) * 3
        logits[:, 5:9] += 4  # so that penalties have something to do
        got = sampler.sample(logits, states)
        for i, sampling in enumerate(settings):
            u = 0.0 if sampling.greedy else numbers[i].getrandbits(24) / 2**24
            want = expected(logits[i], sampling, tokens[i], u)
            assert got[i] == Token(want), list(SETTINGS)[i]
            tokens[i].append(want)
    for state in states:
        sampler.leave(state)


@pytest.mark.parametrize("bits", [0, 2**24 - 1], ids=["smallest", "largest"])
def test_a_token_without_a_chance_is_never_drawn(bits: int) -> None:
    class Fixed(random.Random):
        def getrandbits(self, k: int, /) -> int:
            return bits

    sampler = Sampler(VOCABULARY, "cpu")
    states = [SamplerState(Job(prompt_ids=[1], max_tokens=1, sampling=Sampling())) for _ in range(2)]
    logits = torch.full((2, VOCABULARY), -torch.inf)
    logits[0, 50] = logits[1, 60:80] = 1.0
    for state in states:
        state.random = Fixed()
    assert sampler.sample(logits, states) == [Token(50), Token(79 if bits else 60)]


def _fields(sampling: Sampling) -> dict[str, Any]:
    return {name: getattr(sampling, name) for name in sampling.__slots__}


def test_a_line_of_the_penalty_table_is_clean_for_its_next_job() -> None:
    sampler = Sampler(VOCABULARY, "cpu")
    sampling = Sampling(temperature=0.0, presence_penalty=2.0, repetition_penalty=2.0)
    logits = torch.zeros(1, VOCABULARY)
    logits[0, 9], logits[0, 8] = 1.5, 1.0
    for _ in range(20):  # more than the table has lines at first
        state = SamplerState(Job(prompt_ids=[3], max_tokens=2, sampling=sampling))
        sampler.join(state)
        assert [sampler.sample(logits, [state]) for _ in range(2)] == [[Token(9)], [Token(8)]]
        sampler.leave(state)


def test_the_penalty_table_grows_with_the_jobs() -> None:
    sampler = Sampler(VOCABULARY, "cpu")
    sampling = Sampling(temperature=0.0, presence_penalty=2.0)
    states = [SamplerState(Job(prompt_ids=[3], max_tokens=2, sampling=sampling)) for _ in range(20)]
    logits = torch.zeros(20, VOCABULARY)
    logits[:, 9] = 1.5
    logits[torch.arange(20), torch.arange(20) + 20] = 1.0
    for state in states:
        sampler.join(state)
    assert sampler.sample(logits, states) == [Token(9)] * 20
    assert sampler.sample(logits, states) == [Token(i + 20) for i in range(20)]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_row_without_finite_numbers_fails_alone(number: float) -> None:
    sampler = Sampler(VOCABULARY, "cpu")
    states = [
        SamplerState(Job(prompt_ids=[1], max_tokens=1, sampling=Sampling(seed=i, top_p=0.9, presence_penalty=0.1)))
        for i in range(2)
    ]
    for state in states:
        sampler.join(state)
    logits = torch.zeros(2, VOCABULARY)
    logits[0, 17] = number
    bad, good = sampler.sample(logits, states)
    assert isinstance(bad, JobFailed)
    assert isinstance(good, Token)


def test_half_precision_draws_and_tells_in_full_precision() -> None:
    sampler = Sampler(VOCABULARY, "cpu")
    logits = torch.zeros(1, VOCABULARY, dtype=torch.bfloat16)
    (token,) = sampler.sample(logits, [SamplerState(Job(prompt_ids=[1], max_tokens=1, logprobs=0))])
    assert isinstance(token, Token)
    assert token.logprob == pytest.approx(-torch.log(torch.tensor(float(VOCABULARY))).item(), abs=1e-6)
    assert token.alternatives == ()


@pytest.mark.anyio
async def test_logprobs_are_those_of_a_plain_forward_pass_whatever_is_sampled() -> None:
    prompt = list(range(20, 60))
    sampling = Sampling(temperature=2.0, top_k=40, seed=5, logit_bias={7: 3.0}, presence_penalty=1.0)
    async with running() as engine:
        other = engine.submit(Job(prompt_ids=prompt[::-1], max_tokens=30, logprobs=0))
        none = engine.submit(Job(prompt_ids=prompt, max_tokens=30))
        tokens, _ = await read(engine.submit(Job(prompt_ids=prompt, max_tokens=15, sampling=sampling, logprobs=4)))
        assert {len(token.alternatives) for token in (await read(other))[0]} == {0}
        assert {token.logprob for token in (await read(none))[0]} == {None}
    ids = prompt + [token.id for token in tokens]
    with torch.inference_mode():
        logprobs = tiny()(input_ids=torch.tensor([ids])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    for row, token in zip(logprobs, tokens, strict=True):
        best = row.topk(4)
        assert token.logprob == pytest.approx(row[token.id].item(), abs=1e-4)
        assert [i for i, _ in token.alternatives] == best.indices.tolist()
        assert [value for _, value in token.alternatives] == pytest.approx(best.values.tolist(), abs=1e-4)


@pytest.mark.anyio
async def test_a_seeded_job_has_the_same_answer_whatever_else_is_under_way() -> None:
    settings = [
        Sampling(seed=11),
        Sampling(seed=12, top_p=0.8, temperature=1.3),
        Sampling(seed=13, top_k=20, repetition_penalty=1.2, frequency_penalty=0.3),
    ]
    jobs = [Job(prompt_ids=list(range(i, 150, 7)), max_tokens=25, sampling=s) for i, s in enumerate(settings)]
    async with running(rows=1) as engine:
        alone = [await ids_of(engine, job) for job in jobs]
    choice = random.Random(4)
    answers: dict[int, list[int]] = {}

    async def ask(i: int) -> None:
        answers[i] = await ids_of(engine, jobs[i])

    async def load(i: int) -> None:
        sampling = choice.choice([GREEDY, Sampling(top_p=0.5), Sampling(min_p=0.1, presence_penalty=1.0)])
        prompt = [choice.randrange(VOCABULARY) for _ in range(choice.randrange(1, 60))]
        stream = engine.submit(Job(prompt_ids=prompt, max_tokens=choice.randrange(1, 40), sampling=sampling))
        for _ in range(choice.randrange(1, 20)):
            if (await anext(stream)).finish:
                return
        stream.cancel()

    for _ in range(3):
        async with running(rows=6) as engine, anyio.create_task_group() as group:
            for i in range(24):
                group.start_soon(load, i)
                if i % 8 == 4:
                    group.start_soon(ask, i // 8)
                await anyio.sleep(0.002)
        assert [answers[i] for i in range(3)] == alone


@pytest.mark.anyio
async def test_without_a_seed_answers_differ() -> None:
    job = Job(prompt_ids=[1, 2, 3], max_tokens=20, sampling=Sampling(temperature=2.0))
    async with running() as engine:
        assert await ids_of(engine, job) != await ids_of(engine, job)
