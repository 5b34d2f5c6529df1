"""Attention of one token a row: each path against a softmax written out."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapters.local.inference import attention
from adapters.local.inference.attention import States, attend, masked_rows, proved_kernel, row_kernel

Case = tuple[int, int, int, int]
CASES: dict[str, Case] = {
    "each head has its keys": (3, 4, 4, 32),
    "four heads share keys": (3, 8, 2, 64),
    "a size that is no power of two": (1, 6, 3, 24),
}
RANGES = [[0, 199], [17, 17], [40, 170]]


def states(case: Case) -> tuple[Any, Any, Any, Any]:
    """Not laid out one after the other: as the model and the cache give them."""
    rows, heads, key_heads, size = case
    generator = torch.Generator().manual_seed(1)
    query = torch.randn((rows, 1, heads, size), generator=generator).transpose(1, 2)
    key, value = torch.randn((2, rows + 2, key_heads, 260, size), generator=generator)[:, :rows, :, :200]
    return query, key, value, torch.tensor(RANGES[:rows], dtype=torch.int32)


def written_out(query: Any, key: Any, value: Any, ranges: Any) -> Any:
    """Row by row and head by head."""
    answer = torch.empty_like(query[:, :, 0])
    group = query.shape[1] // key.shape[1]
    for row, (first, last) in enumerate(ranges.tolist()):
        for head in range(query.shape[1]):
            keys, values = (part[row, head // group, first : last + 1] for part in (key, value))
            answer[row, head] = (keys @ query[row, head, 0] * query.shape[-1] ** -0.5).softmax(0) @ values
    return answer


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_row_sees_its_range(case: Case) -> None:
    query, key, value, ranges = states(case)
    expected = written_out(query, key, value, ranges)
    got = masked_rows(query[:, :, 0], key, value, ranges, query.shape[-1] ** -0.5)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    answer, weights = attend(None, query, key, value, ranges[:, None, None])
    torch.testing.assert_close(answer, expected[:, None], atol=1e-5, rtol=1e-4)
    assert weights is None


def of_zeros(query: Any, *others: Any) -> Any:
    return torch.zeros_like(query)


def of_a_broken_driver(*states: Any) -> Any:
    raise RuntimeError("Failed to find C compiler")


CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda:1", "mps"))


def kind(device: Any = CPU, **changes: Any) -> States:
    usual = {"dtype": torch.float16, "heads": 8, "key_heads": 2, "size": 64, "value_size": 64}
    return States(device=device, **(usual | changes))


KERNELS: dict[str, tuple[Any, States, str]] = {
    "no Triton": (None, kind(), "import of adapters.local.inference.kernels halted"),
    "no compiler": (of_a_broken_driver, kind(), "RuntimeError: Failed to find C compiler"),
    "wrong numbers": (of_zeros, kind(), "it gives other numbers than torch"),
    "values of another size": (masked_rows, kind(value_size=48), "it takes keys and values of one size"),
}


@pytest.mark.parametrize(("kernel", "states", "reason"), KERNELS.values(), ids=KERNELS)
def test_a_kernel_that_fails_its_trial_is_not_used_and_that_is_said(
    kernel: Any, states: States, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = kernel and SimpleNamespace(attend_rows=kernel)
    monkeypatch.setitem(sys.modules, "adapters.local.inference.kernels", module)
    with caplog.at_level(logging.WARNING):
        assert proved_kernel(states) is None
    assert reason in caplog.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_kernel_is_tried_in_the_very_type_and_sizes(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[States] = []

    def passes(query: Any, key: Any, value: Any, ranges: Any, scale: float) -> Any:
        tried.append(States.of(query, key, value))
        return masked_rows(query, key, value, ranges, scale)

    monkeypatch.setitem(sys.modules, "adapters.local.inference.kernels", SimpleNamespace(attend_rows=passes))
    states = kind(dtype=dtype, heads=6, key_heads=3, size=80, value_size=80)
    assert proved_kernel(states) is passes
    assert tried == [states]


def test_a_kernel_that_passes_its_trial_is_used_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "proved_kernel", lambda states: of_zeros)
    row_kernel.cache_clear()
    assert [row_kernel(kind(device)) for device in (CUDA, CPU, MPS)] == [of_zeros, masked_rows, masked_rows]
    row_kernel.cache_clear()
    monkeypatch.setattr(attention, "proved_kernel", lambda states: None)
    assert row_kernel(kind(CUDA)) is masked_rows
    row_kernel.cache_clear()


_INTERPRETED = """
import sys, torch
from adapters.local.inference import kernels
from adapters.local.inference.attention import proved_kernel
from tests.inference.with_torch.test_attention import CASES, kind, states, written_out

assert proved_kernel(kind()) is kernels.attend_rows
assert proved_kernel(kind(heads=9, key_heads=3, size=96, value_size=96)) is kernels.attend_rows
for processors in (1, 9, 132):  # one program a row and head, several, and more than there are blocks
    kernels._processors = lambda device: processors
    for case in CASES.values():
        query, key, value, ranges = states(case)
        expected = written_out(query, key, value, ranges)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3)):
            parts = (part.to(dtype) for part in (query[:, :, 0], key, value))
            got = kernels.attend_rows(*parts, ranges, query.shape[-1] ** -0.5)
            assert got.dtype == dtype
            torch.testing.assert_close(got.float(), expected, atol=tolerance, rtol=tolerance)
counts = [kernels.split_count(*n, 64) for n in ((8, 4096, 132), (512, 4096, 132), (8, 64, 132), (8, 9999, 9999))]
assert counts == [32, 1, 1, 64]
assert kernels.split_count(8, 64, 132, 16) == 4

from tests.inference.with_torch.test_rotary import rotated, turned
for dtype, tolerance in ((torch.float32, 1e-6), (torch.float16, 4e-3)):
    for size in (64, 80):
        parts = [part.to(dtype) for part in turned(size)]
        for got, expected in zip(kernels.rotate_heads(*parts), rotated(*parts), strict=True):
            assert got.dtype == dtype
            torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_the_kernels_give_what_is_written_out() -> None:
    """In Triton's interpreter, which has to be chosen before Triton is imported; it has no 16-bit `bfloat16`."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERPRETED],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
