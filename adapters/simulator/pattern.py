"""Strings for a regular expression, by rstr, within bounds: patterns come from strangers."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any

from rstr.xeger import Xeger

from adapters.simulator.backtracking import Unbounded, most_steps

_MAX_PATTERN = 500
_MAX_ATOMS = 2_000
_MAX_RANGE = 256
_RANGE_OF_ATOM = 32
"""Characters of a range that take as long as an atom."""
_LENGTH_OF_ATOM = 4
"""Characters of a pattern that take as long to read as an atom to follow."""
_MAX_SEARCH = 20_000_000
_READ = 1_000
"""Steps of a search that take as long as a character of a pattern does to be read."""


class Unusable(ValueError):
    """Not a regular expression that an example can be made for: too long, too large, or of another flavour."""


class Searches:
    """Searches that are bounded together: what may take longer gets the benefit of the doubt."""

    def __init__(self, steps: int = 200_000_000) -> None:
        self._left = steps
        self._read: set[str] = set()

    def found(self, pattern: str, text: str) -> bool:
        """True if the expression is found in the text, or cannot be looked for in good time."""
        if pattern not in self._read:
            self._read.add(pattern)
            self._left -= _READ * min(len(pattern), _MAX_PATTERN)
        if self._left < 0:
            return True
        try:
            steps = most_steps(pattern, len(text))
        except Unbounded:
            return True
        if steps > min(_MAX_SEARCH, self._left):
            return True
        self._left -= steps
        return re.search(pattern, text) is not None


def example(pattern: str, rng: Random, spend: Callable[[int], None], repeats: int = 8) -> str:
    """A string that the expression matches, mostly: anchors and look-arounds are not minded.

    `spend` is told how many atoms were followed, also if it came to nothing. `repeats` is how much oftener than
    it must a repeat may repeat. Raises Unusable.
    """
    if len(pattern) > _MAX_PATTERN:
        raise Unusable("too long")
    maker = _Bounded(rng, repeats)
    try:
        text = maker.xeger(pattern)
    except (re.error, KeyError, IndexError, ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise Unusable("not a regular expression") from exc
    finally:
        spend(maker.atoms + len(pattern) // _LENGTH_OF_ATOM)
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise Unusable("matches what is no text")
    return text


class _Bounded(Xeger):
    """rstr with bounded work and an order of its own: its sets would differ from process to process."""

    def __init__(self, rng: Random, repeats: int) -> None:
        super().__init__(rng)
        self._repeats = repeats
        self.atoms = 0
        self._cases = {
            **self._cases,
            "any": lambda _: rng.choice("abcdefghijklmnopqrstuvwxyz"),
            "range": self._range,
        }

    def _handle_state(self, state: Any) -> Any:
        self._count(1)
        return super()._handle_state(state)

    def _range(self, ends: tuple[int, int]) -> list[str]:
        codes = range(ends[0], min(ends[1] + 1, ends[0] + _MAX_RANGE))
        self._count(len(codes) // _RANGE_OF_ATOM)
        return [chr(code) for code in codes]

    def _count(self, atoms: int) -> None:
        self.atoms += atoms
        if self.atoms > _MAX_ATOMS:
            raise Unusable("too long a match")

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
