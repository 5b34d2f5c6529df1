"""Strings for a regular expression, by rstr, within bounds: patterns come from strangers."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from rstr.xeger import Xeger

_MAX_PATTERN = 500
_MAX_ATOMS = 2_000
_MAX_RANGE = 256

# A repeat within a repeat, such as `(a+)+`: matching one may take exponential time.
_NESTED_REPEAT = re.compile(r"[*+}]\??\)(?:[*+]|\{)")


class Unusable(ValueError):
    """Not a regular expression that an example can be made for: too long, too large, or of another flavour."""


def found(pattern: str, text: str) -> bool:
    """True if the expression is found in the text, or cannot be looked for: it gets the benefit of the doubt."""
    if len(pattern) > _MAX_PATTERN or _NESTED_REPEAT.search(pattern):
        return True
    try:
        return re.search(pattern, text) is not None
    except (re.error, OverflowError, RecursionError):
        return True


def example(pattern: str, rng: Random, repeats: int = 8) -> str:
    """A string that the expression matches, mostly: anchors and look-arounds are not minded.

    `repeats` is how much oftener than it must a repeat may repeat. Raises Unusable.
    """
    if len(pattern) > _MAX_PATTERN:
        raise Unusable("too long")
    try:
        text = _Bounded(rng, repeats).xeger(pattern)
    except (re.error, KeyError, IndexError, ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise Unusable("not a regular expression") from exc
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise Unusable("matches what is no text")
    return text


class _Bounded(Xeger):
    """rstr with bounded work and an order of its own: its sets would differ from process to process."""

    def __init__(self, rng: Random, repeats: int) -> None:
        super().__init__(rng)
        self._repeats = repeats
        self._atoms = 0
        self._cases = {
            **self._cases,
            "any": lambda _: rng.choice("abcdefghijklmnopqrstuvwxyz"),
            "range": lambda ends: [chr(code) for code in range(ends[0], min(ends[1] + 1, ends[0] + _MAX_RANGE))],
        }

    def _handle_state(self, state: Any) -> Any:
        self._atoms += 1
        if self._atoms > _MAX_ATOMS:
            raise Unusable("too long a match")
        return super()._handle_state(state)

    def _handle_in(self, value: Any) -> Any:
        negated, sets = _members([self._handle_state(state) for state in value])
        members = sorted(set("".join(chr(code) for code in range(32, 127))) - sets) if negated else sorted(sets)
        return self._random.choice(members)

    def _handle_repeat(self, start_range: int, end_range: int, value: str) -> str:
        longest = min(end_range, start_range + self._repeats)
        if start_range > _MAX_ATOMS:
            raise Unusable("too long a match")
        times = self._random.randint(start_range, longest)
        return "".join("".join(self._handle_state(state) for state in value) for _ in range(times))


def _members(handled: list[Any]) -> tuple[bool, set[str]]:
    """What rstr makes of the parts of `[...]`: strings, lists of characters, and `[False]` for `^`."""
    negated = bool(handled) and handled[0] == [False]
    return negated, {char for part in handled[negated:] for char in part}
