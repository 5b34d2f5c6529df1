"""Entries of OpenAI's list of logprobs."""

from __future__ import annotations

import json
from math import inf

import pytest

from adapters.local.inference.request import Token
from adapters.local.serving.detokenizer import TokenTexts
from adapters.local.serving.logprobs import logprob_entry
from tests.inference.with_torch.vocabularies import tokenizer

TEXTS = TokenTexts(tokenizer())
DOG, COMMA = tokenizer().encode(" dog,", add_special_tokens=False)
[PART] = tokenizer().convert_tokens_to_ids(["\u00c3"])
END = 2

ENTRIES = {
    "a word": (
        Token(DOG, -0.25),
        {"token": " dog", "bytes": [32, 100, 111, 103], "logprob": -0.25, "top_logprobs": []},
    ),
    "a part of a character": (
        Token(PART, -1.0),
        {"token": "\ufffd", "bytes": [0xC3], "logprob": -1.0, "top_logprobs": []},
    ),
    "alternatives": (
        Token(DOG, -0.5, ((COMMA, -0.25), (END, -inf))),
        {
            "token": " dog",
            "bytes": [32, 100, 111, 103],
            "logprob": -0.5,
            "top_logprobs": [
                {"token": ",", "bytes": [44], "logprob": -0.25},
                {"token": "<|im_end|>", "bytes": list(b"<|im_end|>"), "logprob": -9999.0},
            ],
        },
    ),
    "no token": (Token(10**6, -3.0), {"token": "", "bytes": [], "logprob": -3.0, "top_logprobs": []}),
}


@pytest.mark.parametrize(("token", "entry"), ENTRIES.values(), ids=ENTRIES)
def test_a_token_is_told_with_its_bytes_and_its_alternatives(token: Token, entry: dict[str, object]) -> None:
    assert logprob_entry(token, TEXTS) == entry
    json.dumps(entry, allow_nan=False)


def test_a_token_without_a_logprob_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="asked for no logprobs"):
        logprob_entry(Token(DOG), TEXTS)
