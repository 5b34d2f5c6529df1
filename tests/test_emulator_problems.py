"""Errors in Cloudflare's three forms."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from adapters.catalogue import Model
from adapters.errors import BY_UPSTREAM_CODE, Fault, InvalidRequest, RelayError
from adapters.simulator.script import Script, ScriptedError
from wrangler_compat.problems import BINDING, BY_PATH, CODE, GATEWAY, LISTS, REMOTE, REST, STATUS, Problems


def test_every_fault_has_a_code_with_a_status() -> None:
    assert set(CODE) == set(Fault)
    assert set(CODE.values()) <= set(STATUS)


INFERENCE: dict[str, tuple[RelayError, int, int, str]] = {
    "bad input": (InvalidRequest("x is wrong", param="x"), 400, 5006, "AiError: Bad input: x is wrong"),
    "a field that the text leaves out": (
        InvalidRequest("Wrong.", param="messages[0]"),
        400,
        5006,
        "AiError: Bad input: Wrong. (at 'messages[0]')",
    ),
    "an unknown model": (
        RelayError(Fault.MODEL_NOT_FOUND, "No such model", param="model"),
        400,
        5007,
        "AiError: No such model",
    ),
    "a retired model": (RelayError(Fault.MODEL_NOT_FOUND, "Gone.", upstream_code=5028), 410, 5028, "AiError: Gone."),
    "Cloudflare's words": (
        RelayError(Fault.CONTEXT_LENGTH_EXCEEDED, "AiError: too long", upstream_code=5021),
        400,
        5021,
        "AiError: too long",
    ),
    "no LoRA": (RelayError(Fault.INVALID_VALUE, "No LoRA.", upstream_code=5005), 405, 5005, "AiError: No LoRA."),
    "too large": (RelayError(Fault.REQUEST_TOO_LARGE, "Large."), 413, 3006, "AiError: Large."),
    "too late": (RelayError(Fault.UPSTREAM_TIMEOUT, "Late."), 408, 3046, "AiError: Late."),
    "no capacity": (RelayError(Fault.RATE_LIMITED, "Busy."), 429, 3040, "AiError: Busy."),
    "too often": (RelayError(Fault.RATE_LIMITED, "Busy.", upstream_code=3021), 429, 3021, "AiError: Busy."),
    "shutting down": (RelayError(Fault.OVERLOADED, "Bye."), 429, 3040, "AiError: Bye."),
    "our own token is bad": (
        RelayError(Fault.UPSTREAM_AUTH, "Ours.", upstream_code=10000),
        500,
        3043,
        "AiError: Ours.",
    ),
    "our own address is bad": (
        RelayError(Fault.UPSTREAM_MISCONFIGURED, "Ours.", upstream_code=7003),
        500,
        3043,
        "AiError: Ours.",
    ),
    "the upstream failed": (
        RelayError(Fault.UPSTREAM_ERROR, "Broken.", upstream_code=3044),
        500,
        3043,
        "AiError: Broken.",
    ),
    "blocked": (RelayError(Fault.UPSTREAM_ACCOUNT_BLOCKED, "No.", upstream_code=3023), 403, 3023, "AiError: No."),
    "a loop": (RelayError(Fault.LOOP, "Round."), 508, 3043, "AiError: Round."),
}


@pytest.mark.parametrize(("error", "status", "code", "message"), INFERENCE.values(), ids=INFERENCE)
def test_an_error_of_inference_has_cloudflares_code_and_status(
    error: RelayError, status: int, code: int, message: str
) -> None:
    problem = REST.of_relay_error(error)
    assert problem.status == status
    assert json.loads(problem.body()) == {
        "errors": [{"code": code, "message": message}],
        "success": False,
        "result": {},
        "messages": [],
    }


@pytest.mark.parametrize("code", sorted(set(BY_UPSTREAM_CODE) & set(STATUS)))
def test_a_code_of_cloudflares_comes_with_its_own_status(code: int) -> None:
    problem = REST.of_relay_error(RelayError(BY_UPSTREAM_CODE[code], "It failed.", upstream_code=code))
    assert (problem.status, problem.code) == (STATUS[code], code)


def test_the_text_ends_with_a_hash_of_the_requests_id() -> None:
    texts = []
    for request_id in ("req_1", "req_1", "req_2"):
        error = InvalidRequest("Wrong.")
        error.request_id = request_id
        problem = REST.of_relay_error(error)
        assert (b"cf-ai-req-id", request_id.encode()) in problem.headers
        texts.append(problem.message)
    assert texts[0] == texts[1] != texts[2]
    assert re.fullmatch(r"AiError: Bad input: Wrong\. \([0-9a-f]{8}\)", texts[0])


ADVICE: dict[str, tuple[RelayError, tuple[tuple[bytes, bytes], ...]]] = {
    "a quota is not renewed by asking again": (
        RelayError(Fault.QUOTA_EXHAUSTED, "x"),
        ((b"x-should-retry", b"false"),),
    ),
    "nor is a loop undone": (RelayError(Fault.LOOP, "x"), ((b"x-should-retry", b"false"),)),
    "when to come back": (RelayError(Fault.RATE_LIMITED, "x", retry_after=6.2), ((b"retry-after", b"7"),)),
    "when to come back, unasked": (RelayError(Fault.RATE_LIMITED, "x"), ((b"retry-after", b"2"),)),
    "nothing": (RelayError(Fault.UPSTREAM_ERROR, "x"), ()),
}


SCRIPTED: dict[str, tuple[dict[str, Any], dict[bytes, bytes]]] = {
    "no capacity": ({"error": 3040}, {b"cf-ai-req-id": b"req_1", b"retry-after": b"2"}),
    "too many in a minute": ({"error": 3021}, {b"cf-ai-req-id": b"req_1", b"retry-after": b"2"}),
    "an allocation used up": ({"error": 3036}, {b"cf-ai-req-id": b"req_1", b"x-should-retry": b"false"}),
    "with words of the script's": ({"error": 5006, "message": "No."}, {b"cf-ai-req-id": b"req_1"}),
    "an error without advice": ({"error": 5007}, {b"cf-ai-req-id": b"req_1"}),
    "a code of the script's own": ({"error": 99, "status": 500}, {b"cf-ai-req-id": b"req_1"}),
    "what is told before inference": ({"error": 10000}, {}),
}


@pytest.mark.parametrize(("script", "headers"), SCRIPTED.values(), ids=SCRIPTED)
def test_a_scripted_error_has_the_headers_of_a_real_one(script: dict[str, Any], headers: dict[bytes, bytes]) -> None:
    error = ScriptedError(
        Script(**script), script["error"], Model(id="@cf/a/b", task="Text Generation", status="listed")
    )
    error.request_id = "req_1"
    assert dict(REST.of_relay_error(error).headers) == headers
    assert dict(REMOTE.of_relay_error(error).headers) == headers | {b"mf-forwarded-response": b"true"}


@pytest.mark.parametrize(("error", "headers"), ADVICE.values(), ids=ADVICE)
def test_clients_are_told_whether_to_try_again(error: RelayError, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    assert REST.of_relay_error(error).headers == headers


ROUTER: dict[str, tuple[HTTPException, int, int, str, Any]] = {
    "no route": (
        HTTPException(404),
        404,
        7003,
        "Could not route to /x/{y}, perhaps your object identifier is invalid?",
        None,
    ),
    "a reason of our own": (HTTPException(404, "Log Not Found"), 404, 7003, "Log Not Found", None),
    "a method": (HTTPException(405), 405, 7001, "PUT not supported for requested URI.", None),
    "an escape": (HTTPException(400), 400, 7000, "No route for that URI", None),
    "a large body": (HTTPException(413), 413, 3006, "AiError: Request is too large", {}),
    "a compressed body": (HTTPException(415), 415, 5006, "AiError: Bad input: the body must not be compressed", {}),
    "a socket": (HTTPException(501, "No sockets."), 501, 7001, "No sockets.", None),
    "anything else": (HTTPException(418), 418, 7000, "I'm a Teapot", None),
}


@pytest.mark.parametrize(("error", "status", "code", "message", "result"), ROUTER.values(), ids=ROUTER)
def test_the_router_speaks_cloudflares_words(
    error: HTTPException, status: int, code: int, message: str, result: Any
) -> None:
    problem = REST.of_http_exception(error, "PUT", "/client/v4/x/{y}")
    assert problem.status == status
    body = json.loads(problem.body())
    assert (body["errors"], body["result"]) == ([{"code": code, "message": message}], result)


def test_the_allowed_methods_are_kept() -> None:
    problem = REST.of_http_exception(HTTPException(405, headers={"Allow": "GET"}), "PUT", "/client/v4/x")
    assert problem.headers == ((b"allow", b"GET"),)


def test_the_bindings_errors_have_both_forms() -> None:
    body = json.loads(BINDING.of_relay_error(RelayError(Fault.MODEL_NOT_FOUND, "None.")).body())
    assert body == {
        "internalCode": 5007,
        "name": "InferenceUpstreamError",
        "description": "AiError: None.",
        "message": "AiError: None.",
        "errors": [{"code": 5007, "message": "AiError: None."}],
        "success": False,
        "result": {},
    }


@pytest.mark.parametrize(
    "problem",
    [
        REMOTE.INTERNAL,
        REMOTE.of_relay_error(InvalidRequest("x")),
        REMOTE.of_refused_caller(True, "x"),
        REMOTE.of_http_exception(HTTPException(404), "GET", "/"),
        REMOTE.of_upstream(403, 5016, "x"),
    ],
)
def test_every_error_for_miniflare_says_that_it_was_forwarded(problem: Any) -> None:
    assert (b"mf-forwarded-response", b"true") in problem.headers


def test_the_gateways_errors_are_a_list_called_error() -> None:
    assert json.loads(GATEWAY.of_refused_caller(False, "x").body()) == {
        "success": False,
        "result": [],
        "messages": [],
        "error": [{"code": 2009, "message": "Unauthorized"}],
    }


CALLERS: dict[str, tuple[Problems, bool, int, int]] = {
    "no token": (REST, True, 400, 9106),
    "a wrong token": (REST, False, 401, 10000),
    "no token at a gateway": (GATEWAY, True, 401, 2009),
    "a wrong token at a gateway": (GATEWAY, False, 401, 2009),
}


@pytest.mark.parametrize(("problems", "missing", "status", "code"), CALLERS.values(), ids=CALLERS)
def test_who_is_not_let_in_is_told_so(problems: Problems, missing: bool, status: int, code: int) -> None:
    problem = problems.of_refused_caller(missing, "Send {a token}.")
    assert (problem.status, problem.code, problem.result) == (status, code, None)


def test_a_bug_tells_nothing() -> None:
    assert (REST.INTERNAL.status, REST.INTERNAL.code) == (500, 3043)


PATHS: dict[str, Problems | None] = {
    "/v1/chat/completions": None,
    "/v1/models": None,
    "/v1/models/@cf/a/b": None,
    "/v1/audio/speech": None,
    "/v1/nothing": None,
    "/v1/%/x": None,
    "/healthz": None,
    "/client/v4": LISTS,
    "/client/v4x": None,
    "/client/v4/user": LISTS,
    "/client/v4/accounts/a/ai/models/search": LISTS,
    "/client/v4/accounts/a/ai/v1/models": REST,
    "/client/v4/accounts/a/ai/run/@cf/a/b": REST,
    "/client/v4/accounts/a/ai/run/proxy": BINDING,
    "/client/v4/accounts/a/ai/run/proxy/x": REST,
    "/remote-bindings": REMOTE,
    "/remote-bindings/x": REMOTE,
    "/v1/local/gateway": GATEWAY,
    "/v1/local/gateway/": GATEWAY,
    "/v1/local/gateway/workers-ai/@cf/a/b": GATEWAY,
    "/v1/local/gateway/openai/x": GATEWAY,
}


@pytest.mark.parametrize(("path", "expected"), PATHS.items(), ids=PATHS)
def test_a_path_belongs_to_one_dialect(path: str, expected: Problems | None) -> None:
    assert next((problems for speaks, problems in BY_PATH if speaks(path)), None) is expected
