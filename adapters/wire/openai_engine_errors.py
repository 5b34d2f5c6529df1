"""Error bodies of OpenAI-compatible engines, to our faults.

Forms met: OpenAI's `{"error": {"message", "type", "param", "code"}}` (vLLM since 0.10, llama-server, Ollama);
`{"error": "text"}` (Ollama's own API, TGI); FastAPI's `{"detail": text | list}` (chatglm.cpp, transformers serve);
`{"object": "error", "message", ...}` (older vLLM, SGLang); a bare `{"message"}`; pages of proxies.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from adapters.errors import Fault, RelayError
from adapters.wire.json_text import NotJson, loads
from adapters.wire.workers_ai_errors import clean

_CONTEXT = re.compile(
    r"maximum context length|model's (?:max(?:imum)? )?context (?:length|window)|available context size"
    r"|context[_ ](?:length|window|size)[_ ]?exceed|exceed[a-z]* (?:the )?(?:max\w* )?context|prompt is too long"
    r"|greater than the context length|too large to process|must be <= \d+\. Given|too many (?:input )?tokens",
    re.I,
)
_LIMIT = re.compile(
    r"maximum context length (?:of|is) (\d+)|context (?:length|size|window)\s*\((\d+)|context length of (\d+)"
    r"|must be <= (\d+)",
    re.I,
)
_OUTPUT_LIMIT = re.compile(r"max(?:_completion)?_tokens is too large", re.I)
_NO_MODEL = re.compile(
    r"\bmodel\b.{0,200}\b(?:not found|not exist|does not exist|not loaded|unknown)|unknown model", re.I | re.S
)
# llama-server's words, with status 500, for what the model behind it was not made for.
_NO_INPUT = re.compile(r"(?:image|audio|video) input is not supported", re.I)
_LOADING = re.compile(r"\bloading\b|still starting|not ready|warming up", re.I)
_BUSY = re.compile(r"\bbusy\b|overload|queue|too many|capacity|no slot|maximum pending|unavailable", re.I)

_BY_STATUS: dict[int, Fault] = {
    400: Fault.INVALID_VALUE,
    401: Fault.UPSTREAM_AUTH,
    402: Fault.UPSTREAM_AUTH,
    403: Fault.UPSTREAM_AUTH,
    404: Fault.UPSTREAM_MISCONFIGURED,
    405: Fault.UPSTREAM_MISCONFIGURED,
    408: Fault.UPSTREAM_TIMEOUT,
    409: Fault.INVALID_VALUE,
    413: Fault.REQUEST_TOO_LARGE,
    415: Fault.INVALID_VALUE,
    422: Fault.INVALID_VALUE,
    429: Fault.RATE_LIMITED,
    501: Fault.UPSTREAM_MISCONFIGURED,
    504: Fault.UPSTREAM_TIMEOUT,
    508: Fault.LOOP,
}

# What we say where the engine's own words are about the operator's set-up, or about its insides.
_OURS: dict[Fault, str] = {
    Fault.LOOP: "The relay's upstream leads back to the relay itself.",
    Fault.RATE_LIMITED: "The engine is rate limiting the relay. Try again shortly.",
    Fault.OVERLOADED: "The engine is busy. Try again shortly.",
    Fault.UPSTREAM_UNREACHABLE: "The engine is still loading its model. Try again shortly.",
    Fault.UPSTREAM_TIMEOUT: "The engine did not answer in time.",
    Fault.UPSTREAM_AUTH: "The engine refused the relay's own credentials. The relay's operator has to mend this.",
    Fault.UPSTREAM_MISCONFIGURED: "The engine does not offer this call. "
    "The relay's operator has to check its address and the options that it was started with.",
    Fault.UPSTREAM_ERROR: "The engine failed to answer.",
}


class _Complaint(NamedTuple):
    """What an error body says: `words` and `kind` (its type and code) are the engine's."""

    words: str = ""
    kind: str = ""
    status: int | None = None
    param: str | None = None
    context_window: int | None = None


def parse_engine_error(
    status: int,
    body: bytes,
    *,
    retry_after: float | None = None,
    context_window: int | None = None,
    verbatim: bool = False,
) -> RelayError:
    """The error that an answer with this status and body stands for.

    `retry_after` is the engine's wish in seconds, `context_window` the model's tokens, for texts that leave it out.
    `verbatim`: what the engine says of limits is worded for our callers.
    """
    try:
        value = loads(body)
    except NotJson:
        value = None  # a page of a proxy, or nothing: what it says is not for the caller
        if status == 400:
            status = 502
    error = read_engine_error(status, value, retry_after=retry_after, context_window=context_window)
    if verbatim and error.fault in (Fault.RATE_LIMITED, Fault.CONTEXT_LENGTH_EXCEEDED):
        complaint = _complaint(value)
        error.message = clean(complaint.words) or error.message
        error.param = complaint.param
    return error


def is_error(value: Any) -> bool:
    """Whether the JSON of a success is an error all the same."""
    return isinstance(value, dict) and bool(value.get("error") or value.get("object") == "error" or "detail" in value)


def read_engine_error(
    status: int | None, value: Any, *, retry_after: float | None = None, context_window: int | None = None
) -> RelayError:
    """As `parse_engine_error`, for a body that is JSON already; without a status the body's own counts."""
    complaint = _complaint(value)
    if status is None:
        status = complaint.status or 502
    words = clean(complaint.words)
    fault = _fault(status, complaint, retry_after)
    if fault is Fault.INVALID_VALUE and _OUTPUT_LIMIT.search(words):
        return RelayError(fault, words, param="max_tokens")
    if fault is Fault.CONTEXT_LENGTH_EXCEEDED:
        limit = _limit_in(words) or complaint.context_window or context_window
        return RelayError(fault, _context_text(limit), param="messages")
    if fault is Fault.MODEL_NOT_FOUND:
        return RelayError(fault, words or "The engine does not have this model.", param="model")
    message = _OURS.get(fault) or words or f"The engine refused the request (status {status})."
    param = complaint.param if fault is Fault.INVALID_VALUE else None
    return RelayError(fault, message, param=param, retry_after=retry_after)


def _fault(status: int, complaint: _Complaint, retry_after: float | None) -> Fault:
    said = f"{complaint.kind} {complaint.words}"
    if status in (400, 413, 422, 500) and _CONTEXT.search(said) and not _OUTPUT_LIMIT.search(said):
        return Fault.CONTEXT_LENGTH_EXCEEDED
    if status in (400, 404) and (_NO_MODEL.search(said) or "model_not_found" in complaint.kind):
        return Fault.MODEL_NOT_FOUND
    if status == 500 and _NO_INPUT.search(said):
        return Fault.INVALID_VALUE
    if status == 503:
        if _LOADING.search(said):
            return Fault.UPSTREAM_UNREACHABLE
        return Fault.OVERLOADED if retry_after is not None or _BUSY.search(said) else Fault.UPSTREAM_ERROR
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:
        return Fault.UPSTREAM_MISCONFIGURED
    return Fault.INVALID_VALUE if 400 <= status < 500 else Fault.UPSTREAM_ERROR


def _complaint(value: Any) -> _Complaint:
    if not isinstance(value, dict):
        return _Complaint()
    error = value.get("error")
    if isinstance(error, dict):
        return _read(error)
    if isinstance(error, str):
        return _Complaint(words=error, kind=_string(value.get("error_type")))
    detail = value.get("detail")
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        return _validation(detail[0])
    if isinstance(detail, dict):
        return _read(detail)
    if isinstance(detail, str):
        return _Complaint(words=detail)
    return _read(value)


def _read(error: dict[str, Any]) -> _Complaint:
    code = error.get("code")
    kind = f"{_string(error.get('type'))} {_string(code)}"
    status = code if isinstance(code, int) and 400 <= code < 600 else None
    window = error.get("n_ctx")
    return _Complaint(
        words=_string(error.get("message")) or _string(error.get("detail")),
        kind=kind,
        status=status,
        param=_string(error.get("param"))[:100] or None,
        context_window=window if isinstance(window, int) and not isinstance(window, bool) else None,
    )


def _validation(item: dict[str, Any]) -> _Complaint:
    """One of FastAPI's complaints. Its `input` repeats what the caller sent, and is left out."""
    found = item.get("loc")
    steps = [step for step in found if step != "body"] if isinstance(found, list) else []
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")[:100]
    words = _string(item.get("msg")) or "it is not valid"
    return _Complaint(words=f"Invalid '{path}': {words}." if path else words, param=path or None)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _limit_in(words: str) -> int | None:
    found = _LIMIT.search(words)
    return int(next(group for group in found.groups() if group)) if found else None


def _context_text(limit: int | None) -> str:
    """Some clients look for the sentence, others for the code, and see nothing but the message."""
    sentence = (
        f"This model's maximum context length is {limit} tokens."
        if limit
        else "The request is longer than this model's maximum context length."
    )
    return f"{sentence} Please shorten the messages or lower max_tokens. (context_length_exceeded)"
