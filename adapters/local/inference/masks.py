"""Who may see what: ready boolean masks, which transformers takes as they are."""

from __future__ import annotations

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
        masks = {kind: full if kind == FULL else full & (key > query - self._window) for kind in self._kinds}
        return masks if len(masks) > 1 else next(iter(masks.values()))
