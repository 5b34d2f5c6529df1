"""Rotary embedding in one kernel, where models take ten; proved on numbers before it is believed.

The functions of transformers' models are alike in name, and in most but not all of them in what they do: some turn
neighbouring numbers, some a part of each head.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import torch

log = logging.getLogger(__name__)

_NAME = "apply_rotary_pos_emb"

Rotate = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
"""queries and keys [rows, heads, tokens, size], cosines and sines [rows, tokens, size] -> queries and keys."""


def fuse_rotary(model: Any) -> int:
    """Lets models of this kind, in this process, rotate by our kernel where that gives the same. Returns how many
    functions were replaced."""
    count = 0
    for name in {type(module).__module__ for module in model.modules()}:
        module = sys.modules[name]
        own = getattr(module, _NAME, None)
        if own is not None and not isinstance(own, Rotary):
            setattr(module, _NAME, Rotary(own))
            count += 1
    return count


class Rotary:
    """A model's own function, and in its place the kernel for tensors of which that was proved."""

    def __init__(self, own: Callable[..., Any], device: str = "cuda") -> None:
        """`device`: the kind that the kernel is for."""
        self._own = own
        self._device = device
        self._kernels: dict[tuple[Any, ...], Rotate | None] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs or not _is_usual(args) or args[0].device.type != self._device:
            return self._own(*args, **kwargs)
        query, key, cos, sin = args
        kind = (query.device, query.dtype, query.shape[1], key.shape[1], query.shape[-1])
        if kind not in self._kernels:
            self._kernels[kind] = _proved(self._own, query, key)
        return (self._kernels[kind] or self._own)(query, key, cos, sin)


def _is_usual(args: Any) -> bool:
    """Whether these are queries, keys, cosines and sines, in shapes and of a type that the kernel takes."""
    if [getattr(each, "ndim", None) for each in args] != [4, 4, 3, 3]:
        return False
    query, key, cos, sin = args
    rows, _, tokens, size = query.shape
    turns = (rows, tokens, size)
    return bool(
        (key.shape[0], key.shape[2], key.shape[3]) == cos.shape == sin.shape == turns
        and query.dtype == key.dtype == cos.dtype == sin.dtype
        and query.stride(3) == key.stride(3) == cos.stride(2) == sin.stride(2) == 1
    )


def _proved(own: Callable[..., Any], query: Any, key: Any) -> Rotate | None:
    try:
        from adapters.local.inference.kernels import rotate_heads  # noqa: PLC0415 - Triton is no part of the extra

        generator = torch.Generator().manual_seed(0)

        def numbers(*shape: int) -> Any:
            return (2 * torch.rand(shape, generator=generator) - 1).to(query.device, query.dtype)

        size = query.shape[-1]
        # Laid out as projections leave them; the halves of the cosines are unlike, which those of no model are.
        states = [numbers(2, 3, heads, size).transpose(1, 2) for heads in (query.shape[1], key.shape[1])]
        states += [numbers(2, 3, size), numbers(2, 3, size)]
        # Three roundings against one, of numbers below 2.
        tolerance = 4 * torch.finfo(query.dtype).eps
        for got, expected in zip(rotate_heads(*states), own(*states), strict=True):
            if not torch.allclose(got, expected, atol=tolerance, rtol=tolerance):
                raise ArithmeticError("it gives other numbers than the model's own")
    except Exception as exc:  # noqa: BLE001 - whatever a compiler or a driver may raise: there is the model's own way
        reason = str(exc).strip().partition("\n")[0]
        log.warning("heads are rotated as the model does it, since Triton's way fails: %s", reason)
        return None
    return rotate_heads
