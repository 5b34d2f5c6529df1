"""What engines say when they refuse, as our faults."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import Fault, Retry
from adapters.wire.openai_engine_errors import parse_engine_error, read_engine_error


def openai(message: str, type: str = "BadRequestError", code: object = 400, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": None, "code": code, **more}}


# The status, the body, the fault, and what the message has to hold.
ERRORS: dict[str, tuple[int, object, Fault, str]] = {
    "vLLM: context": (
        400,
        openai(
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4800 in the "
            "messages, 200 in the completion). Please reduce the length of the messages or completion."
        ),
        Fault.CONTEXT_LENGTH_EXCEEDED,
        "maximum context length is 4096 tokens",
    ),
    "vLLM, older: context": (
        400,
        {"object": "error", "message": "This model's maximum context length is 2048 tokens.", "code": 400},
        Fault.CONTEXT_LENGTH_EXCEEDED,
        "maximum context length is 2048 tokens",
    ),
    "vLLM: max_tokens alone is too large": (
        400,
        openai("max_tokens is too large: 5000. This model's maximum context length is 4096 tokens"),
        Fault.INVALID_VALUE,
        "max_tokens is too large: 5000",
    ),
    "SGLang: context": (
        400,
        {
            "object": "error",
            "message": "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
            "type": "BadRequestError",
            "code": 400,
        },
        Fault.CONTEXT_LENGTH_EXCEEDED,
        "maximum context length is 4096 tokens",
    ),
    "SGLang: prompt and answer": (
        400,
        openai("Requested token count exceeds the model's maximum context length of 8192 tokens."),
        Fault.CONTEXT_LENGTH_EXCEEDED,
        "maximum context length is 8192 tokens",
    ),
    "llama-server: a picture for a model without eyes": (
        500,
        openai("image input is not supported - hint: you may need to provide the mmproj", "server_error", 500),
        Fault.INVALID_VALUE,
        "image input is not supported",
    ),
    "llama-server: context": (
        400,
        openai(
            "request (4476 tokens) exceeds the available context size (512 tokens), try increasing it",
            "exceed_context_size_error",
            n_ctx=512,
        ),
        Fault.CONTEXT_LENGTH_EXCEEDED,
        "maximum context length is 512 tokens",
    ),
    "llama-server: context, told by a number alone": (
        400,
        openai("the request exceeds the available context size", "exceed_context_size_error", n_ctx=512),
        Fault.CONTEXT_LENGTH_EXCEEDED,
        "maximum context length is 512 tokens",
    ),
    "llama-server: a text to embed": (
        500,
        openai("input is too large to process. increase the physical batch size", "server_error", 500),
        Fault.CONTEXT_LENGTH_EXCEEDED,
        "maximum context length is 7777 tokens",
    ),
    "OpenAI: context by its code": (
        400,
        openai("Too long.", "invalid_request_error", "context_length_exceeded"),
        Fault.CONTEXT_LENGTH_EXCEEDED,
        "maximum context length is 7777 tokens",
    ),
    "TGI: context": (
        422,
        {"error": "Input validation error: `inputs` must have less; must be <= 1024. Given: 2000", "error_type": "v"},
        Fault.CONTEXT_LENGTH_EXCEEDED,
        "maximum context length is 1024 tokens",
    ),
    "vLLM: model": (
        404,
        openai("The model `x` does not exist.", "NotFoundError", 404),
        Fault.MODEL_NOT_FOUND,
        "`x`",
    ),
    "Ollama: model": (404, {"error": 'model "x" not found, try pulling it first'}, Fault.MODEL_NOT_FOUND, "x"),
    "OpenAI: model by its code": (404, openai("", "", "model_not_found"), Fault.MODEL_NOT_FOUND, "does not have this"),
    "llama-server: a route": (
        404,
        openai("File Not Found", "not_found_error", 404),
        Fault.UPSTREAM_MISCONFIGURED,
        "address",
    ),
    "FastAPI: a route": (404, {"detail": "Not Found"}, Fault.UPSTREAM_MISCONFIGURED, "address"),
    "FastAPI: a method": (405, {"detail": "Method Not Allowed"}, Fault.UPSTREAM_MISCONFIGURED, "address"),
    "llama-server: no embeddings": (
        501,
        openai("This server does not support embeddings. Start it with `--embeddings`", "not_supported_error", 501),
        Fault.UPSTREAM_MISCONFIGURED,
        "options",
    ),
    "a redirect": (307, None, Fault.UPSTREAM_MISCONFIGURED, "address"),
    "a key that is missing": (401, openai("Unauthorized"), Fault.UPSTREAM_AUTH, "credentials"),
    "a key that is not enough": (403, {"detail": "Forbidden"}, Fault.UPSTREAM_AUTH, "credentials"),
    "a rate limit": (429, openai("Too many requests"), Fault.RATE_LIMITED, "rate limiting"),
    "llama-server: loading": (
        503,
        openai("Loading model", "unavailable_error", 503),
        Fault.UPSTREAM_UNREACHABLE,
        "loading",
    ),
    "Ollama: a full queue": (
        503,
        {"error": "server busy, please try again.  maximum pending requests exceeded"},
        Fault.OVERLOADED,
        "busy",
    ),
    "an engine that died": (503, openai("EngineCore encountered an issue"), Fault.UPSTREAM_ERROR, "failed"),
    "vLLM: a crash": (
        500,
        openai("CUDA error: at /opt/vllm/x.cu:1", "InternalServerError", 500),
        Fault.UPSTREAM_ERROR,
        "failed to answer",
    ),
    "a proxy's page": (502, b"<html>secret</html>", Fault.UPSTREAM_ERROR, "failed to answer"),
    "a proxy's page for a bad request": (400, b"<html>secret</html>", Fault.UPSTREAM_ERROR, "failed to answer"),
    "a proxy's timeout": (504, b"", Fault.UPSTREAM_TIMEOUT, "in time"),
    "a request that took too long": (408, b"", Fault.UPSTREAM_TIMEOUT, "in time"),
    "a body too large": (413, {"detail": "Request Entity Too Large"}, Fault.REQUEST_TOO_LARGE, "Too Large"),
    "a loop": (508, b"", Fault.LOOP, "itself"),
    "chatglm.cpp: no messages": (400, {"detail": "empty messages"}, Fault.INVALID_VALUE, "empty messages"),
    "a mistake in OpenAI's form": (400, openai("temperature must be at least 0"), Fault.INVALID_VALUE, "temperature"),
    "a mistake, the error a bare text": (400, {"error": "invalid options"}, Fault.INVALID_VALUE, "invalid options"),
    "a mistake, the message alone": (400, {"message": "no such option"}, Fault.INVALID_VALUE, "no such option"),
    "a mistake, an object in detail": (400, {"detail": {"message": "bad"}}, Fault.INVALID_VALUE, "bad"),
    "a mistake without words": (400, {}, Fault.INVALID_VALUE, "status 400"),
    "a status that nobody uses": (418, {"detail": "I am a teapot"}, Fault.INVALID_VALUE, "teapot"),
    "a list": (400, ["x"], Fault.INVALID_VALUE, "status 400"),
    "an empty list of details": (422, {"detail": []}, Fault.INVALID_VALUE, "status 422"),
}


@pytest.mark.parametrize(("status", "body", "fault", "words"), ERRORS.values(), ids=ERRORS)
def test_a_refusal_is_one_of_our_faults(status: int, body: object, fault: Fault, words: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = parse_engine_error(status, data, context_window=7777)
    assert error.fault is fault
    assert words in error.message
    assert "secret" not in error.message and "/opt" not in error.message


def test_a_context_whose_length_nobody_tells_is_named_without_one() -> None:
    error = parse_engine_error(400, json.dumps(openai("too many tokens")).encode())
    assert "this model's maximum context length" in error.message and "context_length_exceeded" in error.message
    assert error.param == "messages"


LIMITS: dict[str, tuple[int, object, str, str | None]] = {
    "a long prompt": (
        400,
        openai("This model's maximum context length is 64 tokens. However, your input resulted in 90.", param="input"),
        "This model's maximum context length is 64 tokens. However, your input resulted in 90.",
        "input",
    ),
    "a full queue": (429, openai("The model's queue is full."), "The model's queue is full.", None),
    "no words": (429, {}, "The engine is rate limiting the relay. Try again shortly.", None),
    "trouble": (500, openai("at /opt/x"), "The engine failed to answer.", None),
}


@pytest.mark.parametrize(("status", "body", "message", "param"), LIMITS.values(), ids=LIMITS)
def test_an_engine_of_our_own_says_itself_what_its_limits_are(
    status: int, body: object, message: str, param: str | None
) -> None:
    error = parse_engine_error(status, json.dumps(body).encode(), verbatim=True)
    assert (error.message, error.param) == (message, param)


VALIDATION = {
    "a field": (
        [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required", "input": {"secret": "prompt"}}],
        "messages",
        "Invalid 'messages': Field required.",
    ),
    "a field inside": (
        [
            {
                "loc": ["body", "messages", 0, "content", "str"],
                "msg": "Input should be a valid string",
                "input": "secret",
            }
        ],
        "messages[0].content.str",
        "Invalid 'messages[0].content.str': Input should be a valid string.",
    ),
    "the body itself": ([{"loc": ["body"], "msg": "JSON decode error"}], None, "JSON decode error"),
    "no words": ([{"loc": ["body", "top_k"]}], "top_k", "Invalid 'top_k': it is not valid."),
    "no place": ([{"msg": "no"}], None, "no"),
}


@pytest.mark.parametrize(("detail", "param", "message"), VALIDATION.values(), ids=VALIDATION)
def test_fastapis_complaint_names_the_field_and_not_its_value(
    detail: list[Any], param: str | None, message: str
) -> None:
    error = parse_engine_error(422, json.dumps({"detail": detail}).encode())
    assert (error.fault, error.param, error.message) == (Fault.INVALID_VALUE, param, message)


def test_vllms_complaint_does_not_repeat_the_prompt() -> None:
    text = "[{'type': 'string_type', 'loc': ('body', 'messages'), 'msg': 'no string', 'input': 'secret prompt'}]"
    assert "secret" not in parse_engine_error(400, json.dumps(openai(text)).encode()).message


def test_a_parameter_is_named_where_the_engine_names_it() -> None:
    body = {"error": {"message": "no", "param": "temperature", "code": None}}
    assert parse_engine_error(400, json.dumps(body).encode()).param == "temperature"


def test_the_wish_to_wait_makes_a_503_an_overload_and_is_kept() -> None:
    error = parse_engine_error(503, b"", retry_after=7.0)
    assert (error.fault, error.retry_after) == (Fault.OVERLOADED, 7.0)
    assert parse_engine_error(429, b"{}", retry_after=3.0).retry_after == 3.0


def test_loading_is_worth_another_try() -> None:
    assert parse_engine_error(503, b'{"error":"Loading model"}').fault.retry is Retry.YES


@pytest.mark.parametrize(
    ("code", "fault"),
    [(429, Fault.RATE_LIMITED), (400, Fault.INVALID_VALUE), (None, Fault.UPSTREAM_ERROR), (7, Fault.UPSTREAM_ERROR)],
)
def test_without_a_status_the_bodys_own_counts(code: int | None, fault: Fault) -> None:
    assert read_engine_error(None, openai("no", code=code)).fault is fault


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "detail", "message", "code", "type", "loc", "msg", "param", "n_ctx", "object"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.integers(300, 599), JSON)
def test_any_body_is_some_error(status: int, value: object) -> None:
    assert parse_engine_error(status, json.dumps(value).encode()).message
