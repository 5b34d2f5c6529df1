"""What can go wrong with a request or a backend, and the one table that says how each is answered.

Foreign exceptions become a `RelayError` where they enter; `proxy.problems` is the only place that
turns one into an HTTP answer.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Retry(Enum):
    """What the relay itself may do about a fault before the first upstream event."""

    NO = "no"
    ONCE = "once"
    YES = "yes"


class Row(NamedTuple):
    """One line of the table: Cloudflare's codes, and the OpenAI-shaped answer."""

    upstream: tuple[int, ...]
    status: int
    type: str
    code: str
    retry: Retry = Retry.NO


_TELLING = 4
"""Characters of a secret's beginning that tell something of it."""

_INVALID = "invalid_request_error"
_SERVER = "server_error"
_FORBIDDEN = "permission_error"


class Fault(Enum):
    """Every way a request can fail. Cloudflare's codes: its error page and field reports, to 2026-10."""

    RATE_LIMITED = Row((3021, 971, 3040), 429, "rate_limit_error", "rate_limit_exceeded", Retry.YES)
    QUOTA_EXHAUSTED = Row((3036, 4006), 429, "insufficient_quota", "insufficient_quota")
    MODEL_NOT_FOUND = Row((5007, 3042, 5028, 5018, 3041), 404, _INVALID, "model_not_found")
    CONTEXT_LENGTH_EXCEEDED = Row((5021,), 400, _INVALID, "context_length_exceeded")
    RESPONSE_FORMAT = Row((5023, 5024), 400, _INVALID, "invalid_value")
    INVALID_VALUE = Row((3003, 5004, 5005, 5006, 8001, 8006, 1001, 3039), 400, _INVALID, "invalid_value")
    REQUEST_TOO_LARGE = Row((3006,), 413, _INVALID, "request_too_large")
    CONTENT_POLICY = Row((3030,), 400, _INVALID, "content_policy_violation")
    TERMS_NOT_ACCEPTED = Row((5016,), 403, _FORBIDDEN, "model_terms_not_accepted")
    PLAN_REQUIRED = Row((5035,), 403, _FORBIDDEN, "plan_required")
    BYOK_REQUIRED = Row((2021,), 403, _FORBIDDEN, "byok_required")
    UPSTREAM_TIMEOUT = Row((3007, 3008, 3046), 504, _SERVER, "upstream_timeout", Retry.ONCE)
    UPSTREAM_AUTH = Row((10000, 1000, 9106, 9107, 9109, 1031, 2009), 502, _SERVER, "upstream_auth")
    UPSTREAM_MISCONFIGURED = Row((7000, 7001, 7003, 2001, 2040, 5019), 502, _SERVER, "upstream_misconfigured")
    UPSTREAM_ACCOUNT_BLOCKED = Row((3023,), 503, _SERVER, "upstream_account_blocked")
    UPSTREAM_ERROR = Row((), 502, _SERVER, "upstream_error", Retry.YES)
    UPSTREAM_UNREACHABLE = Row((), 503, _SERVER, "upstream_unreachable", Retry.YES)
    OVERLOADED = Row((), 503, _SERVER, "overloaded")
    LOOP = Row((), 508, _SERVER, "loop_detected")

    @property
    def retry(self) -> Retry:
        row: Row = self.value
        return row.retry


BY_UPSTREAM_CODE: dict[int, Fault] = {code: fault for fault in Fault for code in fault.value.upstream}


class RelayError(Exception):
    """A request that cannot be answered.

    `message` is for the caller: it never holds a secret, a prompt or an answer. `param` names the
    field at fault, `code` replaces the table's code where a client's mistake has a finer one,
    `retry_after` is in seconds, `upstream_code` is Cloudflare's number. `request_id` and `path` are for the one who
    answers to fill in, where the dialect repeats them.
    """

    request_id: str | None = None
    path: str = ""

    def __init__(
        self,
        fault: Fault,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        upstream_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self.upstream_code = upstream_code

    def redact(self, secret: str) -> None:
        """Take out a secret that an upstream may have echoed, and what is left of one where a text was cut."""
        self.message = _without(self.message, secret)
        self.param = self.param and _without(self.param, secret)
        self.args = (self.message,)


class InvalidRequest(RelayError):
    """The client's mistake: `param` is the path of the field, such as `messages[0].content`."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = "invalid_value") -> None:
        super().__init__(Fault.INVALID_VALUE, message, param=param, code=code)


class StreamUnsupported(RelayError):
    """This request cannot be streamed upstream, though it can be answered whole.

    `remember` is true where the model as such answered with nothing, false where only this request
    (JSON mode) is at fault.
    """

    def __init__(self, message: str, *, remember: bool) -> None:
        super().__init__(Fault.UPSTREAM_ERROR, message)
        self.remember = remember


class UpstreamTruncated(RelayError):
    """The upstream's stream ended before it said that it was complete."""

    def __init__(self, message: str = "The upstream ended the stream before the answer was complete.") -> None:
        super().__init__(Fault.UPSTREAM_ERROR, message)


def _without(text: str, secret: str) -> str:
    text = text.replace(secret, "***")
    for length in range(len(secret) - 1, _TELLING - 1, -1):
        if text.endswith(secret[:length]):
            return f"{text[:-length]}***"
    return text
