"""Norms in one kernel: only where they give what the model's own give."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from adapters.local.inference.norms import fuse_norms
from tests.inference.with_torch.tiny import ARCHITECTURES, VOCABULARY, tiny

# Layers are three; some have norms of queries and keys too, or four to a layer, and GPT-2 has another kind.
COUNTS = {"Llama": 7, "Qwen3": 13, "Gemma 3, mixed": 19, "GLM-4": 13, "GPT-2": 0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_computes_the_same_with_fused_norms(name: str, dtype: Any) -> None:
    model = copy.deepcopy(tiny(name)).to(dtype)
    with torch.no_grad():
        for module in model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.weight.normal_(0.5, 0.5)  # as left by training, and not the ones or zeros of the start
    ids = torch.arange(60)[None] % VOCABULARY
    with torch.inference_mode():
        before = model(input_ids=ids).logits.float()
        count = fuse_norms(model)
        after = model(input_ids=ids).logits.float()
    assert count == COUNTS.get(name, count)
    assert (count > 0) == (name != "GPT-2")
    tolerance = 1e-4 if dtype == torch.float32 else 0.2
    torch.testing.assert_close(after, before, atol=tolerance * float(before.abs().max()), rtol=tolerance)


class OtherRMSNorm(torch.nn.Module):  # type: ignore[misc]  # torch's types are not read
    """Looks like one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((8,), 2.0))
        self.eps = 1e-6

    def forward(self, states: Any) -> Any:
        return states * self.weight


class GatedRMSNorm(OtherRMSNorm):
    def forward(self, states: Any, gate: Any) -> Any:  # type: ignore[override]  # some models have it so
        return states * gate


class BareRMSNorm(torch.nn.Module):  # type: ignore[misc]  # as above
    pass


@pytest.mark.parametrize("kind", [OtherRMSNorm, GatedRMSNorm, BareRMSNorm])
def test_what_only_is_called_so_is_left_alone(kind: type[torch.nn.Module]) -> None:
    assert fuse_norms(torch.nn.Sequential(kind())) == 0
