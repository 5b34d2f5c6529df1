"""Exceptions to HTTP answers, in the dialect of the caller: the only place that knows both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from starlette.exceptions import HTTPException

from adapters.errors import Fault, RelayError
from adapters.wire.json_text import encode

Headers = list[tuple[bytes, bytes]]


class Problem(NamedTuple):
    """An error as OpenAI's clients see it; `message`, `type`, `param` and `code` make the body."""

    status: int
    message: str
    type: str
    code: str | None
    param: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def body(self) -> bytes:
        """The error object: `error` is always an object, its members strings or null."""
        return encode({"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}})


_INVALID = "invalid_request_error"
_COME_BACK = 2.0  # seconds, where the upstream names none

# What the router and the reading of bodies can say, by status.
_ROUTER: Mapping[int, tuple[str, str]] = {
    400: ("invalid_url", "The path holds an escape that cannot be read."),
    404: ("unknown_url", "Unknown request URL: {method} {path}."),
    405: ("method_not_allowed", "Not allowed to {method} on {path}."),
    408: ("request_timeout", "The request body did not come in time: it stood still, or was too slow for its size."),
    413: ("request_too_large", "The request body is larger than this relay takes (RELAY_MAX_BODY)."),
    415: ("unsupported_media_type", "The request body must not be compressed."),
}


def of_relay_error(exc: RelayError) -> Problem:
    row = exc.fault.value
    return Problem(row.status, exc.message, row.type, exc.code or row.code, exc.param, _advice(exc))


def _advice(exc: RelayError) -> tuple[tuple[bytes, bytes], ...]:
    """What clients are told about trying again. A quota is not renewed by waiting a little."""
    if exc.fault is Fault.QUOTA_EXHAUSTED:
        return ((b"x-should-retry", b"false"),)
    if exc.fault is Fault.RATE_LIMITED or (exc.fault.value.status == 503 and exc.retry_after is not None):
        return ((b"retry-after", str(math.ceil(exc.retry_after or _COME_BACK)).encode()),)
    return ()


def of_refused_caller(missing: bool, message: str) -> Problem:
    """For a caller without a token (`missing`) or with one that is not ours; OpenAI tells both alike."""
    return Problem(401, message, _INVALID, "invalid_api_key", headers=((b"www-authenticate", b"Bearer"),))


def of_http_exception(exc: HTTPException, method: str, path: str) -> Problem:
    code, text = _ROUTER.get(exc.status_code, (None, exc.detail))
    headers = tuple((k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (exc.headers or {}).items())
    message = text.format(method=method, path=path[:200]) if code else text
    return Problem(exc.status_code, message, _INVALID, code, headers=headers)


INTERNAL = Problem(500, "The relay failed to handle this request.", "server_error", "internal_error")
