"""What the engine is doing, in numbers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_SPAN = 10.0
"""Seconds that rates are taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    running: int = 0
    """Jobs that decode."""
    prefilling: int = 0
    waiting: int = 0
    kept: int = 0
    """Rows that hold what finished jobs left."""
    tokens_per_second: float = 0.0
    """Generated, by all jobs, over the last ten seconds."""
    generated_tokens: int = 0
    """Since the start, as are the next two."""
    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Of the prompts, taken over from other jobs."""
    cache_use: float = 0.0
    """The part of the cache that holds something, 0..1."""
    cache_bytes: int = 0


class Meter:
    """Tokens per second over the last ten seconds."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque()
        self._recent = 0
        self.total = 0

    def count(self, now: float, tokens: int) -> None:
        self._forget(now)
        self._steps.append((now, tokens))
        self._recent += tokens
        self.total += tokens

    def rate(self, now: float) -> float:
        self._forget(now)
        if not self._steps:
            return 0.0
        return self._recent / max(now - self._steps[0][0], 1e-3)

    def _forget(self, now: float) -> None:
        while self._steps and self._steps[0][0] <= now - _SPAN:
            self._recent -= self._steps.popleft()[1]
