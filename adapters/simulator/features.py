"""What a text is made of, as far as likeness goes: its words and the pieces of them, each with a weight."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping

from adapters.simulator.text import COMMON_WORDS

_READ = 4096
"""Characters of a text that are looked at; the smaller models read about as much."""
_LONG = 64
"""Characters of one word that are looked at: more is no word."""
_WORD = re.compile(r"\w+")
_UNSPACED = "\u0e00"
"""From here on most scripts either put no space between words or are read by the syllable."""
_COMMON_WEIGHT = 0.1
_PIECE_WEIGHT = 0.3

Features = Mapping[str, float]


def features(text: str) -> Features:
    """Words, with their pieces so that `planted` is near `planting`; common words hardly count."""
    found: dict[str, float] = {}
    words = Counter(_WORD.findall(unicodedata.normalize("NFKC", text[:_READ]).casefold()))
    for word, count in words.items():
        weight = math.sqrt(count) * (_COMMON_WEIGHT if word in COMMON_WORDS else 1.0)
        for piece, share in _pieces(word):
            found[piece] = found.get(piece, 0.0) + weight * share
    return found


def _pieces(word: str) -> Iterator[tuple[str, float]]:
    if max(word) >= _UNSPACED:
        yield from ((character, 0.5) for character in word)
        yield from ((word[at : at + 2], 1.0) for at in range(len(word) - 1))
        return
    word = word[:_LONG]
    yield word, 1.0
    edged = f" {word} "
    yield from ((edged[at : at + 3], _PIECE_WEIGHT) for at in range(len(word)))


def norm(found: Features) -> float:
    return math.sqrt(sum(weight * weight for weight in found.values()))


def overlap(one: Features, other: Features) -> tuple[float, float]:
    """How much of `one` is in `other`, and the cosine of the two; both from 0 to 1."""
    mine, theirs = norm(one), norm(other)
    if not mine or not theirs:
        return 0.0, 0.0
    shared = [(weight, other[feature]) for feature, weight in one.items() if feature in other]
    covered = sum(weight * weight for weight, _ in shared) / (mine * mine)
    cosine = sum(weight * match for weight, match in shared) / (mine * theirs)
    return min(covered, 1.0), min(cosine, 1.0)
