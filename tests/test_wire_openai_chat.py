"""OpenAI's chat completions as a server speaks it: requests in, answers and streams out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.answer import spread
from adapters.canonical import (
    ChatEvent,
    ChatRequest,
    ChatResult,
    Choice,
    Delta,
    Finish,
    FinishReason,
    ImagePart,
    JsonFormat,
    Message,
    NamedTool,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from adapters.errors import Fault, InvalidRequest
from adapters.wire.openai_chat import (
    MAX_LINE,
    OLD_FORM_MODEL,
    ChatStreamEncoder,
    Stamp,
    dump_chat_result,
    dump_usage,
    parse_chat_request,
)
from adapters.wire.openai_types import FIELDS
from adapters.wire.workers_ai import ChatStreamDecoder, dump_chat_request, parse_chat_result
from tests.support.events import merged, play

# ---------------------------------------------------------------- requests

USER = {"role": "user", "content": "Hi"}
FUNCTION: dict[str, Any] = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
PARSED_TOOL = Tool(name="f", description="d", parameters={"type": "object", "properties": {}})


def parse(**fields: Any) -> ChatRequest:
    """A request with these fields; the model and one message are there unless said otherwise."""
    body = {"model": "m", "messages": [USER], **fields}
    return parse_chat_request(json.dumps({key: value for key, value in body.items() if value is not ...}).encode())


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert caught.value.fault is Fault.INVALID_VALUE
    return caught.value


def test_the_smallest_request() -> None:
    assert parse() == ChatRequest(model="m", messages=(Message(role="user", content="Hi"),))


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


# Field, value on the wire, member, value there.
TAKEN: list[tuple[str, Any, str, Any]] = [
    ("stream", True, "stream", True),
    ("stream_options", {"include_usage": True, "include_obfuscation": False}, "include_usage", True),
    ("stream_options", {"include_usage": None}, "include_usage", False),
    ("max_tokens", 10, "max_tokens", 10),
    ("max_tokens", 10.0, "max_tokens", 10),
    ("max_completion_tokens", 10, "max_tokens", 10),
    ("temperature", 0, "temperature", 0),
    ("temperature", 2, "temperature", 2),
    ("top_p", 0.5, "top_p", 0.5),
    ("top_k", 40, "top_k", 40),
    ("top_k", 40.0, "top_k", 40),
    ("top_k", 0, "top_k", None),
    ("top_k", -1, "top_k", None),
    ("top_k", -1.0, "top_k", None),
    ("min_p", 0.1, "min_p", 0.1),
    ("seed", 0, "seed", 0),
    ("seed", -5, "seed", -5),
    ("seed", 7.0, "seed", 7),
    ("seed", 2**63 - 1, "seed", 2**63 - 1),
    ("seed", -(2**63), "seed", -(2**63)),
    ("frequency_penalty", -2, "frequency_penalty", -2),
    ("presence_penalty", 2.0, "presence_penalty", 2.0),
    ("repetition_penalty", 1.1, "repetition_penalty", 1.1),
    ("stop", "END", "stop", ("END",)),
    ("stop", ["a", "b"], "stop", ("a", "b")),
    ("stop", [], "stop", ()),
    ("stop", ["", "a"], "stop", ("a",)),
    ("stop", "", "stop", ()),
    ("n", 3, "n", 3),
    ("n", 3.0, "n", 3),
    ("tools", [TOOL], "tools", (PARSED_TOOL,)),
    (
        "tools",
        [{"function": {"name": "f"}}],
        "tools",
        (Tool(name="f", parameters={"type": "object", "properties": {}}),),
    ),
    (
        "tools",
        [{"function": {**FUNCTION, "strict": True}}],
        "tools",
        (Tool(name="f", description="d", parameters=FUNCTION["parameters"], strict=True),),
    ),
    ("tools", [], "tools", ()),
    ("parallel_tool_calls", False, "parallel_tool_calls", False),
    ("response_format", {"type": "text"}, "response_format", None),
    ("response_format", {"type": "json_object"}, "response_format", JsonFormat()),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}},
        "response_format",
        JsonFormat(name="n", schema={"type": "object"}, strict=True),
    ),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": None}},
        "response_format",
        JsonFormat(name="n", schema={}),
    ),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"type": "object"}},
        "response_format",
        JsonFormat(schema={"type": "object"}),
    ),
    ("logprobs", True, "logprobs", True),
    ("logit_bias", {}, "logit_bias", None),
    ("logit_bias", {"1": -100, "2": 0.5}, "logit_bias", {"1": -100, "2": 0.5}),
    ("reasoning_effort", "low", "reasoning_effort", "low"),
    ("reasoning", {"effort": "low", "summary": "auto"}, "reasoning_effort", "low"),
    ("reasoning", {}, "reasoning_effort", None),
    ("chat_template_kwargs", {"thinking": False}, "chat_template_kwargs", {"thinking": False}),
    ("chat_template_kwargs", {}, "chat_template_kwargs", None),
    ("lora", "mine", "lora", "mine"),
    ("options", {"rejectIfBusy": True}, "reject_if_busy", True),
    ("options", {}, "reject_if_busy", False),
    ("prompt_cache_key", "k", "affinity", "k"),
    ("user", "u", "affinity", "u"),
    ("modalities", ["text"], "unsupported", ()),
    ("verbosity", "low", "unsupported", ("verbosity",)),
    ("web_search_options", {}, "unsupported", ("web_search_options",)),
]


@pytest.mark.parametrize(("field", "value", "member", "expected"), TAKEN)
def test_a_field_is_taken_over(field: str, value: Any, member: str, expected: Any) -> None:
    taken = getattr(parse(**{field: value}), member)
    assert taken == expected
    assert type(taken) is type(expected)


def test_of_two_names_the_newer_counts() -> None:
    assert parse(max_tokens=5, max_completion_tokens=6).max_tokens == 6
    assert parse(max_tokens=5, max_completion_tokens=None).max_tokens == 5
    assert parse(reasoning_effort="low", reasoning={"effort": "high"}).reasoning_effort == "low"
    assert parse(prompt_cache_key="k", user="u").affinity == "k"


# Field, values out of its range, the code of the refusal.
OUT_OF_RANGE: list[tuple[str, list[Any], str]] = [
    ("temperature", [-0.1], "decimal_below_min_value"),
    ("temperature", [2.1, 10**400], "decimal_above_max_value"),
    ("top_p", [-0.1], "decimal_below_min_value"),
    ("top_p", [1.1], "decimal_above_max_value"),
    ("min_p", [1.1], "decimal_above_max_value"),
    ("frequency_penalty", [-2.1], "decimal_below_min_value"),
    ("frequency_penalty", [2.1], "decimal_above_max_value"),
    ("presence_penalty", [-2.1], "decimal_below_min_value"),
    ("presence_penalty", [2.1], "decimal_above_max_value"),
    ("repetition_penalty", [-1], "decimal_below_min_value"),
    ("max_tokens", [0, -1, 0.0], "integer_below_min_value"),
    ("max_tokens", [2**31, 1e300, 10**400], "integer_above_max_value"),
    ("max_completion_tokens", [0], "integer_below_min_value"),
    ("n", [0, -1], "integer_below_min_value"),
    ("n", [129], "integer_above_max_value"),
    ("seed", [2**63], "integer_above_max_value"),
    ("seed", [-(2**63) - 1], "integer_below_min_value"),
    ("top_logprobs", [-1], "integer_below_min_value"),
    ("top_logprobs", [21], "integer_above_max_value"),
    ("stop", [["a", "b", "c", "d", "e"]], "array_above_max_length"),
]


@pytest.mark.parametrize(("field", "values", "code"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_by_name(field: str, values: list[Any], code: str) -> None:
    for value in values:
        error = refusal(**{field: value})
        assert (error.param, error.code) == (field, code)


def test_a_bias_out_of_range_names_its_token() -> None:
    for bias in (101, -101, 10**400):
        assert refusal(logit_bias={"50256": bias}).param == "logit_bias.50256"


# Fields that do not go together, and the one that the refusal names.
TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"n": 2, "stream": True}, "n"),
    ({"top_logprobs": 5}, "top_logprobs"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]}, "tool_choice"),
    ({"function_call": {"name": "g"}, "functions": [FUNCTION]}, "function_call"),
    ({"function_call": {"name": "f"}}, "function_call"),
    ({"messages": []}, "messages"),
    ({"messages": ...}, "messages"),
    ({"messages": None}, "messages"),
    ({"model": ...}, "model"),
    ({"model": ""}, "model"),
    ({"model": " "}, "model"),
    ({"model": None}, "model"),
    ({"model": None, "prompt": "Hi"}, "model"),
]


@pytest.mark.parametrize(("fields", "param"), TOGETHER)
def test_what_is_missing_or_does_not_fit_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields).param == param


def test_several_answers_are_only_refused_in_a_stream() -> None:
    assert parse(n=2).n == 2
    assert parse(n=1, stream=True).stream


def test_of_the_negative_numbers_only_minus_one_turns_top_k_off() -> None:
    for value in (-2, -5, -5.0, -(10**400)):
        error = refusal(top_k=value)
        assert (error.param, error.code) == ("top_k", "integer_below_min_value")


def test_an_unknown_field_may_have_a_broken_name() -> None:
    body = b'{"\\ud800":1,"model":"m","messages":[{"role":"user","content":"Hi"}]}'
    assert parse_chat_request(body).unknown == ("\ufffd",)


def test_deep_metadata_beside_a_lone_surrogate_is_no_accident() -> None:
    for depth in (600, 100_000):
        nested = b"[" * depth + b"]" * depth
        body = (
            b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}],"metadata":{"a":' + nested + b',"b":"c"}}'
        )
        try:
            assert parse_chat_request(body).messages[0].content == "\ufffd"
        except InvalidRequest as exc:
            assert (exc.code, "nested too deeply" in exc.message) == ("invalid_json", True)


def test_unknown_fields_are_listed_and_never_fail() -> None:
    assert parse(chat_id="x", foo={"a": 1}, bar=None, **{"x" * 100: 1}).unknown == ("chat_id", "foo", "x" * 64)
    assert parse(prompt="Hi", history=[]).unknown == ("prompt", "history")


@pytest.mark.parametrize("odd", [b'\xef\xbb\xbf{"model":"m",', b'{"lora":"\\ud800","model":"m",', b'{"model":"m",'])
def test_unknown_fields_are_listed_however_the_body_is_written(odd: bytes) -> None:
    body = odd + b'"messages":[{"role":"user","content":"Hi"}],"foo":1,"bar":null}'
    assert parse_chat_request(body).unknown == ("foo",)


ODD_BODIES: list[tuple[bytes, str]] = [
    (b'{"model":"m","messages":[{"role":"user","content":"a\\ud83d"}]}', "a\ufffd"),
    (b'\xef\xbb\xbf{"model":"m","messages":[{"role":"user","content":"a"}]}', "a"),
    ('{"model":"m","messages":[{"role":"user","content":"a\u2028b"}]}'.encode(), "a\u2028b"),
    (b'{"model":"m","messages":[{"role":"user","content":"a"}],"x":' + b"[" * 200 + b"]" * 200 + b"}", "a"),
    (b'{"model":"x","model":"m","messages":[{"role":"user","content":"a"}]}', "a"),
]


@pytest.mark.parametrize(("body", "content"), ODD_BODIES)
def test_odd_but_legal_json_is_read(body: bytes, content: str) -> None:
    request = parse_chat_request(body)
    assert (request.model, request.messages[0].content) == ("m", content)


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_no_body_does_worse_than_a_refusal(body: bytes) -> None:
    try:
        parse_chat_request(body)
    except InvalidRequest:
        pass


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("type", "function", "name", "arguments", "mode", "tools", "allowed_tools", "schema", "role", "content")
            ),
            inner | st.sampled_from(["function", "allowed_tools", "user", "f", "json_schema", "text"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), ODD, max_size=4), st.booleans())
def test_no_odd_value_does_worse_than_a_refusal(fields: dict[str, Any], with_tools: bool) -> None:
    base: dict[str, Any] = {"tools": [TOOL]} if with_tools else {}
    try:
        parse(**{**base, **fields})
    except InvalidRequest as exc:
        assert exc.message


# ---------------------------------------------------------------- tools

NARROWED = {"type": "function", "function": {"name": "f"}}
CHOICES: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "auto": ("auto", "auto", ("f", "g")),
    "none": ("none", "none", ("f", "g")),
    "required": ("required", "required", ("f", "g")),
    "another vendor's word": ("any", "required", ("f", "g")),
    "a name": ({"type": "function", "function": {"name": "f"}}, NamedTool("f"), ("f", "g")),
    "a flat name": ({"type": "function", "name": "f"}, NamedTool("f"), ("f", "g")),
    "a narrower choice": (
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NARROWED]}},
        "required",
        ("f",),
    ),
    "a narrower choice, flat": (
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
        "auto",
        ("g",),
    ),
    "a narrower choice without a mode": (
        {"type": "allowed_tools", "allowed_tools": {"tools": [NARROWED]}},
        "auto",
        ("f",),
    ),
    "a choice of nothing": ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, "auto", ()),
    "odd entries": (
        {"type": "allowed_tools", "allowed_tools": {"tools": [None, 5, {"name": []}, {"function": 5}, NARROWED]}},
        "auto",
        ("f",),
    ),
}


@pytest.mark.parametrize(("choice", "expected", "left"), CHOICES.values(), ids=CHOICES)
def test_a_tool_choice_is_read(choice: Any, expected: Any, left: tuple[str, ...]) -> None:
    request = parse(tools=[TOOL, {"function": {"name": "g"}}], tool_choice=choice)
    assert request.tool_choice == expected
    assert tuple(tool.name for tool in request.tools) == left


BAD_NARROWING: list[tuple[Any, str]] = [
    ({"mode": "auto"}, "tool_choice.allowed_tools.tools"),
    ({"mode": "auto", "tools": {}}, "tool_choice.allowed_tools.tools"),
    ({"mode": "never", "tools": []}, "tool_choice.allowed_tools.mode"),
    ({"mode": [], "tools": []}, "tool_choice.allowed_tools.mode"),
    ({"mode": 5, "tools": []}, "tool_choice.allowed_tools.mode"),
    ({"mode": {}, "tools": []}, "tool_choice.allowed_tools.mode"),
    ({"mode": "required", "tools": [{"name": "unknown"}]}, "tool_choice"),
    (5, "tool_choice.allowed_tools.tools"),
]


@pytest.mark.parametrize(("allowed", "param"), BAD_NARROWING)
def test_a_narrower_choice_that_makes_no_sense_is_refused(allowed: Any, param: str) -> None:
    assert refusal(tools=[TOOL], tool_choice={"type": "allowed_tools", "allowed_tools": allowed}).param == param


def test_functions_are_the_tools_of_old() -> None:
    request = parse(functions=[FUNCTION], function_call={"name": "f"})
    assert request.legacy_functions
    assert request.tools == (PARSED_TOOL,)
    assert request.tool_choice == NamedTool("f")
    assert parse(functions=[FUNCTION], function_call="none").tool_choice == "none"
    assert parse(functions=[FUNCTION], function_call="auto").tool_choice == "auto"
    assert not parse(tools=[TOOL]).legacy_functions
    assert not parse(tools=[TOOL], functions=[]).legacy_functions


# ---------------------------------------------------------------- messages

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PARSED_CALL = ToolCall("call_1", "f", "{}")
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}

MESSAGES: dict[str, tuple[dict[str, Any], Message]] = {
    "system": ({"role": "system", "content": "a"}, Message(role="system", content="a")),
    "developer": ({"role": "developer", "content": "a"}, Message(role="system", content="a")),
    "a name": ({"role": "user", "content": "a", "name": "n"}, Message(role="user", content="a", name="n")),
    "an empty text": ({"role": "user", "content": ""}, Message(role="user", content="")),
    "parts": (
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        Message(role="user", content="ab"),
    ),
    "no parts": ({"role": "user", "content": []}, Message(role="user", content="")),
    "a refusal in the history": (
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        Message(role="assistant", content="no"),
    ),
    "an image": (
        {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]},
        Message(role="user", content=(TextPart("a"), ImagePart("data:image/png;base64,AA==", "low"))),
    ),
    "an image by its address": (
        {"role": "user", "content": [{"type": "image_url", "image_url": "https://example.org/a.png"}]},
        Message(role="user", content=(ImagePart("https://example.org/a.png"),)),
    ),
    "an assistant's silence": ({"role": "assistant", "content": None}, Message(role="assistant")),
    "an assistant without content": ({"role": "assistant"}, Message(role="assistant")),
    "calls": (
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "audio": None, "annotations": []},
        Message(role="assistant", tool_calls=(PARSED_CALL,)),
    ),
    "arguments as an object": (
        {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": {"a": 1}}}]},
        Message(role="assistant", tool_calls=(ToolCall("x", "f", '{"a":1}'),)),
    ),
    "no arguments": (
        {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f"}}]},
        Message(role="assistant", tool_calls=(ToolCall("x", "f", "{}"),)),
    ),
    "empty arguments": (
        {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": ""}}]},
        Message(role="assistant", tool_calls=(ToolCall("x", "f", "{}"),)),
    ),
    "a call's result": (
        {"role": "tool", "content": "42", "tool_call_id": "call_1"},
        Message(role="tool", content="42", tool_call_id="call_1"),
    ),
    "a call's result in parts": (
        {"role": "tool", "content": [{"type": "text", "text": "42"}], "tool_call_id": "call_1"},
        Message(role="tool", content="42", tool_call_id="call_1"),
    ),
    "reasoning_content": (
        {"role": "assistant", "content": "a", "reasoning_content": "r"},
        Message(role="assistant", content="a", reasoning="r"),
    ),
    "reasoning": (
        {"role": "assistant", "content": "a", "reasoning": "r"},
        Message(role="assistant", content="a", reasoning="r"),
    ),
    "reasoning as an object": (
        {"role": "assistant", "content": "a", "reasoning": {"text": "r"}},
        Message(role="assistant", content="a"),
    ),
}


@pytest.mark.parametrize(("wire", "message"), MESSAGES.values(), ids=MESSAGES)
def test_a_message_is_read(wire: dict[str, Any], message: Message) -> None:
    assert parse(messages=[wire]).messages == (message,)


BAD_MESSAGES: dict[str, tuple[dict[str, Any], str]] = {
    "a role that is none": ({"role": "robot", "content": "a"}, "messages[0].role"),
    "a user's silence": ({"role": "user", "content": None}, "messages[0].content"),
    "a user without content": ({"role": "user"}, "messages[0].content"),
    "a result without its call": ({"role": "tool", "content": "42"}, "messages[0].tool_call_id"),
    "a function's result without a call": (
        {"role": "function", "content": "42", "name": "f"},
        "messages[0].tool_call_id",
    ),
    "audio": ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "messages[0].content[0].type"),
    "a file": ({"role": "user", "content": [{"type": "file", "file": {}}]}, "messages[0].content[0].type"),
    "an image in the wrong role": ({"role": "assistant", "content": [IMAGE]}, "messages[0].content[0]"),
    "an image that is none": (
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "a.png"}}],
        },
        "messages[0].content[1].image_url",
    ),
    "an image in a file": (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]},
        "messages[0].content[0].image_url",
    ),
}


@pytest.mark.parametrize(("wire", "param"), BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_message_that_cannot_be_sent_is_refused_by_name(wire: dict[str, Any], param: str) -> None:
    assert refusal(messages=[wire]).param == param


def test_functions_of_old_are_calls_with_results() -> None:
    turns = [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
        {"role": "function", "name": "f", "content": "1"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "2"},
    ]
    first, one, second, two = parse(messages=turns).messages
    assert [call.arguments for call in first.tool_calls + second.tool_calls] == ['{"a":1}', "{}"]
    assert (one.role, one.tool_call_id) == ("tool", first.tool_calls[0].id)
    assert (two.role, two.tool_call_id) == ("tool", second.tool_calls[0].id)
    assert one.tool_call_id != two.tool_call_id


def test_the_older_body_is_a_conversation_with_the_prompt_last() -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user"}]
    request = parse(messages=..., prompt="c", history=history, max_tokens=10, temperature=1.0)
    assert [(turn.role, turn.content) for turn in request.messages] == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", ""),
        ("user", "c"),
    ]
    assert (request.model, request.max_tokens, request.unknown) == ("m", 10, ())


def test_the_older_body_needs_no_model_and_no_history() -> None:
    assert parse(model=..., messages=..., prompt="c").model == OLD_FORM_MODEL
    assert refusal(messages=..., prompt="c", history=[{"role": "robot", "content": ""}]).param == "history[0].role"
    assert refusal(messages=..., history=[]).param == "messages"


def test_what_is_sent_to_an_upstream_is_read_back_as_it_was() -> None:
    request = ChatRequest(
        model="m",
        messages=(
            *(message for _, message in MESSAGES.values() if message.role != "assistant"),
            Message(role="assistant", content="a", reasoning="r", tool_calls=(PARSED_CALL,)),
        ),
        max_tokens=10,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        seed=-1,
        frequency_penalty=-1.5,
        presence_penalty=1.5,
        repetition_penalty=1.1,
        stop=("a", "b"),
        tools=(PARSED_TOOL, Tool(name="g", description="e", parameters={"type": "object"}, strict=True)),
        tool_choice=NamedTool("g"),
        parallel_tool_calls=False,
        response_format=JsonFormat(name="n", schema={"type": "object"}, strict=False),
        logprobs=True,
        top_logprobs=3,
        logit_bias={"1": 5},
        reasoning_effort="low",
        chat_template_kwargs={"thinking": True},
        lora="mine",
        reject_if_busy=True,
        stream=True,
        include_usage=True,
    )
    body, changes = dump_chat_request(request, openai_form=True, stream=True)
    assert changes == []
    assert parse_chat_request(b'{"model":"m",' + body[1:]) == request


# ---------------------------------------------------------------- answers

STAMP = Stamp(id="chatcmpl-1", created=1795167460, model="asked-for", fingerprint="fp_x")
REQUEST = ChatRequest(model="asked-for", messages=(Message(role="user", content="Hi"),))
USAGE = Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1, reasoning_tokens=1)
LEGACY = ChatRequest(model="m", messages=(), legacy_functions=True)


def dumped(choice: Choice, request: ChatRequest = REQUEST, usage: Usage | None = USAGE) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(dump_chat_result(ChatResult(choices=(choice,), usage=usage), request, STAMP))
    return body


def test_an_answer_has_every_member_that_clients_demand() -> None:
    assert dumped(Choice(text="Hi", finish_reason="stop")) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1795167460,
        "model": "asked-for",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
        "system_fingerprint": "fp_x",
    }


def test_calls_have_ids_and_types_and_their_content_is_null() -> None:
    calls = (ToolCall("x", "f", '{"a":1}'), ToolCall(None, "g", "{}"))
    choice = dumped(Choice(tool_calls=calls, finish_reason="tool_calls"))["choices"][0]
    first, second = choice["message"]["tool_calls"]
    assert first == {"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    assert second["id"].startswith("call_") and len(second["id"]) == len("call_") + 24
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"


def test_text_beside_calls_stays_and_an_empty_answer_is_an_empty_text() -> None:
    assert dumped(Choice(text="a", tool_calls=(PARSED_CALL,)))["choices"][0]["message"]["content"] == "a"
    assert dumped(Choice())["choices"][0]["message"]["content"] == ""


def test_functions_of_old_are_answered_in_their_form() -> None:
    calls = (ToolCall("x", "f", "{}"), ToolCall("y", "g", "{}"))
    choice = dumped(Choice(tool_calls=calls, finish_reason="tool_calls"), LEGACY)["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"
    assert dumped(Choice(text="a", finish_reason="stop"), LEGACY)["choices"][0]["finish_reason"] == "stop"


def test_made_up_ids_are_the_same_each_time_and_differ_from_one_another() -> None:
    assert STAMP.call_id(0) == STAMP.call_id(0)
    others = {STAMP.call_id(0), STAMP.call_id(1), Stamp(id="z", created=1, model="m", fingerprint="f").call_id(0)}
    assert len(others) == 3
    result = ChatResult(choices=(Choice(tool_calls=(ToolCall(None, "f", "{}"),)),) * 2)
    ids = [c["message"]["tool_calls"][0]["id"] for c in json.loads(dump_chat_result(result, REQUEST, STAMP))["choices"]]
    assert len(set(ids)) == 2


def test_several_choices_are_numbered() -> None:
    result = ChatResult(choices=(Choice(text="a"), Choice(text="b")), usage=USAGE)
    choices = json.loads(dump_chat_result(result, REQUEST, STAMP))["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in choices] == [(0, "a"), (1, "b")]


def test_usage_says_what_is_known_and_whether_it_was_counted() -> None:
    assert "neurons" not in dump_usage(USAGE) and "estimated" not in dump_usage(USAGE)
    assert dump_usage(Usage(neurons=0.0))["neurons"] == 0.0
    assert dump_usage(Usage(estimated=True))["estimated"] is True
    assert dump_usage(Usage())["total_tokens"] == 0
    assert dumped(Choice(), usage=None)["usage"]["estimated"] is True


CHOICE = st.builds(
    Choice,
    text=st.text(st.characters(codec="utf-8")),
    reasoning=st.text(st.characters(codec="utf-8")),
    tool_calls=st.lists(
        st.builds(
            ToolCall,
            id=st.text("abc", min_size=1, max_size=3),
            name=st.text("fgh", min_size=1, max_size=3),
            arguments=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), st.integers(), max_size=2).map(
                json.dumps
            ),
        ),
        max_size=3,
    ).map(tuple),
    finish_reason=st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    logprobs=st.none() | st.just([{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]),
)
COUNTED = st.builds(
    Usage,
    prompt_tokens=st.integers(0, 10**9),
    completion_tokens=st.integers(0, 10**9),
    cached_tokens=st.integers(0, 10**9),
    reasoning_tokens=st.integers(0, 10**9),
    neurons=st.none() | st.floats(0, 1e9),
)


@given(CHOICE, COUNTED)
def test_an_answer_is_read_back_as_it_was(choice: Choice, usage: Usage) -> None:
    result = ChatResult(choices=(choice,), usage=usage)
    assert parse_chat_result(dump_chat_result(result, REQUEST, STAMP)) == result


# ---------------------------------------------------------------- streams

WITH_USAGE = ChatRequest(model="m", messages=(), include_usage=True)


def lines_of(stream: bytes) -> list[bytes]:
    """The data of the frames; each is one line beginning with `data: ` and one blank line."""
    assert stream.endswith(b"\n\n")
    blocks = stream[:-2].split(b"\n\n")
    assert all(block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block for block in blocks)
    return [block[6:] for block in blocks]


def chunks_of(stream: bytes) -> list[dict[str, Any]]:
    """The chunks of a whole stream, which `[DONE]` ends."""
    *chunks, done = lines_of(stream)
    assert done == b"[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def streamed(batches: list[list[ChatEvent]], request: ChatRequest = REQUEST) -> bytes:
    encoder = ChatStreamEncoder(request, STAMP)
    return encoder.start() + b"".join(map(encoder.encode, batches))


def checked(stream: bytes, request: ChatRequest) -> list[dict[str, Any]]:
    """The chunks, once they keep every rule that some client falls over."""
    chunks = chunks_of(stream)
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-1"}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {(type(chunk["created"]), chunk["created"]) for chunk in chunks} == {(int, 1795167460)}
    assert {chunk["model"] for chunk in chunks} == {"asked-for"}
    assert {chunk["system_fingerprint"] for chunk in chunks} == {"fp_x"}
    answer, tail = (chunks[:-1], chunks[-1:]) if request.include_usage else (chunks, [])
    for chunk in answer:
        (choice,) = chunk["choices"]
        assert choice["index"] == 0
        assert isinstance(choice["delta"], dict)
        assert {"index", "delta", "logprobs", "finish_reason"} == set(choice)
        assert ("usage" in chunk) == request.include_usage
        assert chunk.get("usage") is None
    for chunk in tail:
        assert chunk["choices"] == []
        assert chunk["usage"]["total_tokens"] == chunk["usage"]["prompt_tokens"] + chunk["usage"]["completion_tokens"]
    roles = [chunk["choices"][0]["delta"].get("role") for chunk in answer]
    assert roles == ["assistant"] + [None] * (len(answer) - 1)
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in answer]
    assert reasons[:-1] == [None] * (len(answer) - 1) and isinstance(reasons[-1], str)
    assert answer[-1]["choices"][0]["delta"] == {}
    _check_calls([call for chunk in answer for call in chunk["choices"][0]["delta"].get("tool_calls", [])])
    assert all(len(line) < 64 * 1024 for line in lines_of(stream))
    return chunks


def _check_calls(pieces: list[dict[str, Any]]) -> None:
    """Id, type and name come once a call, in its first piece; arguments are text throughout."""
    for index in {piece["index"] for piece in pieces}:
        first, *rest = [piece for piece in pieces if piece["index"] == index]
        assert (set(first), set(first["function"])) == ({"index", "id", "type", "function"}, {"name", "arguments"})
        assert first["type"] == "function" and first["id"]
        assert all((set(piece), set(piece["function"])) == ({"index", "function"}, {"arguments"}) for piece in rest)
    assert all(isinstance(piece["function"]["arguments"], str) for piece in pieces)


def test_a_stream_of_three_chunks_byte_for_byte() -> None:
    head = (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795167460,"model":"asked-for",'
        b'"system_fingerprint":"fp_x","choices":[{"index":0,"delta":'
    )
    assert streamed([[Delta("H\u2028i")], [Finish("stop", USAGE)]]) == (
        head
        + b'{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
        + head
        + '{"content":"H\u2028i"},"logprobs":null,"finish_reason":null}]}\n\n'.encode()
        + head
        + b'{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
        + b"data: [DONE]\n\n"
    )


def test_usage_is_a_chunk_of_its_own_and_only_if_asked_for() -> None:
    events: list[list[ChatEvent]] = [[Delta("a")], [Finish("stop", USAGE)]]
    assert b"usage" not in streamed(events)
    chunks = checked(streamed(events, WITH_USAGE), WITH_USAGE)
    assert [chunk["usage"] for chunk in chunks] == [None, None, None, dump_usage(USAGE)]


CALLS = (ToolCall("x", "f", '{"a":1}'), ToolCall(None, "g", "{}"))
ANSWERS: dict[str, Choice] = {
    "text": Choice(text="Hi", finish_reason="stop"),
    "nothing": Choice(finish_reason="stop"),
    "everything": Choice(text="Hi", reasoning="r", tool_calls=CALLS, finish_reason="tool_calls"),
    "calls": Choice(tool_calls=CALLS, finish_reason="tool_calls"),
    "reasoning": Choice(reasoning="r", finish_reason="length"),
    "log probabilities": Choice(text="Hi", logprobs=[{"token": "Hi"}], finish_reason="stop"),
    "as long as one line may be": Choice(text="x" * (MAX_LINE - 4), finish_reason="stop"),
}


@pytest.mark.parametrize("choice", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("include_usage", [False, True])
def test_a_synthetic_answer_is_exactly_three_chunks(choice: Choice, include_usage: bool) -> None:
    request = WITH_USAGE if include_usage else REQUEST
    events = spread(ChatResult(choices=(choice,), usage=USAGE))
    chunks = checked(streamed([[event] for event in events], request), request)
    assert len(chunks) == 3 + include_usage
    delta = chunks[1]["choices"][0]["delta"]
    assert delta.get("content", "") == choice.text
    assert delta.get("reasoning_content", "") == choice.reasoning
    assert [call["function"]["arguments"] for call in delta.get("tool_calls", [])] == [
        call.arguments for call in choice.tool_calls
    ]
    assert chunks[2]["choices"][0]["finish_reason"] == choice.finish_reason


def test_a_call_in_pieces_is_named_once() -> None:
    batches: list[list[ChatEvent]] = [
        [Delta(tool_calls=(ToolCallDelta(0, None, "f", ""),))],
        [Delta(tool_calls=(ToolCallDelta(0, arguments='{"a"'), ToolCallDelta(1, "y", "g", "{}")))],
        [Delta(tool_calls=(ToolCallDelta(0, arguments=":1}"),))],
        [Finish("tool_calls", USAGE)],
    ]
    chunks = checked(streamed(batches), REQUEST)
    assert chunks[1]["choices"][0]["delta"] == {
        "tool_calls": [
            {"index": 0, "id": STAMP.call_id(0), "type": "function", "function": {"name": "f", "arguments": ""}}
        ]
    }


def test_functions_of_old_are_streamed_in_their_form() -> None:
    batches: list[list[ChatEvent]] = [
        [Delta(tool_calls=(ToolCallDelta(0, "x", "f", '{"a"'),))],
        [Delta(tool_calls=(ToolCallDelta(0, arguments=":1}"),))],
        [Finish("tool_calls", USAGE)],
    ]
    deltas = [chunk["choices"][0] for chunk in chunks_of(streamed(batches, LEGACY))]
    assert [choice["delta"].get("function_call") for choice in deltas] == [
        None,
        {"name": "f", "arguments": '{"a"'},
        {"arguments": ":1}"},
        None,
    ]
    assert deltas[-1]["finish_reason"] == "function_call"


def test_log_probabilities_stand_beside_their_text() -> None:
    entry = {"token": "Hi", "logprob": -0.1, "bytes": None, "top_logprobs": []}
    choice = chunks_of(streamed([[Delta("Hi", logprobs=[entry])], [Finish("stop")]]))[1]["choices"][0]
    assert choice == {
        "index": 0,
        "delta": {"content": "Hi"},
        "logprobs": {"content": [entry], "refusal": None},
        "finish_reason": None,
    }


def test_a_keep_alive_says_nothing_and_may_come_before_the_role() -> None:
    encoder = ChatStreamEncoder(WITH_USAGE, STAMP)
    stream = encoder.keep_alive() + encoder.start() + encoder.keep_alive() + encoder.encode([Finish("stop", USAGE)])
    chunks = chunks_of(stream)
    assert chunks[0]["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}]
    assert chunks[0] == chunks[2]
    assert set(chunks[0]) == set(chunks[1])


def test_an_error_frame_is_the_error_object_and_nothing_else() -> None:
    encoder = ChatStreamEncoder(REQUEST, STAMP)
    assert encoder.error(b'{"error":{"message":"m"}}') == b'data: {"error":{"message":"m"}}\n\n'


def test_a_stream_is_said_to_be_one() -> None:
    assert ChatStreamEncoder.media_type == b"text/event-stream; charset=utf-8"


ENTRIES: list[Any] = [{"token": f"t{i} ", "logprob": -1.5, "bytes": None, "top_logprobs": []} for i in range(3000)]
SPELLED = "".join(f"t{i} " for i in range(3000))

LONG: dict[str, Delta] = {
    "text": Delta("x" * 200_000),
    "text of four bytes a character": Delta("🎉" * 40_000),
    "text that doubles when escaped": Delta('"' * 50_000),
    "text that grows sixfold when escaped": Delta("\x01" * 50_000),
    "just over a line": Delta("x" * (MAX_LINE - 1)),
    "reasoning": Delta(reasoning="x" * 200_000),
    "reasoning and text": Delta("x" * 40_000, "y" * 40_000),
    "arguments": Delta(tool_calls=(ToolCallDelta(0, "x", "f", json.dumps({"a": "x" * 200_000})),)),
    "text and arguments": Delta(
        "x" * 40_000, tool_calls=(ToolCallDelta(0, "x", "f", json.dumps({"a": "x" * 40_000})),)
    ),
    "many calls": Delta(tool_calls=tuple(ToolCallDelta(i, f"call_{i}", "f" * 60, "{}") for i in range(500))),
    "log probabilities": Delta(SPELLED, logprobs=ENTRIES),
    "log probabilities that do not spell the text": Delta("x" * 100_000, logprobs=ENTRIES),
}


@pytest.mark.parametrize("delta", LONG.values(), ids=LONG)
def test_what_is_too_long_for_a_line_is_split_and_stays_whole(delta: Delta) -> None:
    events: list[ChatEvent] = [delta, Finish("stop", USAGE)]
    stream = streamed([[event] for event in events], WITH_USAGE)
    assert len(checked(stream, WITH_USAGE)) > 4
    assert merged(play(ChatStreamDecoder(), [stream])) == merged(events)


def test_log_probabilities_are_split_with_their_tokens() -> None:
    for chunk in chunks_of(streamed([[Delta(SPELLED, logprobs=ENTRIES)], [Finish("stop")]]))[1:-1]:
        choice = chunk["choices"][0]
        assert choice["delta"]["content"] == "".join(entry["token"] for entry in choice["logprobs"]["content"])


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
ARGUMENTS = st.dictionaries(TEXT, TEXT | st.integers(), max_size=3).map(json.dumps)


@st.composite
def deltas(draw: st.DrawFn) -> list[ChatEvent]:
    """The events of an answer: text and reasoning in any order, then calls in pieces."""
    events: list[ChatEvent] = [
        Delta(draw(TEXT), draw(TEXT)) for _ in range(draw(st.integers(0, 4)))
    ]  # what has neither is a chunk that says nothing
    for index in range(draw(st.integers(0, 3))):
        arguments = draw(ARGUMENTS)
        at = draw(st.integers(1, len(arguments)))
        events.append(
            Delta(tool_calls=(ToolCallDelta(index, f"call_{index}", draw(st.sampled_from("fg")), arguments[:at]),))
        )
        if arguments[at:]:
            events.append(Delta(tool_calls=(ToolCallDelta(index, arguments=arguments[at:]),)))
    return events


REASONS = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])


@given(deltas(), REASONS, COUNTED)
def test_a_stream_is_read_back_as_it_was(events: list[ChatEvent], reason: FinishReason, usage: Usage) -> None:
    stream = streamed([[*events], [Finish(reason, usage)]], WITH_USAGE)
    checked(stream, WITH_USAGE)
    assert merged(play(ChatStreamDecoder(), [stream])) == [*merged(events), Finish(reason, usage)]


@given(deltas(), st.booleans())
def test_frames_are_the_same_however_the_events_are_batched(events: list[ChatEvent], include_usage: bool) -> None:
    request = WITH_USAGE if include_usage else REQUEST
    whole = [*events, Finish("stop", USAGE)]
    assert streamed([whole], request) == streamed([[event] for event in whole], request)
