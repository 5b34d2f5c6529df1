"""Cloudflare's error bodies, of the API, of AI Gateway and of its catalogue, to our faults.

Sources: Cloudflare's Workers AI error page (2026-07), bodies captured from the live API (to 2026-10).
"""

from __future__ import annotations

import re
from typing import Any

from adapters.errors import BY_UPSTREAM_CODE, Fault, RelayError
from adapters.wire.json_text import NotJson, loads

_PREFIX = re.compile(r"^(?:(?:AiError|Ai|InferenceUpstreamError|Error): ?)+")
_REQUEST_ID = re.compile(r"\s*\([0-9a-f-]{6,40}\)\s*$")
_CODE_IN_TEXT = re.compile(r"\W*(?:(?:AiError|Ai|InferenceUpstreamError|Error)\W+)*(\d{3,5})\s*:", re.I)
# Ids of accounts and tokens in any of Cloudflare's forms, and the words in which a validator repeats its input.
_SECRET = re.compile(r"\b[0-9a-f]{32}\b|\bcf(?:ut|at|k)_[\w-]+|\bBearer\s+\S+", re.I)
_ECHO = re.compile(r"""[\s,\[({]*(?:['"]input['"]\s*:|\binput_value\s*=).*""", re.S)

_CONTEXT = re.compile(
    r"maximum context length|context window|context length|context_length|prompt is too long"
    r"|too many (?:input )?tokens",
    re.I,
)
_LIMIT = re.compile(r"maximum context length (?:of|is) (\d+)|context (?:window|length)[^\d]{0,40}\((\d+)\)", re.I)
_OUTPUT_LIMIT = re.compile(r"max(?:_completion)?_tokens is too large", re.I)

BY_STATUS: dict[int, Fault] = {
    400: Fault.INVALID_VALUE,
    401: Fault.UPSTREAM_AUTH,
    403: Fault.UPSTREAM_AUTH,
    404: Fault.UPSTREAM_MISCONFIGURED,
    405: Fault.UPSTREAM_MISCONFIGURED,
    408: Fault.UPSTREAM_TIMEOUT,
    410: Fault.MODEL_NOT_FOUND,
    413: Fault.REQUEST_TOO_LARGE,
    422: Fault.INVALID_VALUE,
    429: Fault.RATE_LIMITED,
    508: Fault.LOOP,
}

# What we say where Cloudflare's own words are about our account, or say nothing to a caller.
_OURS: dict[Fault, str] = {
    Fault.LOOP: "The relay's upstream leads back to the relay itself.",
    Fault.RATE_LIMITED: "Workers AI is rate limiting this account, or the model is out of capacity. Try again shortly.",
    Fault.QUOTA_EXHAUSTED: "The account has used up its daily allocation of Workers AI. It is renewed at 00:00 UTC.",
    Fault.UPSTREAM_TIMEOUT: "Workers AI did not finish in time.",
    Fault.UPSTREAM_AUTH: "Cloudflare refused the relay's own credentials. The relay's operator has to mend this.",
    Fault.UPSTREAM_MISCONFIGURED: "Cloudflare does not know the address that the relay called. "
    "The relay's operator has to check the account id, the base URL and the gateway.",
    Fault.UPSTREAM_ACCOUNT_BLOCKED: "Cloudflare has blocked the relay's account.",
    Fault.UPSTREAM_ERROR: "Workers AI failed to answer.",
}

Complaint = tuple[int | None, str]
"""Cloudflare's code, if it named one, and its words."""


def parse_error(status: int, body: bytes, *, context_window: int | None = None) -> RelayError:
    """The error that an answer with this status and body stands for.

    The code decides, then words of a known kind, then the status. `context_window` is the model's, in
    tokens, for texts that leave it out.
    """
    try:
        value = loads(body)
    except NotJson:
        # A page of a proxy, or nothing: what it says is not for the caller.
        fault = Fault.UPSTREAM_ERROR if status == 400 else _by_status(status)
        return RelayError(fault, _OURS.get(fault, _OURS[Fault.UPSTREAM_ERROR]))
    return read_error(status, value, context_window=context_window)


def read_error(status: int, value: Any, *, context_window: int | None = None) -> RelayError:
    """As `parse_error`, for a body that is JSON already."""
    code, text = complaint(value)
    fault = BY_UPSTREAM_CODE.get(code) if code is not None else None
    words = clean(text)
    if fault in (None, Fault.INVALID_VALUE, Fault.REQUEST_TOO_LARGE) and _OUTPUT_LIMIT.search(words):
        return RelayError(Fault.INVALID_VALUE, words, param="max_tokens", upstream_code=code)
    if fault in (None, Fault.INVALID_VALUE, Fault.REQUEST_TOO_LARGE) and _CONTEXT.search(words):
        fault = Fault.CONTEXT_LENGTH_EXCEEDED
    fault = fault or _by_status(status)
    if fault is Fault.CONTEXT_LENGTH_EXCEEDED:
        return RelayError(fault, _context_text(words, context_window), param="messages", upstream_code=code)
    message = _OURS.get(fault) or words or f"Workers AI refused the request (status {status})."
    return RelayError(fault, message, param=_PARAMS.get(fault), upstream_code=code)


_PARAMS: dict[Fault, str] = {
    Fault.MODEL_NOT_FOUND: "model",
    Fault.RESPONSE_FORMAT: "response_format",
}


def _by_status(status: int) -> Fault:
    if status in BY_STATUS:
        return BY_STATUS[status]
    return Fault.UPSTREAM_MISCONFIGURED if 300 <= status < 400 else Fault.UPSTREAM_ERROR


def clean(text: str) -> str:
    """Cloudflare's words without its prefixes, request id, secrets and echoes, at most 300 characters."""
    words = _REQUEST_ID.sub("", _PREFIX.sub("", text))
    return _SECRET.sub("***", _ECHO.sub("", words)).strip()[:300]


def _context_text(words: str, context_window: int | None) -> str:
    """Some clients look for the sentence, others for the code, and see nothing but the message."""
    found = _LIMIT.search(words)
    limit = next((group for group in found.groups() if group), None) if found else context_window
    sentence = (
        f"This model's maximum context length is {limit} tokens."
        if limit
        else "The request is longer than this model's maximum context length."
    )
    return f"{sentence} Please shorten the messages or lower max_tokens. (context_length_exceeded)"


def complaint(value: Any) -> Complaint:
    """The first error of any of Cloudflare's envelopes."""
    if not isinstance(value, dict):
        return None, ""
    for key in ("errors", "error"):
        found = value.get(key)
        if isinstance(found, list) and found:
            return _item(found[0])
        if isinstance(found, dict):
            return _item(found)
        if isinstance(found, str) and found:
            return _known_code_in(found), found
    if "internalCode" not in value and ("message" in value or "code" in value):
        return _item(value)
    if "internalCode" in value:
        code, text = _item({"code": value["internalCode"], "message": value.get("description") or value.get("message")})
        return code, text
    return None, ""


def _item(item: Any) -> Complaint:
    if not isinstance(item, dict):
        return (_known_code_in(item), item) if isinstance(item, str) else (None, "")
    text = item.get("message")
    text = text if isinstance(text, str) else ""
    for key in ("code", "internalCode"):
        code = item.get(key)
        if isinstance(code, int) and not isinstance(code, bool):
            return code, text
        if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) <= 9:
            return int(code), text
    return _known_code_in(text), text


def _known_code_in(text: str) -> int | None:
    """Some forms carry the code at the head of the text alone (`3040: Capacity ..`, `ERROR 3036: ..`).

    Nowhere else in it: a limit of 10000 tokens is no code, and what follows may repeat a caller's words.
    """
    found = _CODE_IN_TEXT.match(text)
    code = int(found[1]) if found else None
    return code if code in BY_UPSTREAM_CODE else None
