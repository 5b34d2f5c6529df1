"""Summaries made of the text's own sentences: the one that leads it, and those that speak of what it is about."""

from __future__ import annotations

import re

from adapters.canonical import NativeResult
from adapters.catalogue import Model
from adapters.simulator.features import features, overlap
from adapters.simulator.tokens import count, cut, usage_of
from adapters.wire.native.inputs import SummaryInputs
from adapters.wire.native.results import Summary

_READ = 16_384
"""Characters of a text that are looked at."""
_SENTENCES = 200
"""Of them; the others are not candidates."""
_KEPT = 3
_LEAD = 0.3
"""What it is worth to be first; a sentence that says all that the text is about has 1."""
_BETWEEN = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\s*\n\s*")


def summarize(model: Model, inputs: SummaryInputs) -> NativeResult:
    """Up to three sentences in the order of the text, within `max_length` tokens."""
    text = _summary(inputs.input_text[:_READ].strip(), inputs.max_length)
    return NativeResult(Summary(text), usage_of(inputs.input_text, written=text))


def _summary(text: str, max_length: int) -> str:
    about = features(text)
    sentences = [sentence for sentence in _BETWEEN.split(text) if sentence][:_SENTENCES]

    def worth(index: int) -> float:
        _, likeness = overlap(features(sentences[index]), about)
        return likeness + (0.0 if index else _LEAD)

    kept: list[int] = []
    left = max_length
    for index in sorted(range(len(sentences)), key=worth, reverse=True):
        size = count(sentences[index]) + 1  # and the space before it
        if len(kept) < _KEPT and size <= left:
            kept.append(index)
            left -= size
    return " ".join(sentences[index] for index in sorted(kept)) if kept else cut(text, max_length)
