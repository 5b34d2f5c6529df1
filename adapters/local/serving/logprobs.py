"""OpenAI's `logprobs.content`: one entry a token of the text."""

from __future__ import annotations

from typing import Any

from adapters.local.inference.request import Token
from adapters.local.serving.detokenizer import TokenTexts

_LEAST = -9999.0
"""What OpenAI writes for a token that is next to impossible; -inf is no JSON."""


def logprob_entry(token: Token, texts: TokenTexts) -> dict[str, Any]:
    """`token`, `bytes`, `logprob` and `top_logprobs` (as many as the job asked for, best first).

    A token that is a part of a character has its bytes, and U+FFFD for what has no text.
    Raises ValueError for a token without a logprob: the job asked for none.
    """
    if token.logprob is None:
        raise ValueError("the job asked for no logprobs")
    top = [_entry(id, logprob, texts) for id, logprob in token.alternatives]
    return {**_entry(token.id, token.logprob, texts), "top_logprobs": top}


def _entry(id: int, logprob: float, texts: TokenTexts) -> dict[str, Any]:
    piece = texts.bytes_of(id)
    return {"token": piece.decode(errors="replace"), "bytes": list(piece), "logprob": max(logprob, _LEAST)}
