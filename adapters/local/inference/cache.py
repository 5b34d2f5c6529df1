"""Keys and values of all jobs, in tensors that are made once: `[rows, heads, capacity, head size]` for each layer.

A step sets a `View`: which rows take part, at which positions they write, and how far they look. The layers then
give the model a slice of the cache, without padding and without a copy where the rows are neighbours. Positions
beyond a job's own hold what earlier jobs left: finite numbers, hidden by the mask.
"""

from __future__ import annotations

import math
import mmap
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(slots=True)
class View:
    """What the current forward pass reads and writes."""

    rows: Any = None
    """A slice, or a tensor of indices, on the first dimension."""
    write_rows: Any = None
    """Shape [n, 1]."""
    positions: Any = None
    """Shape [n, tokens]."""
    length: int = 0
    """How many positions are looked at."""


class RowLayer(CacheLayerMixin):
    """One layer's keys and values; made when the first of them shows shape, type and device."""

    is_sliding = False

    def __init__(self, view: View, count: int, capacity: int) -> None:
        super().__init__()
        self._view = view
        self._count = count
        self._capacity = capacity

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        self.keys = self._zeros(key_states)
        self.values = self._zeros(value_states)
        self.is_initialized = True

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        view = self._view
        self.keys[view.write_rows, :, view.positions] = key_states.transpose(1, 2)
        self.values[view.write_rows, :, view.positions] = value_states.transpose(1, 2)
        return self.keys[view.rows, :, : view.length], self.values[view.rows, :, : view.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._view.length, 0

    def get_seq_length(self) -> int:
        return self._view.length

    def get_max_length(self) -> int:
        return self._capacity

    def _zeros(self, like: Any) -> Any:
        shape = (self._count, like.shape[1], self._capacity, like.shape[3])
        if like.device.type != "cpu":
            return torch.zeros(shape, dtype=like.dtype, device=like.device)
        # Pages that the system gives when they are first written to. Torch's zeros are written at once; numpy's ask for
        # pages of 2 MB, so that a row's first token took all of its memory, and the time to write zeros there.
        size = math.prod(shape) * like.element_size()
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(AttributeError, OSError):  # where there are none of 2 MB to begin with
            pages.madvise(mmap.MADV_NOHUGEPAGE)
        return torch.frombuffer(pages, dtype=like.dtype).view(shape)


class RowCache:
    """The cache of one model for `count` jobs of at most `context` tokens each.

    Attention looks at a multiple of `alignment` tokens, so that its kernels see few different shapes.
    """

    def __init__(self, layers: int, count: int, context: int, alignment: int) -> None:
        self._alignment = alignment
        self.count = count
        self.context = context
        # One position more, for what padding writes; no mask ever shows it.
        self.capacity = self.aligned(context + 1)
        self.view = View()
        self.layers = [RowLayer(self.view, count, self.capacity) for _ in range(layers)]
        self.transformers_cache = Cache(layers=self.layers)

    @property
    def waste_position(self) -> int:
        return self.capacity - 1

    @property
    def nbytes(self) -> int:
        """Bytes of all layers, once a first pass has made them."""
        return sum(tensor.nbytes for tensor in self._tensors())

    def copy(self, source: int, target: int, tokens: int) -> None:
        for tensor in self._tensors():
            tensor[target, :, :tokens].copy_(tensor[source, :, :tokens])

    def swap(self, one: int, other: int, tokens: int) -> None:
        for tensor in self._tensors():
            kept = tensor[one, :, :tokens].clone()
            tensor[one, :, :tokens].copy_(tensor[other, :, :tokens])
            tensor[other, :, :tokens].copy_(kept)

    def clear(self, row: int, tokens: int) -> None:
        """Forget what may not be finite: hidden by a mask it would still spoil its successor, as 0 times NaN is NaN.

        No more than what was written, and what padding wrote: a row may have gigabytes that nobody has touched.
        """
        for tensor in self._tensors():
            tensor[row, :, :tokens].zero_()
            tensor[row, :, self.waste_position].zero_()

    def _tensors(self) -> list[Any]:
        return [tensor for layer in self.layers if layer.is_initialized for tensor in (layer.keys, layer.values)]

    def aligned(self, tokens: int) -> int:
        """How many positions attention looks at where it must see so many."""
        return -(-tokens // self._alignment) * self._alignment
