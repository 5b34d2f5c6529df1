"""One transformers model on one device, and the two passes that the engine makes: prefill and decode."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from adapters.local.inference.attention import NAME, States, masked_rows, row_kernel, use_row_attention
from adapters.local.inference.cache import RowCache
from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.graphs import GraphRecorder
from adapters.local.inference.loading import ATTENTION
from adapters.local.inference.masks import Masks
from adapters.local.inference.norms import fuse_norms
from adapters.local.inference.rotary import fuse_rotary
from adapters.local.inference.steps import FixedSteps, PlainSteps, Recorder, doubling
from adapters.local.inference.upload import upload


class Piece(NamedTuple):
    """Some tokens of one prompt, to be computed for a row that holds `start` tokens already."""

    row: int
    start: int
    ids: list[int]


class BatchedModel:
    """A model with its cache. All of it is used by one thread, inside `torch.inference_mode()`."""

    def __init__(
        self, model: Any, *, rows: int, context: int | None = None, fixed: bool | None = None, graphs: bool = True
    ) -> None:
        """`rows`: jobs at once; `context`: tokens of prompt and answer, at most and by default the model's own.

        `fixed`: whether steps come in few shapes; None: on CUDA, where `graphs` has them recorded. The model is
        changed then: its attention becomes ours. Raises UnsupportedModel for models whose state is not keys and
        values alone.
        """
        self.device = model.device
        self.runs_ahead = self.device.type != "cpu"
        """Whether a pass has only begun on the device when the call is back."""
        cuda = self.device.type == "cuda"
        fixed = cuda if fixed is None else fixed
        config = model.config.get_text_config()
        self.context = _context(config, context)
        kinds = check_kind(model)
        alignment = _CPU_ALIGNMENT if self.device.type == "cpu" else _ALIGNMENT
        self.cache = RowCache(len(kinds), rows, self.context, alignment)
        self._model = model
        self._masks = Masks(config)
        self._steps: PlainSteps | FixedSteps
        with torch.inference_mode():
            self.vocabulary: int = self.prefill([Piece(0, 0, [0])]).shape[-1]
            self.cache.clear(0, 1)
            if not fixed:
                self._steps = PlainSteps(self._decode, self.cache.aligned, self.device)
                return
            if cuda:
                fuse_norms(model)
                fuse_rotary(model)
            use_row_attention(model)
            self._steps = self._fixed_steps(GraphRecorder() if cuda and graphs else lambda step: step)
            self._steps.record_all()

    def _fixed_steps(self, record: Recorder) -> FixedSteps:
        capacity = self.cache.capacity
        heads = self._model.config.get_text_config().num_attention_heads
        filled = [(layer.keys, layer.values) for layer in self.cache.layers if layer.is_initialized]
        kinds = {
            States(keys.device, keys.dtype, heads, keys.shape[1], keys.shape[3], values.shape[3])
            for keys, values in filled
        }
        # Our kernel reads what a row sees, however much it is given; torch's reads all that it is given.
        ours = all([row_kernel(kind) is not masked_rows for kind in kinds])
        lengths = [capacity] if ours else doubling(256, capacity)
        return FixedSteps(
            self._decode_ranges,
            rows=self.cache.count,
            lengths=lengths,
            waste_position=self.cache.waste_position,
            device=self.device,
            record=record,
        )

    def decode(self, ids: list[int], positions: list[int]) -> Any:
        """One token for each of the rows 0..n-1, at its own position.

        Returns logits [n, vocabulary], good until the next call.
        """
        return self._steps.decode(ids, positions)

    def prefill(self, pieces: list[Piece]) -> Any:
        """Some tokens of each of several prompts. Returns the logits after the last of each, [n, vocabulary].

        Shorter pieces are padded at the left; padding writes where nobody looks.
        """
        parts = split_pieces(pieces)
        logits = [self._prefill(part) for part in parts]
        return logits[0] if len(parts) == 1 else torch.cat(logits)

    def _prefill(self, pieces: list[Piece]) -> Any:
        width = max(len(piece.ids) for piece in pieces)
        pads = [width - len(piece.ids) for piece in pieces]
        spans = [range(piece.start, piece.start + len(piece.ids)) for piece in pieces]
        ids = [[0] * pad + piece.ids for pad, piece in zip(pads, pieces, strict=True)]
        see = [[0] * pad + list(span) for pad, span in zip(pads, spans, strict=True)]
        write = [[self.cache.waste_position] * pad + list(span) for pad, span in zip(pads, spans, strict=True)]
        rows = [piece.row for piece in pieces]
        inputs = upload([ids, see, write], self.device)
        places = upload(rows, self.device)
        view = self.cache.view
        neighbours = rows == list(range(rows[0], rows[0] + len(rows)))
        view.rows = slice(rows[0], rows[0] + len(rows)) if neighbours else places
        view.write_rows = places[:, None]
        view.positions = inputs[2]
        view.length = self.cache.aligned(max(span.stop for span in spans))
        return self._forward(inputs[0], inputs[1], self._masks.of(inputs[1], view.length))

    def _decode(self, ids: Any, see: Any, write: Any, length: int) -> Any:
        self._view_first(len(ids), write, length)
        return self._forward(ids, see, self._masks.of(see, length))

    def _decode_ranges(self, ids: Any, see: Any, write: Any, length: int) -> Any:
        self._view_first(len(ids), write, length)
        return self._forward(ids, see, self._masks.ranges(see))

    def _view_first(self, count: int, write: Any, length: int) -> None:
        view = self.cache.view
        view.rows = slice(0, count)
        view.write_rows = torch.arange(count, device=self.device)[:, None]
        view.positions = write
        view.length = length

    def _forward(self, ids: Any, positions: Any, mask: Any) -> Any:
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache.transformers_cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]


def split_pieces(pieces: list[Piece]) -> list[list[Piece]]:
    """In their order, so that each part looks at no more than `LOOKED_AT` tokens of the cache, but for one piece alone.

    All of a part look as far as the one of them that looks farthest, and attention copies what they look at.
    """
    parts: list[list[Piece]] = []
    farthest = 0
    for piece in pieces:
        farthest = max(farthest, piece.start + len(piece.ids))
        if parts and (len(parts[-1]) + 1) * farthest <= LOOKED_AT:
            parts[-1].append(piece)
        else:
            parts.append([piece])
            farthest = piece.start + len(piece.ids)
    return parts


def _context(config: Any, wanted: int | None) -> int:
    longest = min(length for length in (wanted, own_context(config), sys.maxsize) if length)
    if longest == sys.maxsize:
        raise UnsupportedModel("the model does not say how long its context is")
    return longest


def check_kind(model: Any) -> list[Any]:
    """The layers of transformers' own cache for the model. Raises UnsupportedModel."""
    if model.config.is_encoder_decoder:
        raise UnsupportedModel("encoder-decoder models are not supported")
    kinds: list[Any] = DynamicCache(config=model.config).layers
    if other := {type(layer).__name__ for layer in kinds} - _KEYS_AND_VALUES:
        raise UnsupportedModel(f"a cache of kind {', '.join(sorted(other))} is not supported")
    attention = model.config.get_text_config()._attn_implementation
    if attention not in {ATTENTION, NAME}:
        raise UnsupportedModel(f"attention by {attention} takes other masks than ours")
    return kinds


def token_bytes(model: Any) -> int:
    """Bytes of one token's keys and values in all layers, as the model itself gives them.

    Raises UnsupportedModel where it has other kinds of memory.
    """
    check_kind(model)
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        token = torch.zeros((1, 1), dtype=torch.int64, device=model.device)
        model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


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


LOOKED_AT = 16384
"""Tokens of the cache, in all rows together, that one pass over several prompts looks at: 0.3 GB a layer for a model of
8B parameters, which are free again with the next layer."""
# Tokens: the CPU reads what it looks at from memory, and knows no kernels that are made for a shape.
_CPU_ALIGNMENT, _ALIGNMENT = 16, 64
_KEYS_AND_VALUES = {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__}
