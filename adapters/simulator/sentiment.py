"""Text classification: positive or negative, by the words that say so."""

from __future__ import annotations

import math
import re

from adapters.canonical import NativeResult
from adapters.catalogue import Model
from adapters.simulator.fingerprint import chance
from adapters.simulator.tokens import usage_of
from adapters.wire.native.inputs import TextInputs
from adapters.wire.native.results import Label

_READ = 65_536
"""Characters of a text that are looked at."""
_WORD = re.compile(r"n't\b|[^\W\d_]+?(?=n't\b)|[^\W\d_]+")
_POSITIVE = frozenset(
    "amazing awesome beautiful best better bravo brilliant charming clever cool delicious delight delighted "
    "delightful easy elegant enjoy enjoyable enjoyed excellent exciting fabulous fantastic fast favorite favourite "
    "fine flawless fresh friendly fun generous glad good gorgeous grateful great happy helpful honest impressed "
    "impressive incredible inspiring interesting joy kind like liked love loved lovely lucky magnificent marvellous "
    "marvelous neat nice outstanding perfect pleasant pleased pleasure polite positive pretty proud quick recommend "
    "reliable remarkable safe satisfied smart smooth splendid success successful super superb sweet terrific thank "
    "thankful thanks thrilled useful warm welcome well wonderful works worth wow".split()
)
_NEGATIVE = frozenset(
    "abysmal afraid angry annoyed annoying appalling ashamed avoid awful awkward bad bland bored boring broken bug "
    "buggy cheap cold complaint confusing crash crashed crashes cruel damage damaged dead difficult dirty "
    "disappointed disappointing disappointment disaster disgusting dislike disliked dreadful dull error errors "
    "expensive fail failed fails failure false fault faulty fear fraud frustrated frustrating garbage gross hate "
    "hated horrible hurt inadequate inferior junk lack late lazy lose lost mediocre mess messy misleading miss "
    "nasty negative noisy overpriced pain painful pathetic poor poorly problem problems refund regret rotten rude "
    "sad scam scared sick slow sorry stale stolen stupid terrible tired ugly unfortunately unhappy unpleasant "
    "unreliable useless waste wasted weak weird worse worst worthless wrong".split()
)
_NEGATIONS = frozenset("cannot hardly neither never no not n't without".split())
_REACH = 3
"""Words after a negation that it turns round."""
_STRENGTH = 2.2
_GRAIN = 1.2
"""How far chance alone can move a text that says neither."""


def classify_text(model: Model, inputs: TextInputs) -> NativeResult:
    """The likelier label first; the two scores sum to 1."""
    leaning = _STRENGTH * _balance(inputs.text) + _GRAIN * (2 * chance(inputs.text).random() - 1)
    positive = round(1 / (1 + math.exp(-leaning)), 6)
    labels = [Label("POSITIVE", positive), Label("NEGATIVE", round(1 - positive, 6))]
    return NativeResult(sorted(labels, key=lambda label: -label.score), usage_of(inputs.text))


def _balance(text: str) -> float:
    """From -3 to 3: good words less bad ones, each counted less the more there are."""
    good = bad = turned = 0
    for word in _WORD.findall(text[:_READ].casefold().replace("\u2019", "'")):
        if word in _NEGATIONS:
            turned = _REACH
            continue
        praised, blamed = (_NEGATIVE, _POSITIVE) if turned else (_POSITIVE, _NEGATIVE)
        good += word in praised
        bad += word in blamed
        turned = max(turned - 1, 0)
    return 3 * (good - bad) / (good + bad + 1)
