"""Cloudflare's codes and what it says with them."""

from __future__ import annotations

import re

import pytest

from adapters.errors import BY_UPSTREAM_CODE
from adapters.wire.workers_ai_codes import CODES, words_of

PLACES = re.compile(r"\{(\w+)\}")
MODEL = "@cf/a/b"


def test_every_code_that_means_something_to_the_relay_has_words() -> None:
    assert set(BY_UPSTREAM_CODE) <= set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_code_has_words_of_its_own_and_a_status_of_a_failure(code: int) -> None:
    told = CODES[code]
    assert told.words.strip() == told.words != ""
    assert told.status is None or 400 <= told.status <= 599
    assert set(PLACES.findall(told.words)) <= {"model", "when", "limit", "path", "method"}


@pytest.mark.parametrize("code", CODES)
def test_nothing_is_left_to_fill_in_but_what_the_request_was_for(code: int) -> None:
    words = words_of(code, model=MODEL, limit=8192, retired_on="2026-05-30")
    assert set(PLACES.findall(words)) <= {"path", "method"}
    assert (MODEL in words) == ("{model}" in CODES[code].words)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3021, "AiError: rate limiting: inference request per min rate reached"),
        (3040, "Capacity temporarily exceeded, please try again."),
        (3046, "AiError: Request timeout"),
        (5007, f"No such model {MODEL} or task"),
        (5018, f"Ai: This account is not allowed to access {MODEL}"),
        (5021, "Requested token count exceeds the model's maximum context length of 8192 tokens."),
        (5024, "JSON Mode couldn't be met"),
        (5028, f"Model has been deprecated: {MODEL} was deprecated on 2026-05-30."),
        (7001, "{method} not supported for requested URI."),
        (10000, "Authentication error"),
    ],
)
def test_words_that_were_seen(code: int, words: str) -> None:
    """As Cloudflare sent them, without the prefix and the id that an error of inference has around them."""
    assert words_of(code, model=MODEL, limit=8192, retired_on="2026-05-30") == words


def test_what_is_not_known_of_a_model_is_left_out() -> None:
    assert words_of(5021, model=MODEL).endswith("maximum context length.")
    assert words_of(5028, model=MODEL).endswith("was deprecated.")


def test_errors_that_mean_different_things_say_so() -> None:
    throttled = {words_of(code, model=MODEL) for code in (971, 3021, 3036, 3040, 4006)}
    assert len(throttled) == 5
