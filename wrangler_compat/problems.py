"""What went wrong, in Cloudflare's words: the API's envelope, the binding's two forms in one, and AI Gateway's.

Sources: Cloudflare's Workers AI error page (2026-07), bodies of the live API (to 2026-10), and for the binding
cloudflare/workerd `ai-api.ts` (2026-08). `BY_PATH` says which dialect a path's errors are told in.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException

from adapters.errors import Fault, RelayError
from adapters.simulator.script import ScriptedError
from adapters.wire.json_text import encode

Headers = tuple[tuple[bytes, bytes], ...]

_COME_BACK = 2.0  # seconds, where the upstream names none
_SHOWN = 200  # characters of a path that an error repeats

STATUS: Mapping[int, int] = {
    **dict.fromkeys((1001, 3003, 3030, 3039, 5004, 5006, 5007, 5021, 5023, 5024, 8001, 8006), 400),
    **dict.fromkeys((3023, 3041, 5016, 5018, 5035, 2021), 403),
    3042: 404,
    **dict.fromkeys((5005, 5019), 405),
    **dict.fromkeys((3007, 3008, 3046), 408),
    5028: 410,
    3006: 413,
    **dict.fromkeys((971, 3021, 3036, 3040, 4006), 429),
    3043: 500,
}
"""Cloudflare's codes of inference, and the HTTP status that each comes with."""

CODE: Mapping[Fault, int] = {
    Fault.RATE_LIMITED: 3040,
    Fault.QUOTA_EXHAUSTED: 3036,
    Fault.MODEL_NOT_FOUND: 5007,
    Fault.CONTEXT_LENGTH_EXCEEDED: 5021,
    Fault.RESPONSE_FORMAT: 5024,
    Fault.INVALID_VALUE: 5006,
    Fault.REQUEST_TOO_LARGE: 3006,
    Fault.CONTENT_POLICY: 3030,
    Fault.TERMS_NOT_ACCEPTED: 5016,
    Fault.PLAN_REQUIRED: 5035,
    Fault.BYOK_REQUIRED: 2021,
    Fault.UPSTREAM_TIMEOUT: 3046,
    Fault.UPSTREAM_AUTH: 3043,
    Fault.UPSTREAM_MISCONFIGURED: 3043,
    Fault.UPSTREAM_ACCOUNT_BLOCKED: 3023,
    Fault.UPSTREAM_ERROR: 3043,
    Fault.UPSTREAM_UNREACHABLE: 3043,
    Fault.OVERLOADED: 3040,
    Fault.LOOP: 3043,
}
"""The code of a fault for which no upstream gave one."""

# What the router and the reading of bodies can say: code, text.
_ROUTER: Mapping[int, tuple[int, str]] = {
    400: (7000, "No route for that URI"),
    404: (7003, "Could not route to {path}, perhaps your object identifier is invalid?"),
    405: (7001, "{method} not supported for requested URI."),
    413: (3006, "AiError: Request is too large"),
    415: (5006, "AiError: Bad input: the body must not be compressed"),
    501: (7001, "Not implemented"),
}
_UNAUTHORIZED = 2009


class Problem(NamedTuple):
    """An error before it is put into words; `result` is `{}` for errors of inference and null for all others."""

    status: int
    code: int
    message: str
    result: Any
    headers: Headers
    dump: Callable[[Problem], bytes]

    def body(self) -> bytes:
        return self.dump(self)


class Problems:
    """One of the dialects of Cloudflare's errors.

    `missing` and `refused` are status, code and text for a caller without a token and one with a wrong one;
    `headers` go with every error, `result` with those of a request that was understood.
    """

    __slots__ = ("INTERNAL", "_dump", "_headers", "_missing", "_refused", "_result")

    def __init__(
        self,
        dump: Callable[[Problem], bytes],
        *,
        headers: Headers = (),
        result: Mapping[str, Any] | None = MappingProxyType({}),
        missing: tuple[int, int, str] = (400, 9106, "Authentication failed (status: 400). {message}"),
        refused: tuple[int, int, str] = (401, 10000, "Authentication error"),
    ) -> None:
        self._dump = dump
        self._headers = headers
        self._missing = missing
        self._refused = refused
        self._result = None if result is None else dict(result)
        self.INTERNAL = Problem(500, 3043, "AiError: Internal server error", self._result, headers, dump)

    def of_relay_error(self, exc: RelayError) -> Problem:
        if isinstance(exc, ScriptedError):
            return self.of_upstream(*_as_scripted(exc))
        code = _code(exc)
        headers = self._headers + _advice(exc)
        if exc.request_id is not None:
            headers += ((b"cf-ai-req-id", exc.request_id.encode()),)
        status = 508 if exc.fault is Fault.LOOP else STATUS[code]
        return Problem(status, code, _text(exc, code), self._result, headers, self._dump)

    def of_upstream(self, status: int, code: int, message: str) -> Problem:
        """For an error that Cloudflare itself told, in other words."""
        return Problem(status, code, message, self._result, self._headers, self._dump)

    def of_refused_caller(self, missing: bool, message: str) -> Problem:
        """For a caller without a token (`missing`) or with one that is not ours."""
        status, code, text = self._missing if missing else self._refused
        return Problem(status, code, text.format(message=message), None, self._headers, self._dump)

    def of_http_exception(self, exc: HTTPException, method: str, path: str) -> Problem:
        code, text = _ROUTER.get(exc.status_code, (7000, exc.detail))
        shown = path.removeprefix("/client/v4")[:_SHOWN]
        usual = exc.detail == HTTPStatus(exc.status_code).phrase
        message = text.format(method=method, path=shown) if usual else exc.detail
        headers = tuple((k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (exc.headers or {}).items())
        result = self._result if code in STATUS else None
        return Problem(exc.status_code, code, message, result, self._headers + headers, self._dump)


def _code(exc: RelayError) -> int:
    """Cloudflare's own code where it is about inference: one about our credentials is not the caller's business."""
    code = exc.upstream_code
    return code if code is not None and code in STATUS else CODE[exc.fault]


# What Cloudflare says outside inference; only a script makes an upstream of ours say it: status, text.
_ELSEWHERE: Mapping[int, tuple[int, str]] = {
    1000: (401, "Invalid API Token"),
    1031: (403, "Authentication error"),
    2001: (400, "Please configure AI Gateway in the Cloudflare dashboard"),
    2009: (401, "Unauthorized"),
    2040: (400, "No such key is stored"),
    7000: (400, "No route for that URI"),
    7001: (405, "POST not supported for requested URI."),
    7003: (404, "Could not route to this path, perhaps your object identifier is invalid?"),
    9106: (400, "Authentication failed (status: 400)"),
    9107: (403, "Authentication error"),
    9109: (403, "Unauthorized to access requested resource"),
    10000: (401, "Authentication error"),
}


def _as_scripted(exc: ScriptedError) -> tuple[int, int, str]:
    """Status, code and text of an error that a script asks for: its own, else those that the code comes with."""
    code = exc.upstream_code or CODE[exc.fault]
    status, text = _ELSEWHERE.get(code) or (STATUS.get(code, 500), _text(exc, code))
    return exc.status or status, code, exc.words or text


def _text(exc: RelayError, code: int) -> str:
    """Cloudflare's frame around the message: what kind of error, and the hash of the request's id."""
    message = exc.message
    if code == 5006 and not message.startswith("Bad input"):
        message = f"Bad input: {message}"
    if code == 5006 and exc.param and exc.param not in message:
        message = f"{message} (at '{exc.param}')"
    if not message.startswith("AiError"):
        message = f"AiError: {message}"
    return message if exc.request_id is None else f"{message} ({_short(exc.request_id)})"


def _short(request_id: str) -> str:
    return hashlib.sha256(request_id.encode()).hexdigest()[:8]


def _advice(exc: RelayError) -> Headers:
    """What the SDKs, which repeat 408, 429 and 5xx by themselves, are told about trying again."""
    if exc.fault in (Fault.QUOTA_EXHAUSTED, Fault.LOOP):
        return ((b"x-should-retry", b"false"),)
    if exc.fault is Fault.RATE_LIMITED:
        return ((b"retry-after", str(math.ceil(exc.retry_after or _COME_BACK)).encode()),)
    return ()


def _dump_envelope(problem: Problem) -> bytes:
    errors = [{"code": problem.code, "message": problem.message}]
    return encode({"errors": errors, "success": False, "result": problem.result, "messages": []})


def _dump_both(problem: Problem) -> bytes:
    """Both forms that the binding reads: it takes the first one's keys where they are there."""
    return encode(
        {
            "internalCode": problem.code,
            "name": "InferenceUpstreamError",
            "description": problem.message,
            "message": problem.message,
            "errors": [{"code": problem.code, "message": problem.message}],
            "success": False,
            "result": problem.result,
        }
    )


def _dump_gateway(problem: Problem) -> bytes:
    error = [{"code": problem.code, "message": problem.message}]
    return encode({"success": False, "result": [], "messages": [], "error": error})


REST = Problems(_dump_envelope)
LISTS = Problems(_dump_envelope, result=None)
"""As REST, for what is no inference: its failures have no result at all."""
BINDING = Problems(_dump_both)
REMOTE = Problems(_dump_both, headers=((b"mf-forwarded-response", b"true"),))
"""As BINDING, for Miniflare: it looks no further for a page of Cloudflare Access in a 403."""
GATEWAY = Problems(
    _dump_gateway,
    missing=(401, _UNAUTHORIZED, "Unauthorized"),
    refused=(401, _UNAUTHORIZED, "Unauthorized"),
)

_INFERENCE = re.compile(r"/client/v4/accounts/[^/]+/ai/(?:run|v1)(?:/.*)?", re.S)
_PROXY = re.compile(r"/client/v4/accounts/[^/]+/ai/run/proxy")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_GATEWAY_PATH = re.compile(r"/v1/([A-Za-z0-9_-]+)/[A-Za-z0-9_-]+(?:/.*)?", re.S)

NOT_ACCOUNTS = frozenset(
    "assistants audio batches chat completions containers conversations edits embeddings engines evals files "
    "fine-tunes fine_tuning images messages models moderations organization organizations realtime rerank responses "
    "skills threads uploads usage vector_stores videos".split()
)
"""First segments below `/v1` of OpenAI's API and of its like: no account of a gateway is called so."""


def speaks_binding(path: str) -> bool:
    return _PROXY.fullmatch(path) is not None


def speaks_remote(path: str) -> bool:
    return path == "/remote-bindings" or path.startswith("/remote-bindings/")


def speaks_v4(path: str) -> bool:
    return path == "/client/v4" or path.startswith("/client/v4/")


def speaks_inference(path: str) -> bool:
    """Whether it is a part of the API in which a model is asked."""
    return _INFERENCE.fullmatch(path) is not None


def speaks_gateway(path: str) -> bool:
    """Whether it is one of AI Gateway's: `/v1/{account}/{gateway}` and what is below it."""
    match = _GATEWAY_PATH.fullmatch(path)
    return match is not None and is_account(match[1])


def is_account(segment: str) -> bool:
    """Whether the first segment below `/v1` can be an account's id."""
    return segment not in NOT_ACCOUNTS and _NAME.fullmatch(segment) is not None


BY_PATH: tuple[tuple[Callable[[str], bool], Problems], ...] = (
    (speaks_binding, BINDING),
    (speaks_remote, REMOTE),
    (speaks_inference, REST),
    (speaks_v4, LISTS),
    (speaks_gateway, GATEWAY),
)
