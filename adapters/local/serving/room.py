"""How many requests of what length the cache is made for: what was asked for, or what fits."""

from __future__ import annotations

from typing import NamedTuple

from adapters.local.own import ROWS
from adapters.local.serving.folder import Refused

USUAL = 8192
"""Tokens. Rather fewer requests at once than a context shorter than this, or than the model's own."""
_GB = 1e9


class Room(NamedTuple):
    """`rows` requests at once, of `context` tokens each."""

    rows: int
    context: int


def choose_room(*, rows: int | None, context: int | None, own: int, token_bytes: int, free: int) -> Room:
    """`own` is the model's longest context, `token_bytes` what a token takes in the cache, `free` what is there for it.

    Raises Refused where what was asked for does not fit.
    """
    longest = min(context or own, own)
    tokens = free // token_bytes
    if rows is None:
        rows = max(1, min(ROWS, tokens // (min(longest, USUAL) if context is None else longest)))
    if context is None and tokens >= rows:
        longest = min(longest, tokens // rows)
    if rows * longest > tokens:
        needed = rows * longest * token_bytes / _GB
        raise Refused(
            f"a cache for {rows} requests of {longest} tokens takes {needed:.1f} GB, and {free / _GB:.1f} GB are free: "
            "lower max_concurrency or context_window"
        )
    return Room(rows, longest)
