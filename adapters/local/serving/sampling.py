"""How a request wants tokens to be chosen; where it says nothing, what the model's authors recommend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from adapters.canonical import ChatRequest
from adapters.errors import InvalidRequest
from adapters.local.inference.request import RANGES, Sampling

_RECOMMENDED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_ASKED = (*_RECOMMENDED, "presence_penalty", "frequency_penalty", "seed")
_LARGEST_SEED = 2**64
_MOST_BIASES = 300
"""As many as OpenAI takes. Each takes time with every token, and everybody's next token waits for it."""
_TOKEN = re.compile("0|[1-9][0-9]{0,17}")


def recommended(generation: Mapping[str, Any]) -> dict[str, float]:
    """What a model's `generation_config.json` says, as far as it makes sense."""
    found: dict[str, float] = {}
    for name in _RECOMMENDED:
        value = generation.get(name)
        low, high = RANGES[name]
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            found[name] = value
    return found


def sampling_of(request: ChatRequest, defaults: Mapping[str, float], vocabulary: int) -> Sampling:
    """Raises InvalidRequest naming the field."""
    asked = {name: value for name in _ASKED if (value := getattr(request, name)) is not None}
    if "seed" in asked:
        asked["seed"] %= _LARGEST_SEED
    return Sampling(logit_bias=_bias(request, vocabulary), **{**defaults, **asked})


def _bias(request: ChatRequest, vocabulary: int) -> dict[int, float]:
    asked = request.logit_bias or {}
    if len(asked) > _MOST_BIASES:
        raise InvalidRequest(
            f"Invalid 'logit_bias': it has {len(asked)} tokens; {_MOST_BIASES} are the most.", param="logit_bias"
        )
    bias: dict[int, float] = {}
    for key, value in asked.items():
        if not _TOKEN.fullmatch(key) or int(key) >= vocabulary:  # one way to write a token, so that none has two biases
            raise InvalidRequest(
                f"Invalid 'logit_bias': its keys are ids of tokens, from 0 to {vocabulary - 1}.", param="logit_bias"
            )
        bias[int(key)] = value
    return bias
