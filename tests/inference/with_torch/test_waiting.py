"""How often the host waits for the device: torch's device `meta` has shapes and no numbers, so that whatever would
have to know one before it goes on fails, and only the reading of tokens is let through."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from adapters.local.inference.model import BatchedModel, Piece
from adapters.local.inference.request import GREEDY, Job, Sampling
from adapters.local.inference.sampling import Sampler, SamplerState
from tests.inference.with_torch.tiny import ARCHITECTURES, CONTEXT, VOCABULARY, read, running, tiny

DEVICE = "meta"


def without_numbers(name: str = "Llama") -> Any:
    with torch.device(DEVICE):
        return transformers.AutoModelForCausalLM.from_config(tiny(name).config, dtype=torch.bfloat16).eval()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The shapes of what was fetched from the device, which holds zeros."""
    shapes: list[Any] = []

    def cpu(tensor: Any) -> Any:
        shapes.append(tuple(tensor.shape))
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu")

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    return shapes


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_step_can_be_recorded(name: str, reads: list[Any]) -> None:
    model = BatchedModel(without_numbers(name), rows=3, context=100, fixed=True)
    with torch.inference_mode():
        assert model.prefill([Piece(0, 0, [1, 2]), Piece(2, 5, [1])]).shape == (2, VOCABULARY)
        assert model.decode([1, 2], [3, 4]).shape == (2, VOCABULARY)
    assert reads == []


class Everything:
    """A constraint that forbids nothing."""

    def mask(self) -> Any:
        return torch.ones(VOCABULARY, dtype=torch.bool)

    def advance(self, token: int) -> bool:
        return False


SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"sampling": GREEDY},
    "drawn": {"sampling": Sampling(temperature=0.7)},
    "of the likeliest": {"sampling": Sampling(top_p=0.9, top_k=4, min_p=0.1)},
    "penalised": {"sampling": Sampling(presence_penalty=1, repetition_penalty=1.2)},
    "biased": {"sampling": Sampling(logit_bias={3: 1.0})},
    "constrained": {"constraint": Everything()},
    "with logprobs": {"logprobs": 3},
}


def test_a_token_of_every_kind_of_job_is_read_at_once(reads: list[Any]) -> None:
    sampler = Sampler(VOCABULARY, torch.device(DEVICE))
    states = [SamplerState(Job(prompt_ids=[1], max_tokens=9, **given)) for given in SETTINGS.values()]
    for state in states:
        sampler.join(state)
    with torch.inference_mode():
        answers = sampler.sample(torch.empty((len(states), VOCABULARY), device=DEVICE), states)
    assert len(answers) == len(states)
    assert len(reads) == 1


@pytest.mark.anyio
async def test_an_engine_waits_once_a_token(reads: list[Any]) -> None:
    async with running(without_numbers(), rows=2, context=CONTEXT, fixed=True) as engine:
        tokens, finish = await read(engine.submit(Job(prompt_ids=list(range(30)), max_tokens=7)))
    assert (len(tokens), finish.reason) == (7, "length")
    assert len(reads) == 7
