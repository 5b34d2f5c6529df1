"""`adapters.local.inference.free`: what a cache may take, and what it takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import transformers

from adapters.local import model_config
from adapters.local.inference import free
from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.free import check_device, free_bytes, use_device
from adapters.local.inference.model import BatchedModel, own_context, token_bytes
from tests.inference.with_torch.tiny import ARCHITECTURES, SHAPE, tiny


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_token_takes_what_the_cache_is_made_with(name: str) -> None:
    model = tiny(name)
    cache = BatchedModel(model, rows=2, context=100).cache
    assert cache.nbytes == token_bytes(model) * 2 * cache.capacity


def test_keys_and_values_that_are_kept_otherwise_than_as_heads_are_counted_as_they_are() -> None:
    config = transformers.DeepseekV3Config(**SHAPE | SMALL_DEEPSEEK)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    cache = BatchedModel(model, rows=2, context=100).cache
    assert cache.nbytes == token_bytes(model) * 2 * cache.capacity


SMALL_DEEPSEEK = {
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 24,
}


ABSENT = {
    "cuda": "device cuda: torch finds 0 CUDA devices here",
    "cuda:1": "device cuda:1: torch finds 0 CUDA devices here",
    "mps": "device mps: torch finds none here",
}


@pytest.mark.parametrize(("name", "words"), ABSENT.items())
def test_a_device_that_is_not_there_is_refused(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UnsupportedModel, match=words):
        check_device(name)


def test_devices_that_are_there_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for name in ("auto", "cpu", "cuda", "cuda:1", "mps"):
        check_device(name)


def test_a_thread_takes_the_device_that_it_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name in ("cpu", "mps", "cuda", "cuda:1"):
        use_device(torch.device(name))
    assert taken == [torch.device("cuda:1")]


def test_a_gpus_free_memory_is_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(200))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (800 + sum(freed), 4000))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 3000)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 1000)
    assert free_bytes(torch.device("cuda:0")) == 1000
    assert free_bytes(torch.device("mps")) == 1800


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_folder_tells_without_torch_what_a_token_takes_and_how_many_there_are(name: str) -> None:
    model = tiny(name)
    config = json.loads(model.config.to_json_string(use_diff=False))
    assert model_config.token_bytes(config, "float32") == token_bytes(model)
    assert model_config.longest_context(config) == own_context(model.config)


def test_on_the_cpu_it_is_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free, "free_for_cache", lambda: 123)
    assert free_bytes(torch.device("cpu")) == 123
