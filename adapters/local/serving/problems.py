"""What goes wrong, as OpenAI's clients see it."""

from __future__ import annotations

import math
from typing import NamedTuple

from starlette.exceptions import HTTPException

from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.local.inference.errors import (
    EngineClosed,
    InferenceError,
    InvalidJob,
    JobFailed,
    PromptTooLong,
    QueueFull,
)
from adapters.wire.json_text import encode

_FIELDS = {"prompt_ids": "messages", "logprobs": "top_logprobs", "constraint": "response_format"}
"""Fields of a job to those of the request; the others are called alike."""


class Problem(NamedTuple):
    """A status and the members of the error object."""

    status: int
    message: str
    type: str
    code: str | None
    param: str | None = None
    retry_after: float | None = None

    def body(self) -> bytes:
        return encode({"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}})

    def headers(self) -> list[tuple[bytes, bytes]]:
        if self.retry_after is None:
            return []
        return [(b"retry-after", str(math.ceil(self.retry_after)).encode())]


_INVALID, _SERVER = "invalid_request_error", "server_error"
INTERNAL = Problem(500, "The engine failed to handle this request.", _SERVER, "internal_error")
_ROUTER = {404: "unknown_url", 405: "method_not_allowed", 413: "request_too_large"}


def problem_of(exc: Exception) -> Problem:
    """The answer to what was raised; for a bug nothing but that there is one."""
    match exc:
        case InferenceError():
            return _of_inference(exc)
        case RelayError():
            return _of_relay_error(exc)
        case HTTPException():
            return Problem(exc.status_code, exc.detail, _INVALID, _ROUTER.get(exc.status_code))
    return INTERNAL


def _of_relay_error(exc: RelayError) -> Problem:
    row = exc.fault.value
    return Problem(row.status, exc.message, row.type, exc.code or row.code, exc.param, exc.retry_after)


def _of_inference(exc: InferenceError) -> Problem:
    match exc:
        case PromptTooLong():
            return _of_relay_error(too_long(exc.tokens, exc.limit, _FIELDS.get(exc.field, exc.field)))
        case InvalidJob():
            field = _FIELDS.get(exc.field, exc.field)
            text = str(exc).removeprefix(f"{exc.field}: ")
            return _of_relay_error(InvalidRequest(f"Invalid '{field}': {text}.", param=field))
        case QueueFull():
            text = f"The model's queue is full. Try again in {math.ceil(exc.retry_after)} s."
            return _of_relay_error(RelayError(Fault.RATE_LIMITED, text, retry_after=exc.retry_after))
        case JobFailed():
            return Problem(500, f"This answer could not be computed: {exc}.", _SERVER, "generation_failed")
        case EngineClosed():
            return Problem(503, "The engine is being stopped.", _SERVER, "engine_stopped")
    return Problem(500, "The engine has failed and is started anew.", _SERVER, "engine_failed")


def too_long(tokens: int, limit: int, param: str) -> RelayError:
    """In the words that clients look for."""
    return RelayError(
        Fault.CONTEXT_LENGTH_EXCEEDED,
        f"This model's maximum context length is {limit} tokens. However, your {param} resulted in {tokens} tokens. "
        f"Please shorten the {param}. (context_length_exceeded)",
        param=param,
    )
