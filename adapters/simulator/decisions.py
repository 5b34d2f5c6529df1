"""The Clef models: a probability for every allowed answer, by what it shares with the state and by chance.

Questions and answers are of the form that Cloudflare's page on `clef` shows (2026-09); probabilities have four
decimals, as the hosted models give them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from adapters.canonical import NativeResult, Usage
from adapters.catalogue import Model
from adapters.errors import InvalidRequest
from adapters.simulator.features import Features, features, overlap
from adapters.simulator.fingerprint import chance, fingerprint
from adapters.simulator.tokens import count
from adapters.wire.native.inputs import DecisionInputs, Question
from adapters.wire.native.results import Decisions, DecisionUsage

_DIGITS = 4
_LIKENESS = 6.0
_GRAIN = 1.5
_READ = 512
"""Characters of an option that are compared with the state."""
_CHOICES = range(2, 256)
_LEVELS = range(2, 11)
_MEDIA_TOKENS = 256
"""What an image, a clip or a video costs to read; the real models count its size."""


class _State(msgspec.Struct, frozen=True):
    """What is judged: its features, and what tells it from other states."""

    features: Features
    identity: bytes


def decide(model: Model, inputs: DecisionInputs) -> NativeResult:
    """An answer to each question. Raises InvalidRequest for criteria that do not fit the question's type."""
    text = _text(inputs.state, "state")
    media = [*(inputs.images or ()), *(inputs.audio or ()), *(inputs.videos or ())]
    state = _State(features(text), fingerprint(model.id, text, media))
    answers = {}
    read = count(text) + _MEDIA_TOKENS * len(media)
    for id, question in inputs.questions.items():
        where = f"questions.{id[:100]}"
        asked = _text(question.instructions, f"{where}.instructions")
        read += count(asked) + count(_text(question.criteria, f"{where}.criteria"))
        answers[id] = {"type": question.type, **_ANSWERS[question.type](question, asked, state, where)}
    usage = DecisionUsage(input_tokens=read, output_tokens=len(answers))
    value = Decisions((inputs.model or model.short_name).strip(), answers, usage)
    return NativeResult(value, Usage(prompt_tokens=read, completion_tokens=len(answers)))


def _noul(question: Question, asked: str, state: _State, where: str) -> dict[str, Any]:
    """The probability of a yes; `criteria` may tell what a yes and a no mean."""
    meanings = question.criteria if isinstance(question.criteria, dict) else {}
    options = [_described("yes", meanings.get("true", asked), where), _described("no", meanings.get("false"), where)]
    return {"noul": _probabilities(options, asked, state)[0]}


def _choice(question: Question, asked: str, state: _State, where: str) -> dict[str, Any]:
    criteria = question.criteria
    if not isinstance(criteria, dict) or len(criteria) not in _CHOICES:
        raise InvalidRequest("criteria must be an object of 2 to 255 options.", param=f"{where}.criteria")
    odds = _probabilities([_described(name, told, where) for name, told in criteria.items()], asked, state)
    return {
        "choice": max(zip(odds, criteria, strict=True), key=lambda pair: pair[0])[1],
        "probabilities": dict(zip(criteria, odds, strict=True)),
        "confidence": _confidence(odds),
    }


def _score(question: Question, asked: str, state: _State, where: str) -> dict[str, Any]:
    """`score` is the mean level, counted from 0 and weighted by probability."""
    criteria = question.criteria
    if not isinstance(criteria, list) or len(criteria) not in _LEVELS:
        raise InvalidRequest("criteria must be a list of 2 to 10 levels.", param=f"{where}.criteria")
    odds = _probabilities([_described(str(level), told, where) for level, told in enumerate(criteria)], asked, state)
    return {
        "score": round(sum(level * share for level, share in enumerate(odds)), _DIGITS),
        "legend": {str(level): told for level, told in enumerate(criteria)},
        "probabilities": {str(level): share for level, share in enumerate(odds)},
        "confidence": _confidence(odds),
    }


def _described(name: str, description: Any, where: str) -> str:
    return f"{name} {_text(description, f'{where}.criteria')}"


def _probabilities(options: list[str], asked: str, state: _State) -> list[float]:
    """One an option, with four decimals; they sum to 1."""
    weights = []
    for option in options:
        likeness = max(overlap(features(option[:_READ]), state.features))
        weights.append(math.exp(_LIKENESS * likeness + _GRAIN * chance(state.identity, asked, option).random()))
    whole = sum(weights)
    odds = [round(weight / whole, _DIGITS) for weight in weights]
    best = odds.index(max(odds))
    odds[best] = round(odds[best] + 1 - sum(odds), _DIGITS)  # what rounding took from the whole, or gave to it
    return odds


def _confidence(odds: list[float]) -> float:
    """1 where all is on one option, 0 where all options are alike: what is left of the greatest entropy."""
    entropy = -sum(share * math.log(share) for share in odds if share)
    return round(max(0.0, 1 - entropy / math.log(len(odds))), _DIGITS)


def _text(value: Any, param: str) -> str:
    """What a value holds as text: itself, or its JSON. Raises InvalidRequest if it nests too deeply to tell."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise InvalidRequest("The value nests too deeply.", param=param) from None


_ANSWERS: Mapping[str, Callable[[Question, str, _State, str], dict[str, Any]]] = {
    "noul": _noul,
    "choice": _choice,
    "score": _score,
}
