"""Cloudflare's codes of failure: the HTTP status that each comes with, and its words.

Whoever plays Cloudflare takes them from here. Sources: Cloudflare's Workers AI error page (2026-07), bodies of the live
API and its clients' tests (to 2026-10). Words are Cloudflare's own where they are known, and ours where only the
meaning is: 1001's are those of a test, 2021's, 5035's and 8006's are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Told(NamedTuple):
    """What Cloudflare says with a code. `status` is `None` where none is established.

    In `words` stand `{model}`, `{when}` (` on 2026-05-30`), `{limit}` (` of 8192 tokens`), `{path}` and `{method}` for
    what the request had. Errors of `inference` have the prefix `AiError: ` before these words, the request's short id
    behind them, and an empty object for a result; all others have their words alone, and null.
    """

    status: int | None
    words: str
    inference: bool = True


CODES: Mapping[int, Told] = {
    971: Told(429, "Please wait and consider throttling your request speed"),
    1000: Told(401, "Invalid API Token", inference=False),
    1001: Told(400, "prompt and messages are mutually exclusive"),
    1031: Told(403, "Authentication error", inference=False),
    2001: Told(400, "Please configure AI Gateway in the Cloudflare dashboard", inference=False),
    2009: Told(401, "Unauthorized", inference=False),
    2021: Told(403, "This model needs a key of your own for its provider"),
    2040: Told(400, "No such key is stored", inference=False),
    3003: Told(400, "Request is missing headers or body: body"),
    3006: Told(413, "Request is too large"),
    3007: Told(408, "Request timeout"),
    3008: Told(408, "Request was aborted"),
    3021: Told(429, "AiError: rate limiting: inference request per min rate reached"),
    3023: Told(403, "Service unavailable for account"),
    3030: Told(400, "Input prompt contains NSFW content."),
    3036: Told(
        429,
        "You have used up your daily free allocation of 10,000 neurons. Please upgrade to Cloudflare's Workers Paid "
        "plan if you would like to continue usage.",
    ),
    3039: Told(400, "Finetune is missing required files (model.safetensors and config.json)"),
    3040: Told(429, "Capacity temporarily exceeded, please try again."),
    3041: Told(403, "The account is not allowed to access this model"),
    3042: Told(404, "The model name is invalid"),
    3043: Told(500, "Internal server error"),
    3046: Told(408, "AiError: Request timeout"),
    4006: Told(
        429,
        "you have used up your daily free allocation of 10,000 neurons, please upgrade to Cloudflare's Workers Paid "
        "plan if you would like to continue usage.",
    ),
    5004: Told(400, "Invalid data type for base64 input: object"),
    5005: Told(405, "LoRA unsupported: The model {model} does not support LoRA inference"),
    5006: Told(
        400,
        "Bad input: Error: oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', "
        "required properties at '/' are 'messages'",
    ),
    5007: Told(400, "No such model {model} or task"),
    # The JSON of whoever runs the model, as it came; so the status is that one's too.
    5012: Told(None, 'AiError: {"object":"error","message":"Internal server error","type":"InternalServerError"}'),
    5016: Told(403, "User has not agreed to Llama3.2 model terms"),
    5018: Told(403, "Ai: This account is not allowed to access {model}"),
    5019: Told(405, "Request trying to use deprecated SDK version"),
    5021: Told(400, "Requested token count exceeds the model's maximum context length{limit}."),
    5023: Told(400, "JSON Schema mode is not supported with stream mode"),
    5024: Told(400, "JSON Mode couldn't be met"),
    5028: Told(410, "Model has been deprecated: {model} was deprecated{when}."),
    5033: Told(400, "Finetune not found: it does not exist or is not accessible"),
    5035: Told(403, "The model {model} requires the Workers Paid plan"),
    7000: Told(400, "No route for that URI", inference=False),
    7001: Told(405, "{method} not supported for requested URI.", inference=False),
    7003: Told(404, "Could not route to {path}, perhaps your object identifier is invalid?", inference=False),
    8001: Told(400, "Invalid input"),
    8006: Told(400, "The forced tool call could not be made; max_tokens may be too small for it"),
    9106: Told(400, "Authentication failed (status: 400)", inference=False),
    9107: Told(403, "Authentication error", inference=False),
    9109: Told(403, "Unauthorized to access requested resource", inference=False),
    10000: Told(401, "Authentication error", inference=False),
}


def words_of(code: int, *, model: str, limit: int | None = None, retired_on: str | None = None) -> str:
    """The words of a known code about a model, whose context is `limit` tokens and which ended on an ISO date.

    `{path}` and `{method}` are left for whoever knows them.
    """
    filled = CODES[code].words.replace("{model}", model)
    filled = filled.replace("{when}", f" on {retired_on}" if retired_on else "")
    return filled.replace("{limit}", f" of {limit} tokens" if limit else "")
