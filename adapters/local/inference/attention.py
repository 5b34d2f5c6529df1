"""Attention of one token a row over a cache whose rows are filled to different lengths, registered with transformers.

A decode step on an accelerator gives the model no mask of every key, but the first and last key that each row may
see: integers of shape [rows, 1, 1, 2]. transformers hands a ready four-dimensional mask on as it is, so one function
tells the two kinds apart by their type.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

log = logging.getLogger(__name__)

NAME = "relay_rows"

DecodeAttention = Callable[[Any, Any, Any, Any, float], Any]
"""query [rows, heads, size], keys and values [rows, key heads, tokens, size], ranges [rows, 2], scale ->
[rows, heads, size]."""


def use_row_attention(model: Any) -> None:
    """From now on the model takes masks and ranges. It must have been loaded with "sdpa", which checks its kind."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)  # for those who give it no mask, such as `generate`
    model.set_attn_implementation(NAME)


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **kwargs: Any
) -> tuple[Any, None]:
    """transformers' protocol: states [rows, heads, tokens, size] -> [rows, tokens, heads, size]."""
    if attention_mask is None or attention_mask.dtype != torch.int32:
        answer: tuple[Any, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return answer
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    kernel = row_kernel(States.of(query, key, value))
    return kernel(query[:, :, 0], key, value, attention_mask[:, 0, 0], scaling)[:, None], None


class States(NamedTuple):
    """What a kernel is compiled for."""

    device: Any
    dtype: Any
    heads: int
    key_heads: int
    size: int
    value_size: int

    @classmethod
    def of(cls, query: Any, key: Any, value: Any) -> States:
        """`query` [rows, heads, ..., size], `key` and `value` [rows, key heads, tokens, size]."""
        return cls(query.device, query.dtype, query.shape[1], key.shape[1], key.shape[-1], value.shape[-1])


@cache
def row_kernel(states: States) -> DecodeAttention:
    """The best there is for them: our own on CUDA, where Triton is installed and it gives what it must."""
    return proved_kernel(states) or masked_rows if states.device.type == "cuda" else masked_rows


def proved_kernel(states: States) -> DecodeAttention | None:
    """Our kernel, after a trial on the very device, type and sizes; None where there is no Triton, no compiler for it,
    or not as much of the device as it takes."""
    try:
        from adapters.local.inference.kernels import attend_rows  # noqa: PLC0415 - Triton is no part of the extra

        _try(attend_rows, states)
    except Exception as exc:  # noqa: BLE001 - whatever a compiler or a driver may raise: there is another way
        reason = str(exc).strip().partition("\n")[0]
        log.warning(
            "attention by torch, which looks at more of the cache than it must, since Triton's fails: %s: %s",
            type(exc).__name__,
            reason,
        )
        return None
    return attend_rows


def _try(kernel: DecodeAttention, states: States) -> None:
    """Raises ArithmeticError where it gives other numbers than torch does on the CPU, or what it raises itself."""
    if states.size != states.value_size:
        raise ArithmeticError("it takes keys and values of one size")
    generator = torch.Generator().manual_seed(0)
    shape = (_TRIAL_ROWS, states.key_heads, _TRIAL_TOKENS, states.size)
    query = torch.randn((_TRIAL_ROWS, states.heads, states.size), generator=generator).to(states.dtype)
    key, value = torch.randn((2, *shape), generator=generator).to(states.dtype)
    ranges = torch.tensor([[0, _TRIAL_TOKENS - 1], [30, 70]], dtype=torch.int32)
    scale = states.size**-0.5
    expected = masked_rows(query.float(), key.float(), value.float(), ranges, scale)
    query, key, value, ranges = (part.to(states.device) for part in (query, key, value, ranges))
    got = kernel(query, key, value, ranges, scale).float().cpu()
    tolerance = max(1e-4, 8 * torch.finfo(states.dtype).eps)
    if not torch.allclose(got, expected, atol=tolerance, rtol=tolerance):
        raise ArithmeticError("it gives other numbers than torch")


_TRIAL_ROWS, _TRIAL_TOKENS = 2, 200


def masked_rows(query: Any, key: Any, value: Any, ranges: Any, scale: float) -> Any:
    """By torch alone. The heads that share keys are put side by side, so that no key is copied."""
    rows, heads, size = query.shape
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], size)
    at = torch.arange(key.shape[2], device=key.device)
    seen = (at >= ranges[:, :1]) & (at <= ranges[:, 1:])
    answer = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=seen[:, None, None], scale=scale
    )
    return answer.reshape(rows, heads, value.shape[-1])
