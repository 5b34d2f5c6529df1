"""The masks of constrained jobs, gathered for one step. A job whose constraint fails is named, and no other suffers."""

from __future__ import annotations

from typing import Any

import torch

from adapters.local.inference.request import Constraint
from adapters.local.inference.upload import send


def read_mask(constraint: Constraint, vocabulary: int, device: Any) -> Any:
    """Booleans [vocabulary] on the device. Raises ValueError for other shapes, and what the constraint raises."""
    mask = torch.as_tensor(constraint.mask())
    if mask.dtype == torch.bool and mask.shape == (vocabulary,):
        return send(mask, device)
    if mask.dtype == torch.int32 and mask.shape == ((vocabulary + 31) // 32,):
        mask = send(mask, device)
        bits = (mask[:, None] >> torch.arange(32, dtype=torch.int32, device=device)) & 1
        return bits.flatten()[:vocabulary].bool()
    raise ValueError(f"a constraint gave {mask.dtype} of shape {tuple(mask.shape)} for {vocabulary} tokens")


def gather_masks(
    constraints: dict[int, Constraint], vocabulary: int, device: Any
) -> tuple[dict[int, Any], dict[int, Exception]]:
    """The masks by row, and by row what was raised instead."""
    masks: dict[int, Any] = {}
    raised: dict[int, Exception] = {}
    for row, constraint in constraints.items():
        try:
            masks[row] = read_mask(constraint, vocabulary, device)
        except Exception as exc:  # noqa: BLE001 - it is another's code, and belongs to one job
            raised[row] = exc
    return masks, raised
