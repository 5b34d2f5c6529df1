"""Greedy answers are those of `generate`, whoever else is in the batch, on every architecture."""

from __future__ import annotations

import copy
import random

import anyio
import pytest

from adapters.local.inference.request import Job
from tests.inference.with_torch.tiny import ARCHITECTURES, VOCABULARY, generated, running, tiny

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("fixed", [False, True], ids=["as they come", "in few shapes"])
@pytest.mark.parametrize("name", ARCHITECTURES)
async def test_staggered_requests_get_what_generate_gives_each_alone(name: str, fixed: bool) -> None:
    choice = random.Random(name)
    prompts = [[choice.randrange(VOCABULARY) for _ in range(choice.choice([1, 7, 40, 70, 90]))] for _ in range(7)]
    counts = [choice.randrange(6, 30) for _ in prompts]
    answers: dict[int, list[int]] = {}

    async def ask(i: int, begun: anyio.Event) -> None:
        answers[i] = []
        async for step in engine.submit(Job(prompt_ids=prompts[i], max_tokens=counts[i])):
            assert step.token is not None
            answers[i].append(step.token.id)
            if len(answers[i]) == 4:
                begun.set()

    model = copy.deepcopy(tiny(name)) if fixed else tiny(name)  # the one's attention is changed
    async with running(model, rows=3, fixed=fixed) as engine, anyio.create_task_group() as group:
        for i in range(len(prompts)):
            begun = anyio.Event()
            group.start_soon(ask, i, begun)
            if i % 2:  # pairs come at once, and the next while they are under way
                await begun.wait()
    assert [answers[i] for i in range(7)] == [generated(tiny(name), p, n) for p, n in zip(prompts, counts, strict=True)]
