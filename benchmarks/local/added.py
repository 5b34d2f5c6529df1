"""What the relay adds to the time to the first token: its engine is asked in turns, directly and through it."""

from __future__ import annotations

import statistics
import time

from benchmarks.local.load import Ask, Prompt

_ROUNDS = 200
_TOKENS = 2
"""Of an answer; the second shows that the first has come."""


async def added_milliseconds(through: Ask, behind: Ask, prompt: Prompt) -> dict[str, float]:
    """Medians, in milliseconds: `direct`, `through`, and `added`, that of the differences of neighbours."""
    await _first_token(through, prompt)
    pairs = [(await _first_token(behind, prompt), await _first_token(through, prompt)) for _ in range(_ROUNDS)]
    return {
        "direct": statistics.median(direct for direct, _ in pairs),
        "through": statistics.median(through for _, through in pairs),
        "added": statistics.median(through - direct for direct, through in pairs),
    }


async def _first_token(ask: Ask, prompt: Prompt) -> float:
    """Milliseconds; the answer is read to its end, so that the next one starts with nobody else there."""
    begun = time.perf_counter()
    seconds = 0.0
    async for _ in ask(prompt, _TOKENS):
        seconds = seconds or time.perf_counter() - begun
    return seconds * 1e3
