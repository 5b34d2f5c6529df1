"""What an engine's `POST /v1/chat/completions` takes, and what its answers leave out or get wrong.

`adapters.profiles` holds the table of known engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Choice = Literal["none", "auto", "required", "named"]
ALL_CHOICES: frozenset[Choice] = frozenset({"none", "auto", "required", "named"})


class EngineForm(msgspec.Struct, frozen=True, kw_only=True):
    """One engine's wire. The defaults are those of an engine that has everything."""

    fields: Mapping[str, str]
    """Our names of the sampling fields that it takes, to its own. The others are dropped, and listed."""
    bounds: Mapping[str, tuple[float, float]] = {}
    """By our name: values outside are clamped, and listed."""
    approximated: frozenset[str] = frozenset()
    """Fields that it takes for something that is only alike; listed as emulated."""
    seeds: int | None = None
    """The number of its seeds, from 0; others are mapped to these, and listed."""
    efforts: tuple[str, ...] | None = ()
    """Its words for `reasoning_effort`: the nearest is sent. `None`: any word, as it is; `()`: it knows none."""
    effort_in_template: bool = False
    """Older builds of it take the effort as an argument of the chat template alone."""
    least_alternatives: int = 0
    """The smallest `top_logprobs` with which `logprobs` brings anything."""
    logprobs_beside_tools: bool = True
    """It can tell log probabilities in a stream that may hold calls."""
    stop: bool = True
    """It knows `stop`; where it does not, the relay cuts."""
    stream_options: bool = True
    """`stream_options.include_usage` brings the usage of a stream."""
    finish_reasons: bool = True
    """It tells `length` from `stop`."""
    total_limit: int | None = None
    """`max_tokens` is the length of prompt and answer together; this is the most it may be unless told otherwise."""
    prompt_limit: int | None = None
    """Tokens of the prompt that are read; the oldest beyond that are cut away without a word."""
    schemas: bool = True
    """It knows `response_format`; where it does not, a system message says what is wanted."""
    tool_choices: frozenset[Choice] = ALL_CHOICES
    parallel_tool_calls: bool = True
    text_calls: bool = False
    """Calls may come as text in ChatGLM3's form."""
    tool_turns: bool = True
    """It knows the role `tool` and earlier calls; where it does not, both are told in words."""
    alternating: bool = False
    """Turns of users and of the assistant have to alternate: neighbours of one role are joined."""
    names: bool = True
    """It knows the `name` of a turn."""
    reasoning: str | None = None
    """Its key for the reasoning of earlier turns."""
    one_image: bool = False
    """A turn with an image is exactly one text part, then one image."""
    leading_break: bool = False
    """Its text may begin with a line break that is the template's."""
    dimensions: bool = False
    """Its embeddings know `dimensions`; where they do not, the relay cuts."""
