"""A model that knows no better: writes random tokens of those that a constraint allows."""

from __future__ import annotations

import random
from typing import Any

import numpy

from adapters.local.inference.request import Constraint
from adapters.local.serving.detokenizer import Detokenizer, TokenTexts

ENDS = ('"', "}", "]", ",", "0", "\n")


def allowed(constraint: Constraint) -> set[int]:
    words: Any = constraint.mask()
    return {int(id) for id in numpy.flatnonzero(numpy.unpackbits(words.view(numpy.uint8), bitorder="little"))}


def write(
    constraint: Constraint, tokenizer: Any, *, seed: int = 0, phrases: tuple[str, ...] = (), most: int = 3000
) -> list[int]:
    """Tokens of an answer, without the end token; now and then a phrase that brings things to their ends.

    Raises AssertionError for an answer that has no end within `most` tokens.
    """
    chance = random.Random(seed)
    lines = [tokenizer.encode(text, add_special_tokens=False) for text in (*ENDS, *phrases)]
    planned: list[int] = []
    written: list[int] = []
    while len(written) < most:
        possible = allowed(constraint)
        assert possible
        if tokenizer.eos_token_id in possible:
            if len(possible) == 1 or chance.random() < 0.3:
                return written
            possible.discard(tokenizer.eos_token_id)
        planned = planned or (list(chance.choice(lines)) if chance.random() < 0.4 else [])
        if planned and planned[0] in possible:
            token = planned.pop(0)
        else:
            planned, token = [], chance.choice(sorted(possible))
        written.append(token)
        if constraint.advance(token):
            return written
    raise AssertionError("no end in sight")


def follows(constraint: Constraint, tokenizer: Any, text: str) -> bool | None:
    """Whether the text is a whole answer; `None` if it can become one."""
    for token in tokenizer.encode(text, add_special_tokens=False):
        if token not in allowed(constraint):
            return False
        if constraint.advance(token):
            return True
    return True if tokenizer.eos_token_id in allowed(constraint) else None


def text_of(tokenizer: Any, ids: list[int], kept: frozenset[int] = frozenset()) -> str:
    detokenizer = Detokenizer(TokenTexts(tokenizer), kept)
    return "".join(map(detokenizer.feed, ids)) + detokenizer.end()
