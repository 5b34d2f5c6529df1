"""`adapters.local.inference.free`: what a cache may take, and what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters.local.inference import free
from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.free import check_device, free_bytes, token_bytes
from adapters.local.inference.model import BatchedModel
from tests.inference.with_torch.tiny import ARCHITECTURES, tiny


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_token_takes_what_the_cache_is_made_with(name: str) -> None:
    model = tiny(name)
    cache = BatchedModel(model, rows=2, context=100).cache
    assert cache.nbytes == token_bytes(model) * 2 * cache.capacity


def test_quantised_weights_compute_in_another_type() -> None:
    class Quantised:
        config = tiny().config
        dtype = torch.int8

    assert token_bytes(Quantised()) * 2 == token_bytes(tiny())


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


def test_most_of_a_gpus_free_memory_is_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 4000))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 3000)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 1000)
    assert free_bytes(torch.device("cuda:0")) == 900
    assert free_bytes(torch.device("mps")) == 1800


LIMITS = {
    "no limit": ({"memory.max": "max\n", "memory.current": "5\n"}, 4000 * 512),
    "no group": ({}, 4000 * 512),
    "a container's": ({"memory.max": "3000\n", "memory.current": "1000\n"}, 1000),
    "one that is passed": ({"memory.max": "3000\n", "memory.current": "4000\n"}, 0),
}


@pytest.mark.parametrize(("files", "bytes"), LIMITS.values(), ids=LIMITS)
def test_the_half_of_what_the_machine_or_the_container_leaves(
    files: dict[str, str], bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    monkeypatch.setattr(free, "_CGROUP", tmp_path)
    monkeypatch.setattr(free, "_MEMORY", tmp_path / "meminfo")
    assert free_bytes(torch.device("cpu")) == bytes


def test_without_linux_it_is_the_half_of_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free, "_MEMORY", tmp_path / "none")
    monkeypatch.setattr(free, "_CGROUP", tmp_path)
    assert free_bytes(torch.device("cpu")) > 2**26
