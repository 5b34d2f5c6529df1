"""Who may see what: ready boolean masks, which transformers takes as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from adapters.local.inference.errors import UnsupportedModel

FULL = "full_attention"
SLIDING = "sliding_attention"


class Masks:
    """Makes a step's mask: one tensor, or one for each kind of layer where the model mixes kinds."""

    def __init__(self, config: Any) -> None:
        """`config` is the text part of a model's configuration. Raises UnsupportedModel for other attention."""
        window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or [SLIDING if window else FULL])
        if unknown := kinds - {FULL, SLIDING}:
            raise UnsupportedModel(f"layers of kind {', '.join(sorted(unknown))} are not supported")
        self._kinds = kinds
        self._window = window

    def of(self, positions: Any, length: int) -> Any:
        """`positions` [n, tokens] of the queries; keys are 0..length-1. Each mask is [n, 1, tokens, length]."""
        query = positions[:, None, :, None]
        key = torch.arange(length, device=positions.device)
        full = key <= query
        return self._by_kind(lambda window: full & (key > query - window) if window else full)

    def ranges(self, positions: Any) -> Any:
        """`positions` [n, 1] of the queries; the first and the last key that each sees, [n, 1, 1, 2] of int32."""
        last = positions[:, :, None, None].int()

        def of(window: int | None) -> Any:
            first = (last - (window - 1)).clamp(min=0) if window else torch.zeros_like(last)
            return torch.cat([first, last], -1)

        return self._by_kind(of)

    def _by_kind(self, make: Callable[[int | None], Any]) -> Any:
        masks = {kind: make(self._window if kind == SLIDING else None) for kind in self._kinds}
        return masks if len(masks) > 1 else next(iter(masks.values()))
