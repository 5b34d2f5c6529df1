"""The declared fields of OpenAI's chat request: each is checked, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.canonical import ChatRequest, Message
from adapters.errors import InvalidRequest
from adapters.wire.openai_chat import parse_chat_request
from adapters.wire.openai_types import FIELDS
from tests.support.openai_requests import FUNCTION, TOOL, USER, parse, refusal

# Every declared field: a value of the wrong type, and the field that the refusal names.
WRONG: dict[str, list[tuple[Any, str]]] = {
    "model": [(5, "model"), (["m"], "model")],
    "messages": [
        ("Hi", "messages"),
        ({}, "messages"),
        (["Hi"], "messages[0]"),
        ([USER, {"role": 5, "content": ""}], "messages[1].role"),
        ([{"content": "Hi"}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": {"type": "text"}}], "messages[0].content"),
        ([{"role": "user", "content": ["Hi"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"text": "Hi"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "video"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0].image_url"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
            "messages[0].content[0].image_url.url",
        ),
        ([{**USER, "name": 5}], "messages[0].name"),
        ([{"role": "assistant", "tool_calls": {}}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0].function"),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], "messages[0].tool_calls[0].function.name"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
        ([{"role": "assistant", "function_call": "f"}], "messages[0].function_call"),
        ([{"role": "tool", "content": "", "tool_call_id": 5}], "messages[0].tool_call_id"),
        ([{**USER, "reasoning_content": []}], "messages[0].reasoning_content"),
    ],
    "prompt": [(5, "prompt")],
    "history": [({}, "history"), ([{"content": "a"}], "history[0].role"), ([5], "history[0]")],
    "stream": [("true", "stream"), (1, "stream")],
    "stream_options": [(True, "stream_options"), ({"include_usage": "yes"}, "stream_options.include_usage")],
    "max_completion_tokens": [("5", "max_completion_tokens"), (5.5, "max_completion_tokens")],
    "max_tokens": [("5", "max_tokens"), (5.5, "max_tokens"), (True, "max_tokens")],
    "temperature": [("1", "temperature"), (True, "temperature"), ([], "temperature")],
    "top_p": [("1", "top_p")],
    "top_k": [("1", "top_k"), (1.5, "top_k"), (-0.5, "top_k")],
    "min_p": [("1", "min_p")],
    "seed": [("1", "seed"), (1.5, "seed")],
    "frequency_penalty": [("1", "frequency_penalty")],
    "presence_penalty": [("1", "presence_penalty")],
    "repetition_penalty": [("1", "repetition_penalty")],
    "stop": [(5, "stop"), ([5], "stop[0]"), ({}, "stop")],
    "n": [("1", "n"), (1.5, "n"), (True, "n")],
    "tools": [
        ({}, "tools"),
        (["f"], "tools[0]"),
        ([{"type": "function"}], "tools[0].function"),
        ([{"type": 5, "function": FUNCTION}], "tools[0].type"),
        ([{"type": "retrieval"}], "tools[0].type"),
        ([{"function": {}}], "tools[0].function.name"),
        ([{"function": {"name": 5}}], "tools[0].function.name"),
        ([{"function": {"name": ""}}], "tools[0].function.name"),
        ([{"function": {"name": "f", "description": False}}], "tools[0].function.description"),
        ([{"function": {"name": "f", "parameters": "{}"}}], "tools[0].function.parameters"),
        ([TOOL, {"function": {"name": "f", "strict": "yes"}}], "tools[1].function.strict"),
    ],
    "tool_choice": [
        (5, "tool_choice"),
        ([], "tool_choice"),
        ("maybe", "tool_choice"),
        ({}, "tool_choice.function.name"),
    ],
    "parallel_tool_calls": [("no", "parallel_tool_calls")],
    "functions": [({}, "functions"), ([{}], "functions[0].name"), ([{"name": ""}], "functions[0].name")],
    "function_call": [(5, "function_call"), ("maybe", "function_call"), ({}, "function_call.function.name")],
    "response_format": [
        ("json", "response_format"),
        ({}, "response_format.type"),
        ({"type": 5}, "response_format.type"),
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {}}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": "{}"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, "response_format.json_schema.schema"),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": "x"}}, "response_format.json_schema.schema"),
    ],
    "logprobs": [(1, "logprobs")],
    "top_logprobs": [("1", "top_logprobs"), (1.5, "top_logprobs")],
    "logit_bias": [([], "logit_bias"), ({"1": "x"}, "logit_bias[...]")],
    "reasoning_effort": [(1, "reasoning_effort")],
    "reasoning": [("low", "reasoning"), ({"effort": 1}, "reasoning.effort")],
    "chat_template_kwargs": [("x", "chat_template_kwargs")],
    "lora": [(1, "lora")],
    "options": [("x", "options"), ({"rejectIfBusy": 1}, "options.rejectIfBusy")],
    "prompt_cache_key": [(1, "prompt_cache_key")],
    "user": [(1, "user")],
    "modalities": [("audio", "modalities"), ([1], "modalities[0]")],
}

UNCHECKED = {
    *("audio", "metadata", "moderation", "prediction", "prompt_cache_options", "prompt_cache_retention"),
    *("safety_identifier", "service_tier", "store", "verbosity", "web_search_options"),
}
"""Declared, without effect here or not to be honoured: any value will do."""


def test_every_declared_field_is_in_the_table() -> None:
    assert set(WRONG) | UNCHECKED == FIELDS


@pytest.mark.parametrize(
    ("field", "value", "param"), [(field, *row) for field, rows in WRONG.items() for row in rows], ids=repr
)
def test_a_field_of_the_wrong_type_is_refused_by_name(field: str, value: Any, param: str) -> None:
    error = refusal(**{field: value})
    assert error.param == param
    assert error.message
    assert error.code in {"invalid_type", "invalid_value", "missing_required_parameter"}


@pytest.mark.parametrize("field", sorted(FIELDS - {"model", "messages"}))
def test_null_is_absent(field: str) -> None:
    assert parse(**{field: None}) == parse()


@pytest.mark.parametrize("field", sorted(UNCHECKED))
@pytest.mark.parametrize("value", [5, "x", [], {"a": 1}, False])
def test_fields_without_effect_take_any_value(field: str, value: Any) -> None:
    unsupported = (field,) if field in ("verbosity", "web_search_options") else ()
    assert parse(**{field: value}) == parse_with(unsupported=unsupported)


def parse_with(**changes: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(Message(role="user", content="Hi"),), **changes)


LONG: dict[str, bytes] = {
    "messages": b'"messages":[' + b",".join([b'{"role":"user","content":"x"}'] * 20_001) + b"]",
    "tools": b'"messages":[],"tools":[' + b",".join([b"{}"] * 2_001) + b"]",
}


@pytest.mark.parametrize(("field", "body"), LONG.items(), ids=LONG)
def test_what_nobody_could_read_is_not_read(field: str, body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        parse_chat_request(b'{"model":"m",' + body + b"}")
    assert caught.value.param == field
