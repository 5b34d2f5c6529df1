"""`adapters.local.serving.room`: how large the cache is made."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.local.serving.folder import Refused
from adapters.local.serving.room import Room, choose_room

GB = 10**9

CHOSEN: dict[str, tuple[dict[str, Any], Room]] = {
    "all that is usual": ({"free": 100 * GB}, Room(32, 16384)),
    "a shorter context for as many": ({"free": 32 * 8192 * 1000 + 999}, Room(32, 8192)),
    "fewer rather than shorter ones": ({"free": 8 * 8192 * 1000}, Room(8, 8192)),
    "one of what fits": ({"free": 5000 * 1000}, Room(1, 5000)),
    "a short model": ({"own": 512, "free": 10 * 512 * 1000}, Room(10, 512)),
    "what was asked for": ({"rows": 4, "context": 2048, "free": 4 * 2048 * 1000}, Room(4, 2048)),
    "no more than the model's own": ({"rows": 4, "context": 99999, "free": 100 * GB}, Room(4, 16384)),
    "many short ones": ({"rows": 64, "free": 64 * 100 * 1000}, Room(64, 100)),
    "long ones": ({"context": 16384, "free": 3 * 16384 * 1000}, Room(3, 16384)),
}


@pytest.mark.parametrize(("given", "room"), CHOSEN.values(), ids=CHOSEN)
def test_a_cache_is_made_that_fits(given: dict[str, Any], room: Room) -> None:
    assert choose_room(**{"rows": None, "context": None, "own": 16384, "token_bytes": 1000} | given) == room


NO_ROOM: dict[str, dict[str, Any]] = {
    "for what was asked": {"rows": 8, "context": 1000, "free": 7999 * 1000},
    "for anything": {"rows": None, "context": None, "free": 999},
}


@pytest.mark.parametrize("given", NO_ROOM.values(), ids=NO_ROOM)
def test_what_does_not_fit_is_refused_with_the_figures(given: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="are free: lower max_concurrency or context_window"):
        choose_room(**{"own": 4096, "token_bytes": 1000} | given)
