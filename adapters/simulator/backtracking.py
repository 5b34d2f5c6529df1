"""How long the regular expressions of strangers may take: Python's engine backtracks, and holds the event loop."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from re import _parser  # what rstr reads patterns with, too
from typing import Any

_MAX_PATTERN = 500
_MAX_WIDTH = 2_000
"""Characters of the shortest match: longer ones are asked for by nobody who expects an answer."""
_MAX_ROUNDS = 8
"""How often a group may repeat that can be matched in more than one way."""


class Unbounded(ValueError):
    """No useful bound is known for the work, or this is no regular expression of Python's."""


def most_steps(pattern: str, length: int) -> int:
    """No search for the expression in a text of `length` characters takes more steps. Raises Unbounded.

    The bound is every choice that a match can make, from every place to start at, times the way back and forth
    for each. Back-references, look-arounds, flags and repeats of what may be empty have none.
    """
    parsed = _parsed(pattern)
    choices, width = _sequence(parsed, length)
    if width > _MAX_WIDTH:
        raise Unbounded("too long a match")
    anchored = len(parsed) > 0 and str(parsed[0][1]) in _STARTS
    starts = 1 if anchored else length + 1
    return int(starts * choices * (length + len(pattern) + 1))


@lru_cache(maxsize=256)
def _parsed(pattern: str) -> Any:
    if len(pattern) > _MAX_PATTERN:
        raise Unbounded("too long")
    try:
        parsed = _parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as exc:
        raise Unbounded("not a regular expression") from exc
    if parsed.state.flags != re.UNICODE:
        raise Unbounded("flags")
    return parsed


_STARTS = frozenset({"AT_BEGINNING", "AT_BEGINNING_STRING"})
_CHARACTERS = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN"})

_Shape = tuple[int, int]
"""In how many ways a part can be tried at one place, and how many characters it takes at least."""


def _sequence(parts: Iterable[Any], length: int) -> _Shape:
    choices, width = 1, 0
    for part in parts:
        ways, least = _shape(part, length)
        choices, width = choices * ways, width + least
    return choices, width


def _shape(part: Any, length: int) -> _Shape:
    operation, value = part
    name = str(operation)
    if name in _CHARACTERS:
        return 1, 1
    if name == "AT":
        return 1, 0
    if name == "SUBPATTERN":
        _, added, removed, inner = value
        if added or removed:
            raise Unbounded("flags")
        return _sequence(inner, length)
    if name == "BRANCH":
        shapes = [_sequence(branch, length) for branch in value[1]]
        return sum(ways for ways, _ in shapes), min(width for _, width in shapes)
    if name in ("MAX_REPEAT", "MIN_REPEAT"):
        least, most, inner = value
        return _repeated(int(least), int(most), _sequence(inner, length), length)
    raise Unbounded("a part that looks elsewhere")


def _repeated(least: int, most: int, inner: _Shape, length: int) -> _Shape:
    ways, width = inner
    if width:
        most = min(most, length // width)
    elif most > 1:
        raise Unbounded("a repeat of what may be empty")
    if ways == 1:
        return max(most - least, 0) + 1, width * least
    if most > _MAX_ROUNDS:
        raise Unbounded("a repeat of what matches in several ways")
    return (most + 1) * ways**most, width * least
