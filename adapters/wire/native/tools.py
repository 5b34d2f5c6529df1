"""What Cloudflare itself refuses about the tools of a chat: code 8001, where an input of a wrong form has 5006.

Source: the change log of Cloudflare's provider package (cloudflare/ai, workers-ai-provider 3.1.6), which tried three
models that vLLM runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.errors import InvalidRequest
from adapters.wire.openai_types import MOST_TOOLS
from adapters.wire.validation import decode
from adapters.wire.workers_ai_codes import CODES

INVALID_INPUT = 8001


class Offer(msgspec.Struct):
    """What a chat says about tools, of any form."""

    tools: Any = None
    tool_choice: Any = None


_OFFER = msgspec.json.Decoder(Offer)
_NOTHING = Offer()


def offer_in(body: bytes) -> Offer:
    """That of a body in JSON. Raises InvalidRequest for one that is none."""
    return decode(body, _OFFER) if b'"tools"' in body else _NOTHING


def offer_of(fields: Mapping[str, Any]) -> Offer:
    """That of a body that was read."""
    return Offer(fields.get("tools"), fields.get("tool_choice"))


def refuse_descriptions(offer: Offer) -> None:
    """Raises InvalidRequest (8001) for a tool that is described by anything but text; null is no description."""
    for index, tool in enumerate(offer.tools[:MOST_TOOLS] if isinstance(offer.tools, list) else ()):
        at, function = f"tools[{index}]", tool
        if isinstance(tool, dict) and "function" in tool:
            at, function = f"{at}.function", tool["function"]
        if isinstance(function, dict) and not isinstance(function.get("description"), str | None):
            raise _refused(f"{at}.description", "expected a string")


def refuse_any(offer: Offer) -> None:
    """Raises InvalidRequest (8001) for the choice `any`, another vendor's word, which vLLM does not know."""
    if offer.tools and offer.tool_choice == "any":
        raise _refused("tool_choice", "expected 'auto', 'none', 'required' or a named function, but got 'any'")


def _refused(param: str, why: str) -> InvalidRequest:
    error = InvalidRequest(f"{CODES[INVALID_INPUT].words} for '{param}': {why}.", param=param)
    error.upstream_code = INVALID_INPUT
    return error
