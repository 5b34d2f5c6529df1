"""From the hidden states of a text's tokens to one vector; the modes are those of sentence-transformers 6.2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.folder import DenseCard, Pooling

_ACTIVATIONS = {"Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid"}


def pool(states: Any, mask: Any, modes: tuple[Pooling, ...]) -> Any:
    """`states` [n, tokens, size] in float32 of texts that are padded at the right; `mask` [n, tokens] of booleans.

    Returns [n, size times the number of modes].
    """
    seen = mask[..., None]
    return torch.cat([_MODES[mode](torch.where(seen, states, 0), seen) for mode in modes], -1)


def _max(states: Any, seen: Any) -> Any:
    return states.masked_fill(~seen, -torch.inf).amax(1)


def _mean(states: Any, seen: Any) -> Any:
    return states.sum(1) / seen.sum(1)


def _mean_of_root(states: Any, seen: Any) -> Any:
    return states.sum(1) / seen.sum(1).sqrt()


def _weighted_mean(states: Any, seen: Any) -> Any:
    """Each token counts as often as its place in the text says, from 1."""
    weights = torch.arange(1, states.shape[1] + 1, device=states.device)[None, :, None] * seen
    return (states * weights).sum(1) / weights.sum(1)


def _last(states: Any, seen: Any) -> Any:
    return states[torch.arange(len(states), device=states.device), seen.sum(1)[:, 0] - 1]


_MODES: dict[Pooling, Callable[[Any, Any], Any]] = {
    "cls": lambda states, seen: states[:, 0],
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_of_root,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


def load_dense(folder: Path, card: DenseCard, device: Any) -> Any:
    """A layer after pooling, in float32. Raises UnsupportedModel."""
    if card.activation not in _ACTIVATIONS:
        raise UnsupportedModel(f"{card.folder}: an activation {card.activation} is not supported")
    path = folder / card.folder / "model.safetensors"
    if not path.exists():
        raise UnsupportedModel(f"{path} is not there; other files of weights are not read")
    linear = torch.nn.Linear(card.inputs, card.outputs, card.bias)
    try:
        linear.load_state_dict({name.removeprefix("linear."): t.float() for name, t in load_file(path).items()})
    except RuntimeError as exc:
        raise UnsupportedModel(f"{path} does not hold what its config.json says: {exc}") from exc
    return torch.nn.Sequential(linear, getattr(torch.nn, card.activation)()).to(device).eval()
