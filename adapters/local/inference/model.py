"""One transformers model on one device, and the two passes that the engine makes: prefill and decode."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from adapters.local.inference.cache import RowCache
from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.masks import Masks
from adapters.local.inference.memory import keep_freed_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """How a model is loaded. `auto` is what device and folder suggest."""

    device: str = "auto"
    dtype: str = "auto"
    """A torch type's name; auto: as in the folder."""
    threads: int | None = None
    """Of the CPU; None: all cores but one, which is left to the event loop."""
    trust_remote_code: bool = False
    """Whether Python code in the folder may be run."""


class Piece(NamedTuple):
    """Some tokens of one prompt, to be computed for a row that holds `start` tokens already."""

    row: int
    start: int
    ids: list[int]


def load_model(folder: Path, options: ModelOptions) -> Any:
    """The model in `folder`, ready on its device. Raises UnsupportedModel.

    Takes seconds to minutes: not for the event loop. Nothing is downloaded.
    """
    torch.set_num_threads(options.threads or max(1, (os.cpu_count() or 2) - 1))
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=options.trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=_dtype(options.dtype),
            attn_implementation=_ATTENTION,
            local_files_only=True,
            trust_remote_code=options.trust_remote_code,
        )
    except (OSError, ValueError, ImportError) as exc:
        raise UnsupportedModel(f"{folder} cannot be loaded: {exc}") from exc
    model = model.to(best_device() if options.device == "auto" else options.device).eval()
    if model.device.type == "cpu":
        keep_freed_memory(ctypes.pythonapi)
    return model


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _dtype(name: str) -> Any:
    if name == "auto":
        return name
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UnsupportedModel(f"dtype: torch has no type {name!r}")
    return dtype


class BatchedModel:
    """A model with its cache. All of it is used by one thread, inside `torch.inference_mode()`."""

    def __init__(self, model: Any, *, rows: int, context: int | None = None) -> None:
        """`rows`: jobs at once; `context`: tokens of prompt and answer, at most and by default the model's own.

        Raises UnsupportedModel for models whose state is not keys and values alone.
        """
        config = model.config.get_text_config()
        longest = min(length for length in (context, own_context(config), sys.maxsize) if length)
        if longest == sys.maxsize:
            raise UnsupportedModel("the model does not say how long its context is")
        if model.config.is_encoder_decoder:
            raise UnsupportedModel("encoder-decoder models are not supported")
        kinds = DynamicCache(config=model.config).layers
        if other := {type(layer).__name__ for layer in kinds} - _KEYS_AND_VALUES:
            raise UnsupportedModel(f"a cache of kind {', '.join(sorted(other))} is not supported")
        if config._attn_implementation != _ATTENTION:
            raise UnsupportedModel(f"attention by {config._attn_implementation} takes other masks than ours")
        self.context = longest
        self.device = model.device
        alignment = _CPU_ALIGNMENT if self.device.type == "cpu" else _ALIGNMENT
        self.cache = RowCache(len(kinds), rows, self.context, alignment)
        self._model = model
        self._masks = Masks(config)
        with torch.inference_mode():
            self.vocabulary: int = self.prefill([Piece(0, 0, [0])]).shape[-1]
            self.cache.clear(0)

    def decode(self, ids: list[int], positions: list[int]) -> Any:
        """One token for each of the rows 0..n-1, at its own position. Returns logits [n, vocabulary]."""
        count = len(ids)
        at = torch.tensor(positions, device=self.device)[:, None]
        view = self.cache.view
        view.rows = slice(0, count)
        view.write_rows = torch.arange(count, device=self.device)[:, None]
        view.positions = at
        return self._forward(torch.tensor(ids, device=self.device)[:, None], at, max(positions) + 1)

    def prefill(self, pieces: list[Piece]) -> Any:
        """Some tokens of each of several prompts. Returns the logits after the last of each, [n, vocabulary].

        Shorter pieces are padded at the left; padding writes where nobody looks.
        """
        width = max(len(piece.ids) for piece in pieces)
        pads = [width - len(piece.ids) for piece in pieces]
        spans = [range(piece.start, piece.start + len(piece.ids)) for piece in pieces]
        ids = [[0] * pad + piece.ids for pad, piece in zip(pads, pieces, strict=True)]
        see = [[0] * pad + list(span) for pad, span in zip(pads, spans, strict=True)]
        write = [[self.cache.waste_position] * pad + list(span) for pad, span in zip(pads, spans, strict=True)]
        rows = [piece.row for piece in pieces]
        view = self.cache.view
        view.write_rows = torch.tensor(rows, device=self.device)[:, None]
        neighbours = rows == list(range(rows[0], rows[0] + len(rows)))
        view.rows = slice(rows[0], rows[0] + len(rows)) if neighbours else view.write_rows[:, 0]
        view.positions = torch.tensor(write, device=self.device)
        length = max(span.stop for span in spans)
        return self._forward(torch.tensor(ids, device=self.device), torch.tensor(see, device=self.device), length)

    def _forward(self, ids: Any, positions: Any, length: int) -> Any:
        length = self.cache.look(length)
        output = self._model(
            input_ids=ids,
            attention_mask=self._masks.of(positions, length),
            position_ids=positions,
            past_key_values=self.cache.transformers_cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]


def own_context(config: Any) -> int | None:
    """How many tokens the model can take, as long as nobody's length changes how others are computed.

    Two kinds of rotary embedding turn all tokens of a batch by other angles once the longest passes a limit.
    """
    own: int | None = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    if own and rope.get("rope_type") in {"dynamic", "longrope"}:
        for place in (rope, vars(config)):  # which of the two differs by model
            own = min(own, place.get("original_max_position_embeddings") or own)
    return own


_ATTENTION = "sdpa"
"""Takes a boolean mask, and does not repeat the keys of grouped queries while it decodes."""
# Tokens: the CPU reads what it looks at from memory, and knows no kernels that are made for a shape.
_CPU_ALIGNMENT, _ALIGNMENT = 16, 64
_KEYS_AND_VALUES = {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__}
