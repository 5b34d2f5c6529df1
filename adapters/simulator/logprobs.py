"""Believable log probabilities, in OpenAI's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any

_OTHERS = (
    " the", " a", " and", " of", " to", " in", " is", " it", " that", " for", " on", " with", " as",
    " this", " an", " by", " or", " be", " are", " at", " from", ",", ".", "\n",
)  # fmt: skip


def logprobs(tokens: Sequence[str], top: int, rng: Random) -> list[dict[str, Any]]:
    """One entry a token, with the `top` (0 to 20) likeliest tokens at its place, the chosen one first.

    The probabilities at one place add up to less than 1.
    """
    return [_entry(token, top, rng) for token in tokens]


def _entry(token: str, top: int, rng: Random) -> dict[str, Any]:
    chosen = 0.6 + 0.39 * rng.random()
    others = rng.sample([other for other in _OTHERS if other != token], max(0, top - 1))
    left = 1.0 - chosen
    ranked = [_one(token, chosen)]
    for other in others:
        left /= 2  # each takes half of what is left, so the sum stays below 1
        ranked.append(_one(other, left))
    return {**ranked[0], "top_logprobs": ranked[:top]}


def _one(token: str, probability: float) -> dict[str, Any]:
    return {
        "token": token,
        "logprob": round(math.log(probability), 6),
        "bytes": list(token.encode("utf-8", "replace")),
    }
