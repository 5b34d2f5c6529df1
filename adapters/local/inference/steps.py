"""How one token for each of the first rows of the cache is computed: as it comes, or in shapes that are few and fixed.

Fixed shapes can be recorded: a step of a large model is a thousand small kernels, and to start them one by one from
Python takes longer than most of them run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

Forward = Callable[[Any, Any, Any, int], Any]
"""ids, positions seen from, positions written to, each [rows, 1], and tokens looked at -> logits [rows, vocabulary]."""
Recorder = Callable[[Callable[[], Any]], Callable[[], Any]]
"""Makes of a step one that does the same, on the same tensors."""


class Steps(Protocol):
    def decode(self, ids: Sequence[int], positions: Sequence[int]) -> Any:
        """Logits [n, vocabulary] for rows 0..n-1, good until the next call."""


class PlainSteps:
    """Each step in its own shape."""

    def __init__(self, forward: Forward, look: Callable[[int], int], device: Any) -> None:
        """`look`: how many tokens are looked at, for so many that must be."""
        self._forward = forward
        self._look = look
        self._device = device

    def decode(self, ids: Sequence[int], positions: Sequence[int]) -> Any:
        at = torch.tensor(positions, device=self._device)[:, None]
        tokens = torch.tensor(ids, device=self._device)[:, None]
        return self._forward(tokens, at, at, self._look(max(positions) + 1))


class FixedSteps:
    """Few shapes, each with tensors of its own that are filled before a step: for an accelerator.

    Rows beyond the jobs' own are computed too. They write where nobody looks, and nobody reads their logits.
    """

    def __init__(
        self,
        forward: Forward,
        *,
        rows: int,
        lengths: Sequence[int],
        waste_position: int,
        device: Any,
        record: Recorder,
    ) -> None:
        """`lengths`: the numbers of tokens looked at that steps are made for, ascending; the last is all."""
        self._forward = forward
        self._sizes = row_sizes(rows)
        self._lengths = lengths
        self._record = record
        self._filling = [0, 0, waste_position]
        pinned = torch.device(device).type == "cuda"
        self._host = torch.zeros((3, rows), dtype=torch.int64, pin_memory=pinned)
        self._inputs = torch.tensor(self._filling, device=device)[:, None].repeat(1, rows)
        self._steps: dict[tuple[int, int], Callable[[], Any]] = {}

    def decode(self, ids: Sequence[int], positions: Sequence[int]) -> Any:
        count = len(ids)
        size = next(size for size in self._sizes if size >= count)
        for line, numbers, filling in zip(self._host, (ids, positions, positions), self._filling, strict=True):
            line[:size] = torch.tensor([*numbers, *[filling] * (size - count)])
        # The last step's copy is done: its logits have been read since.
        self._inputs.copy_(self._host, non_blocking=True)
        return self._step(size, max(positions) + 1)()[:count]

    def record_all(self) -> None:
        """Now, and not while somebody waits: the steps for every number of rows.

        The largest first: what it takes in passing is room for all others.
        """
        for size in reversed(self._sizes):
            self._step(size, 1)

    def _step(self, size: int, length: int) -> Callable[[], Any]:
        length = next(each for each in self._lengths if each >= length)
        step = self._steps.get((size, length))
        if step is None:
            ids, see, write = (line[:size, None] for line in self._inputs)
            step = self._record(lambda: self._forward(ids, see, write, length))
            self._steps[size, length] = step
        return step


def row_sizes(rows: int) -> list[int]:
    """Powers of 2, and `rows` itself."""
    return [1 << i for i in range(rows.bit_length()) if 1 << i < rows] + [rows]


def doubling(first: int, last: int) -> list[int]:
    """From `first` on, each twice the one before, and `last`."""
    lengths = []
    while first < last:
        lengths.append(first)
        first *= 2
    return [*lengths, last]
