"""How well contexts fit a query, by the features they share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from adapters.canonical import NativeResult
from adapters.catalogue import Model
from adapters.simulator.features import features, overlap
from adapters.simulator.fingerprint import chance
from adapters.simulator.tokens import usage_of
from adapters.wire.native.inputs import RerankInputs
from adapters.wire.native.results import Score, Scores

_STEEPNESS = 9.0
_MIDDLE = 4.0
_GRAIN = 0.05
"""What two contexts differ by that fit equally well."""


def rerank(model: Model, inputs: RerankInputs) -> NativeResult:
    texts = [context.text for context in inputs.contexts]
    return NativeResult(ranked(inputs.query, texts, inputs.top_k), usage_of(inputs.query, *texts))


def ranked(query: str, contexts: Sequence[str], top_k: int | None = None) -> Scores:
    """The contexts' scores, from 0 to 1, best first. Cloudflare promises no order, so clients sort for themselves."""
    wanted = features(query)
    scores = []
    for index, context in enumerate(contexts):
        covered, cosine = overlap(wanted, features(context))
        fit = _STEEPNESS * (0.7 * covered + 0.3 * cosine) - _MIDDLE + _GRAIN * chance(query, context).random()
        scores.append(Score(index, round(1 / (1 + math.exp(-fit)), 6)))
    return Scores(sorted(scores, key=lambda score: -score.score)[:top_k])
