"""How often each token was in a job's prompt and answer, on the device, for the jobs that ask for penalties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from adapters.local.inference.request import Sampling
from adapters.local.inference.upload import upload


class Penalties:
    """A table with a line for each penalised job; made with the first of them and grown as needed."""

    def __init__(self, vocabulary: int, device: Any) -> None:
        self._counts = torch.zeros((0, vocabulary), dtype=torch.int32, device=device)
        self._prompts = torch.zeros((0, vocabulary), dtype=torch.bool, device=device)
        self._free: list[int] = []

    def add(self, prompt: Sequence[int]) -> int:
        """A line for a job; the number to be given to the other methods."""
        if not self._free:
            self._grow(max(8, len(self._counts)))
        line = self._free.pop()
        self._counts[line] = 0
        self._prompts[line] = False
        self._prompts[line, upload(prompt, self._prompts.device)] = True
        return line

    def remove(self, line: int) -> None:
        self._free.append(line)

    def apply(self, logits: Any, rows: Any, lines: Any, settings: Sequence[Sampling]) -> None:
        """Changes `logits` [n, vocabulary] in the rows, one for each of `lines` and `settings`."""

        def column(name: str) -> Any:
            return upload([getattr(s, name) for s in settings], logits.device)[:, None]

        counts = self._counts[lines]
        generated = counts > 0
        chosen = logits[rows]
        repetition = column("repetition_penalty")
        repeated = torch.where(chosen > 0, chosen / repetition, chosen * repetition)
        chosen = torch.where(generated | self._prompts[lines], repeated, chosen)
        logits[rows] = chosen - column("presence_penalty") * generated - column("frequency_penalty") * counts

    def count(self, lines: Any, tokens: Any) -> None:
        """One token came for each of the lines."""
        self._counts[lines, tokens] += 1

    def _grow(self, by: int) -> None:
        size = len(self._counts)
        for name in ("_counts", "_prompts"):
            table = getattr(self, name)
            setattr(self, name, torch.cat([table, table.new_zeros((by, table.shape[1]))]))
        self._free.extend(range(size, size + by))
