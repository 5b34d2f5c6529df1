"""Cloudflare's errors in every envelope, to the one table of answers."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import BY_UPSTREAM_CODE, Fault, RelayError, Retry
from adapters.wire.workers_ai_errors import clean, parse_error, read_error
from proxy.problems import of_relay_error
from tests import transcripts


class Case(NamedTuple):
    """Cloudflare's code and status, then our status, type, code and own retries."""

    upstream_code: int
    upstream_status: int
    status: int
    type: str
    code: str
    retry: Retry = Retry.NO


INVALID, SERVER, FORBIDDEN = "invalid_request_error", "server_error", "permission_error"

# contract.md's table, with the statuses that Cloudflare was seen to send.
TABLE = [
    Case(3021, 429, 429, "rate_limit_error", "rate_limit_exceeded", Retry.YES),
    Case(971, 429, 429, "rate_limit_error", "rate_limit_exceeded", Retry.YES),
    Case(3040, 429, 429, "rate_limit_error", "rate_limit_exceeded", Retry.YES),
    Case(3036, 429, 429, "insufficient_quota", "insufficient_quota"),
    Case(4006, 429, 429, "insufficient_quota", "insufficient_quota"),
    Case(5007, 400, 404, INVALID, "model_not_found"),
    Case(3042, 404, 404, INVALID, "model_not_found"),
    Case(5028, 410, 404, INVALID, "model_not_found"),
    Case(5018, 403, 404, INVALID, "model_not_found"),
    Case(3041, 403, 404, INVALID, "model_not_found"),
    Case(5021, 400, 400, INVALID, "context_length_exceeded"),
    Case(5023, 400, 400, INVALID, "invalid_value"),
    Case(5024, 400, 400, INVALID, "invalid_value"),
    Case(3003, 400, 400, INVALID, "invalid_value"),
    Case(5004, 400, 400, INVALID, "invalid_value"),
    Case(5005, 405, 400, INVALID, "invalid_value"),
    Case(5006, 400, 400, INVALID, "invalid_value"),
    Case(8001, 400, 400, INVALID, "invalid_value"),
    Case(8006, 400, 400, INVALID, "invalid_value"),
    Case(1001, 400, 400, INVALID, "invalid_value"),
    Case(3039, 400, 400, INVALID, "invalid_value"),
    Case(3006, 413, 413, INVALID, "request_too_large"),
    Case(3030, 400, 400, INVALID, "content_policy_violation"),
    Case(5016, 403, 403, FORBIDDEN, "model_terms_not_accepted"),
    Case(5035, 403, 403, FORBIDDEN, "plan_required"),
    Case(2021, 400, 403, FORBIDDEN, "byok_required"),
    Case(3007, 408, 504, SERVER, "upstream_timeout", Retry.ONCE),
    Case(3008, 408, 504, SERVER, "upstream_timeout", Retry.ONCE),
    Case(3046, 408, 504, SERVER, "upstream_timeout", Retry.ONCE),
    Case(10000, 401, 502, SERVER, "upstream_auth"),
    Case(1000, 401, 502, SERVER, "upstream_auth"),
    Case(9106, 400, 502, SERVER, "upstream_auth"),
    Case(9107, 400, 502, SERVER, "upstream_auth"),
    Case(9109, 403, 502, SERVER, "upstream_auth"),
    Case(1031, 403, 502, SERVER, "upstream_auth"),
    Case(2009, 401, 502, SERVER, "upstream_auth"),
    Case(7000, 400, 502, SERVER, "upstream_misconfigured"),
    Case(7001, 405, 502, SERVER, "upstream_misconfigured"),
    Case(7003, 404, 502, SERVER, "upstream_misconfigured"),
    Case(2001, 400, 502, SERVER, "upstream_misconfigured"),
    Case(2040, 400, 502, SERVER, "upstream_misconfigured"),
    Case(5019, 405, 502, SERVER, "upstream_misconfigured"),
    Case(3023, 403, 503, SERVER, "upstream_account_blocked"),
]


def envelopes(code: int | str, message: str) -> dict[str, Any]:
    """One error in every form that Cloudflare has for it."""
    item = {"code": code, "message": message}
    return {
        "of inference": {"errors": [item], "success": False, "result": {}, "messages": []},
        "of the account": {"result": None, "success": False, "errors": [item], "messages": []},
        "short": {"errors": [item], "success": False, "result": {}},
        "of the gateway": {"success": False, "result": [], "messages": [], "error": [item]},
        "of a newer gateway": {
            "success": False,
            "error": [{"name": "E", "httpCode": 400, "internalCode": code, **item}],
        },
        "of the binding": {"internalCode": code, "name": "E", "message": message, "description": message},
        "an object": {"error": item},
        "the code in the text": {"errors": [{"message": f"{code}: {message}"}]},
        "the code in a sentence": {"error": f"InferenceUpstreamError: {code}: {message}"},
        "the code after a word": {"error": f"ERROR {code}: {message}"},
    }


FORMS = tuple(envelopes(0, ""))


@pytest.mark.parametrize("case", TABLE, ids=lambda case: str(case.upstream_code))
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("as_text", [False, True], ids=["number", "string"])
def test_every_code_has_its_answer_in_every_envelope(case: Case, form: str, as_text: bool) -> None:
    code = str(case.upstream_code) if as_text else case.upstream_code
    body = json.dumps(envelopes(code, "AiError: AiError: words (8700d6e7)")[form]).encode()
    error = parse_error(case.upstream_status, body, context_window=4096)
    problem = of_relay_error(error)
    assert (problem.status, problem.type, problem.code) == (case.status, case.type, case.code)
    assert error.fault.retry is case.retry
    assert error.upstream_code == case.upstream_code


def test_the_table_of_codes_is_the_contracts() -> None:
    assert set(BY_UPSTREAM_CODE) == {case.upstream_code for case in TABLE}


@pytest.mark.parametrize("form", FORMS)
def test_other_failures_of_the_upstream_are_its_own_and_tried_again(form: str) -> None:
    error = parse_error(500, json.dumps(envelopes(3043, "internal server error")[form]).encode())
    problem = of_relay_error(error)
    assert (problem.status, problem.type, problem.code) == (502, SERVER, "upstream_error")
    assert error.fault.retry is Retry.YES


PARAMS = {"model_not_found": "model", "context_length_exceeded": "messages"}


@pytest.mark.parametrize("case", TABLE, ids=lambda case: str(case.upstream_code))
def test_the_field_at_fault_is_named_where_the_code_names_one(case: Case) -> None:
    body = json.dumps(envelopes(case.upstream_code, "words")["of inference"]).encode()
    expected = "response_format" if case.upstream_code in (5023, 5024) else PARAMS.get(case.code)
    assert parse_error(case.upstream_status, body).param == expected


RECORDED = {
    "error-rate-limited.json": (429, Fault.RATE_LIMITED, 3021),
    "error-bad-input.json": (400, Fault.INVALID_VALUE, 5006),
    "error-authentication.json": (401, Fault.UPSTREAM_AUTH, 10000),
    "error-gateway.json": (401, Fault.UPSTREAM_AUTH, 2009),
    "error-catalogue.json": (404, Fault.UPSTREAM_MISCONFIGURED, None),
    "error-binding.json": (400, Fault.INVALID_VALUE, 1001),
}


@pytest.mark.parametrize(("name", "status", "fault", "code"), [(name, *row) for name, row in RECORDED.items()])
def test_a_recorded_error_is_understood(name: str, status: int, fault: Fault, code: int | None) -> None:
    error = parse_error(status, transcripts.read(name))
    assert (error.fault, error.upstream_code) == (fault, code)


def test_every_recorded_error_is_read_here() -> None:
    assert {path.name for path in transcripts.FOLDER.glob("error-*.json")} == set(RECORDED)


BY_STATUS = {
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
    301: Fault.UPSTREAM_MISCONFIGURED,
    418: Fault.UPSTREAM_ERROR,
    500: Fault.UPSTREAM_ERROR,
    502: Fault.UPSTREAM_ERROR,
    503: Fault.UPSTREAM_ERROR,
    520: Fault.UPSTREAM_ERROR,
}

WITHOUT_A_CODE: dict[str, Any] = {
    "an unknown code": {"errors": [{"code": 12345, "message": "new"}]},
    "a code that is no number": {"errors": [{"code": "E_NEW", "message": "new"}]},
    "a code of odd digits": {"errors": [{"code": "\u00b2", "message": "new"}]},
    "a code of many digits": {"errors": [{"code": "9" * 5000, "message": "new"}]},
    "a code that is a boolean": {"errors": [{"code": True, "message": "new"}]},
    "only words": {"error": "new"},
    "an empty list": {"errors": [], "success": False},
    "an odd list": {"errors": [None]},
    "an odd value": {"errors": 5},
    "an odd error": {"error": {"message": {}}},
    "no object": [],
    "a number": 5,
}


@pytest.mark.parametrize(("status", "fault"), BY_STATUS.items())
@pytest.mark.parametrize("value", WITHOUT_A_CODE.values(), ids=WITHOUT_A_CODE)
def test_without_a_known_code_the_status_decides(status: int, fault: Fault, value: Any) -> None:
    assert parse_error(status, json.dumps(value).encode()).fault is fault


PAGES = {
    "HTML": b"<!DOCTYPE html><html><body>error code: 1000 at 0123456789abcdef0123456789abcdef</body></html>",
    "nothing": b"",
    "blanks": b" \n",
    "words": b"upstream connect error",
    "broken JSON": b'{"errors":[{"code":3036,',
    "no UTF-8": b'{"error":"\xff"}',
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("status", [400, 500, 502, 503, 520, 524])
def test_a_body_that_is_no_json_is_an_upstream_error_and_not_passed_on(status: int, page: bytes) -> None:
    error = parse_error(status, page)
    assert error.fault is Fault.UPSTREAM_ERROR
    assert error.message == "Workers AI failed to answer."


# What Cloudflare and the engines behind it say of too long a prompt, and the limit that our answer has to name.
CONTEXT: list[tuple[int, Any, str]] = [
    (400, {"code": 5021, "message": "AiError: context window exceeded"}, "8192"),
    (400, {"code": 5021, "message": ""}, "8192"),
    (400, {"code": 5006, "message": "This model's maximum context length is 4096 tokens. However, .."}, "4096"),
    (
        400,
        {"code": 8001, "message": "Requested token count exceeds the model's maximum context length of 202752 tokens."},
        "202752",
    ),
    (413, {"code": 3006, "message": "The prompt is too long for the context window (7968)."}, "7968"),
    (
        413,
        {"message": "The estimated number of tokens (9000) exceeded this model context window limit (24000)."},
        "24000",
    ),
    (400, {"message": "maximum context length of 1000 tokens exceeded"}, "1000"),
    (400, {"message": "maximum context length of 10000 tokens exceeded"}, "10000"),
    (400, {"message": "too many tokens"}, "8192"),
]


@pytest.mark.parametrize(("status", "item", "limit"), CONTEXT)
def test_too_long_a_prompt_is_said_in_the_words_that_clients_look_for(status: int, item: Any, limit: str) -> None:
    error = parse_error(status, json.dumps({"errors": [item]}).encode(), context_window=8192)
    assert error.fault is Fault.CONTEXT_LENGTH_EXCEEDED
    assert f"This model's maximum context length is {limit} tokens" in error.message
    assert "context_length_exceeded" in error.message
    assert of_relay_error(error).code == "context_length_exceeded"


def test_a_limit_that_nobody_knows_is_not_made_up() -> None:
    message = parse_error(400, b'{"errors":[{"code":5021,"message":"too long"}]}').message
    assert "maximum context length" in message
    assert "context_length_exceeded" in message
    assert not any(character.isdigit() for character in message)


def test_too_large_an_answer_is_the_clients_own_limit() -> None:
    text = "max_completion_tokens is too large: 99999. This model supports at most 32768 completion tokens."
    error = parse_error(400, json.dumps({"errors": [{"code": 8001, "message": text}]}).encode())
    assert (error.fault, error.param) == (Fault.INVALID_VALUE, "max_tokens")
    assert "32768" in error.message


def test_words_about_the_context_do_not_outweigh_a_code_of_another_kind() -> None:
    body = b'{"errors":[{"code":3036,"message":"context length"}]}'
    assert parse_error(429, body).fault is Fault.QUOTA_EXHAUSTED


ACCOUNT = "0123456789abcdef0123456789abcdef"
TOKENS = ("cfut_AbCd-123_xyz", "cfat_AbCd123", "cfk_AbCd123", "Bearer v1.0-abcdef")


@pytest.mark.parametrize("case", TABLE, ids=lambda case: str(case.upstream_code))
def test_no_message_holds_an_account_or_a_token(case: Case) -> None:
    text = f"Could not route to /accounts/{ACCOUNT}/ai/run with {' '.join(TOKENS)}, model @cf/meta/x"
    for form in FORMS:
        error = parse_error(case.upstream_status, json.dumps(envelopes(case.upstream_code, text)[form]).encode())
        for secret in (ACCOUNT, *TOKENS):
            assert secret.removeprefix("Bearer ") not in error.message, form
            assert str(error) == error.message


ECHOES = [
    "[{'type': 'string_type', 'loc': ('body', 0), 'msg': 'Input should be a string', 'input': 'my prompt'}]",
    '{"detail":[{"msg":"Input should be a string","input":{"role":"user","content":"my prompt"}}]}',
    "1 validation error: Input should be a string [type=string_type, input_value='my prompt', input_type=str]",
]


@pytest.mark.parametrize("text", ECHOES)
@pytest.mark.parametrize("code", [8001, 5006, 5012])
def test_no_message_repeats_what_the_client_sent(text: str, code: int) -> None:
    error = parse_error(400, json.dumps({"errors": [{"code": code, "message": f"AiError: {text}"}]}).encode())
    assert "Input should be a string" in error.message
    assert "my prompt" not in error.message


CLEANED = {
    "AiError: AiError: rate limiting: reached (8700d6e7)": "rate limiting: reached",
    "AiError: Ai: This account is not allowed to access @cf/x/y": "This account is not allowed to access @cf/x/y",
    "AiError: Bad input: Error: oneOf at '/' not met": "Bad input: Error: oneOf at '/' not met",
    "InferenceUpstreamError: words": "words",
    "words (0f8fad5b-d9cb-469f-a165-70867728950e)": "words",
    "words (of a kind)": "words (of a kind)",
    "": "",
    "x" * 400: "x" * 300,
}


@pytest.mark.parametrize(("text", "words"), CLEANED.items())
def test_cloudflares_words_are_passed_on_without_what_surrounds_them(text: str, words: str) -> None:
    assert clean(text) == words


def test_an_error_without_words_says_its_status() -> None:
    assert parse_error(400, b'{"errors":[{"code":5006}]}').message == "Workers AI refused the request (status 400)."


@given(st.integers(300, 599), st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_no_body_does_worse_than_a_relay_error(status: int, body: bytes) -> None:
    assert isinstance(parse_error(status, body), RelayError)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["3036", "3040: x", 3036]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["errors", "error", "code", "message", "internalCode", "description"]), inner)
    ),
    max_leaves=8,
)


@given(ODD)
def test_no_odd_value_does_worse_than_a_relay_error(value: Any) -> None:
    error = parse_error(400, json.dumps(value).encode())
    assert isinstance(error, RelayError)
    assert error.message


PROSE = {
    "a caller's words": {"errors": [{"message": "AiError: cannot parse the input near 'please say 4006: now'"}]},
    "a pointer elsewhere": {"error": "see error code 3036"},
    "a limit": {"error": "at most 10000 tokens: fewer, please"},
}


@pytest.mark.parametrize("body", PROSE.values(), ids=PROSE)
def test_a_number_amid_the_words_is_no_code(body: dict[str, Any]) -> None:
    """A caller whose words an error repeats must not be able to put the account to rest."""
    error = read_error(400, body)
    assert (error.fault, error.upstream_code) == (Fault.INVALID_VALUE, None)
