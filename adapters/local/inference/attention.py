"""Attention of one token a row over a cache whose rows are filled to different lengths, registered with transformers.

A decode step on an accelerator gives the model no mask of every key, but the first and last key that each row may
see: integers of shape [rows, 1, 1, 2]. transformers hands a ready four-dimensional mask on as it is, so one function
tells the two kinds apart by their type.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

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
    kernel = row_kernel(query.device.type)
    return kernel(query[:, :, 0], key, value, attention_mask[:, 0, 0], scaling)[:, None], None


@cache
def row_kernel(device: str) -> DecodeAttention:
    """The best there is for a kind of device: our own on CUDA, where Triton is installed and it gives what it must."""
    return proved_kernel(device) or masked_rows if device == "cuda" else masked_rows


def proved_kernel(device: str) -> DecodeAttention | None:
    """Our kernel, after a trial on this device; None where there is no Triton, or no compiler for it."""
    try:
        from adapters.local.inference.kernels import attend_rows  # noqa: PLC0415 - Triton is no part of the extra

        generator = torch.Generator().manual_seed(0)
        query = torch.randn((2, 8, 128), generator=generator).to(device, torch.float16)
        key, value = torch.randn((2, 2, 2, 200, 128), generator=generator).to(device, torch.float16)
        ranges = torch.tensor([[0, 199], [30, 70]], dtype=torch.int32, device=device)
        got = attend_rows(query, key, value, ranges, 0.1)
        if not torch.allclose(got, masked_rows(query, key, value, ranges, 0.1), atol=5e-3, rtol=5e-3):
            raise ArithmeticError("it gives other numbers than torch")
    except Exception as exc:  # noqa: BLE001 - whatever a compiler or a driver may raise: there is another way
        log.warning("attention by torch, which looks at the whole cache in every step, since Triton's fails: %s", exc)
        return None
    return attend_rows


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
