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
from adapters.wire.workers_ai_codes import CODES

Headers = tuple[tuple[bytes, bytes], ...]

_COME_BACK = 2.0  # seconds, where the upstream names none
_SHOWN = 200  # characters of a path that an error repeats

STATUS: Mapping[int, int] = {
    code: told.status for code, told in CODES.items() if told.inference and told.status is not None
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
    400: (7000, CODES[7000].words),
    404: (7003, CODES[7003].words),
    405: (7001, CODES[7001].words),
    408: (3007, f"AiError: {CODES[3007].words}: the body stood still, or was too slow for its size"),
    413: (3006, f"AiError: {CODES[3006].words}"),
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
        missing: tuple[int, int, str] = (400, 9106, f"{CODES[9106].words}. {{message}}"),
        refused: tuple[int, int, str] = (401, 10000, CODES[10000].words),
    ) -> None:
        self._dump = dump
        self._headers = headers
        self._missing = missing
        self._refused = refused
        self._result = None if result is None else dict(result)
        self.INTERNAL = Problem(500, 3043, f"AiError: {CODES[3043].words}", self._result, headers, dump)

    def of_relay_error(self, exc: RelayError) -> Problem:
        if isinstance(exc, ScriptedError):
            return self._of_script(exc)
        code = _code(exc)
        headers = self._headers + _advice(exc) + _inferred(exc)
        status = 508 if exc.fault is Fault.LOOP else STATUS[code]
        return Problem(status, code, _text(exc, code), self._result, headers, self._dump)

    def _of_script(self, exc: ScriptedError) -> Problem:
        """The script's words, else Cloudflare's own: byte for byte what an error says that nobody asked for."""
        if exc.inference:
            text, result = _framed(f"AiError: {exc.told}", exc), self._result
        else:
            text, result = exc.told.replace("{path}", _shown(exc.path)).replace("{method}", "POST"), None
        headers = self._headers + _advice(exc) + (_inferred(exc) if exc.inference else ())
        return Problem(exc.status, exc.error, exc.words or text, result, headers, self._dump)

    def of_upstream(self, status: int, code: int, message: str) -> Problem:
        """For an error that Cloudflare itself told, in other words."""
        return Problem(status, code, message, self._result, self._headers, self._dump)

    def of_refused_caller(self, missing: bool, message: str) -> Problem:
        """For a caller without a token (`missing`) or with one that is not ours."""
        status, code, text = self._missing if missing else self._refused
        return Problem(status, code, text.format(message=message), None, self._headers, self._dump)

    def of_http_exception(self, exc: HTTPException, method: str, path: str) -> Problem:
        code, text = _ROUTER.get(exc.status_code, (7000, exc.detail))
        usual = exc.detail == HTTPStatus(exc.status_code).phrase
        message = text.format(method=method, path=_shown(path)) if usual else exc.detail
        headers = tuple((k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (exc.headers or {}).items())
        result = self._result if code in STATUS else None
        return Problem(exc.status_code, code, message, result, self._headers + headers, self._dump)


def _code(exc: RelayError) -> int:
    """Cloudflare's own code where it is about inference: one about our credentials is not the caller's business."""
    code = exc.upstream_code
    return code if code is not None and code in STATUS else CODE[exc.fault]


def _text(exc: RelayError, code: int) -> str:
    """Cloudflare's frame around the message: what kind of error, and the hash of the request's id."""
    message = exc.message
    if code == 5006 and not message.startswith("Bad input"):
        message = f"Bad input: {message}"
    if code == 5006 and exc.param and exc.param not in message:
        message = f"{message} (at '{exc.param}')"
    return _framed(message, exc)


def _framed(message: str, exc: RelayError) -> str:
    if not message.startswith("AiError"):
        message = f"AiError: {message}"
    return message if exc.request_id is None else f"{message} ({_short(exc.request_id)})"


def _shown(path: str) -> str:
    """A path as an error repeats it."""
    return path.removeprefix("/client/v4")[:_SHOWN]


def _short(request_id: str) -> str:
    return hashlib.sha256(request_id.encode()).hexdigest()[:8]


def _advice(exc: RelayError) -> Headers:
    """What the SDKs, which repeat 408, 429 and 5xx by themselves, are told about trying again."""
    if exc.fault in (Fault.QUOTA_EXHAUSTED, Fault.LOOP):
        return ((b"x-should-retry", b"false"),)
    if exc.fault is Fault.RATE_LIMITED:
        return ((b"retry-after", str(math.ceil(exc.retry_after or _COME_BACK)).encode()),)
    return ()


def _inferred(exc: RelayError) -> Headers:
    """The id by which the binding knows a request that came as far as inference."""
    return () if exc.request_id is None else ((b"cf-ai-req-id", exc.request_id.encode()),)


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
