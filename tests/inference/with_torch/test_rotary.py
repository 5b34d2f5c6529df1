"""Rotary embedding in one kernel: only where it gives what the model's own function gives."""

from __future__ import annotations

import copy
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapters.local.inference.rotary import Rotary, fuse_rotary
from tests.inference.with_torch.tiny import ARCHITECTURES, VOCABULARY, tiny

NAME = "apply_rotary_pos_emb"


def turned(size: int = 64) -> list[Any]:
    """Queries and keys as projections leave them, cosines and sines of which each row has its own."""
    generator = torch.Generator().manual_seed(2)

    def numbers(*shape: int) -> Any:
        return torch.randn(shape, generator=generator)

    return [
        numbers(2, 5, 6, size).transpose(1, 2),
        numbers(2, 5, 3, size).transpose(1, 2),
        numbers(2, 5, size),
        numbers(2, 5, size),
    ]


def rotated(query: Any, key: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
    def one(states: Any) -> Any:
        first, second = states.float().chunk(2, -1)
        other = torch.cat([-second, first], -1)
        return (states.float() * cos[:, None].float() + other * sin[:, None].float()).to(states.dtype)

    return one(query), one(key)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """In Triton's place one that notes what it was given."""
    given: list[Any] = []

    def rotate(*states: Any) -> Any:
        given.append(states)
        return rotated(*states)

    module = SimpleNamespace(rotate_heads=rotate)
    monkeypatch.setitem(sys.modules, "adapters.local.inference.kernels", module)
    return given


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_computes_the_same(name: str, dtype: Any, kernel: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy.deepcopy(tiny(name)).to(dtype)
    module = sys.modules[type(model).__module__]
    ids = torch.arange(60)[None] % VOCABULARY
    with torch.inference_mode():
        before = model(input_ids=ids).logits.float()
        if own := getattr(module, NAME, None):
            monkeypatch.setattr(module, NAME, Rotary(own, "cpu"))
        after = model(input_ids=ids).logits.float()
    # GLM turns neighbours, in half of each head; GPT-2 has another way.
    assert bool(kernel) == (name not in {"GLM-4", "GPT-2"})
    tolerance = 1e-4 if dtype == torch.float32 else 0.2
    torch.testing.assert_close(after, before, atol=tolerance * float(before.abs().max()), rtol=tolerance)


def test_it_is_proved_once_and_only_for_what_it_is_made_for(kernel: list[Any]) -> None:
    calls: list[int] = []

    def own(query: Any, key: Any, cos: Any, sin: Any, unsqueeze_dim: int = 1) -> Any:
        calls.append(1)
        return rotated(query, key, cos, sin)

    query, key, cos, sin = turned()
    rotary = Rotary(own, "cpu")
    for _ in range(2):
        rotary(query, key, cos, sin)
    assert (len(calls), len(kernel)) == (1, 3)  # the trial, and two of them
    rotary(query, key, cos, sin, unsqueeze_dim=1)
    rotary(query, key, cos, sin, 1)
    rotary(query.double(), key.double(), cos, sin)
    Rotary(own)(query, key, cos, sin)  # not on CUDA
    assert (len(calls), len(kernel)) == (5, 3)


def test_functions_that_take_something_else_are_called_as_ever(kernel: list[Any]) -> None:
    query, key, cos, sin = turned()
    assert Rotary(lambda x, cos, sin: x + 1, "cpu")(query, cos, sin) is not None  # Gemma 4, one at a time
    assert Rotary(lambda x, cos, sin, dim: dim, "cpu")(query, cos, sin, 2) == 2
    assert Rotary(lambda q, k, cos, sin: "those", "cpu")(query, key, cos[:1], sin[:1]) == "those"
    assert Rotary(lambda q, k, cos, sin: "these", "cpu")(query, key, cos[..., :32], sin[..., :32]) == "these"
    spread = query.transpose(2, 3).contiguous().transpose(2, 3)
    assert Rotary(lambda q, k, cos, sin: "spread", "cpu")(spread, key, cos, sin) == "spread"
    assert kernel == []


def of_neighbours(query: Any, key: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
    """As GLM and Cohere: a number is turned with the one beside it."""

    def one(states: Any) -> Any:
        other = torch.stack([-states[..., 1::2], states[..., ::2]], -1).flatten(-2)
        return states * cos[:, None] + other * sin[:, None]

    return one(query), one(key)


def test_a_function_that_does_something_else_stays_and_that_is_said(
    kernel: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    states = turned()
    with caplog.at_level(logging.WARNING):
        for got, expected in zip(Rotary(of_neighbours, "cpu")(*states), of_neighbours(*states), strict=True):
            assert torch.equal(got, expected)
    assert "it gives other numbers than the model's own" in caplog.text


def test_without_triton_the_function_stays(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "adapters.local.inference.kernels", None)
    states = turned()
    with caplog.at_level(logging.WARNING):
        for got, expected in zip(Rotary(rotated, "cpu")(*states), rotated(*states), strict=True):
            assert torch.equal(got, expected)
    assert "since Triton's way fails" in caplog.text


def test_a_function_is_replaced_once_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[type(tiny()).__module__]
    monkeypatch.setattr(module, NAME, getattr(module, NAME))
    assert [fuse_rotary(tiny()), fuse_rotary(tiny()), fuse_rotary(tiny("GPT-2"))] == [1, 0, 0]
    assert isinstance(getattr(module, NAME), Rotary)
