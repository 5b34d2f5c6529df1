"""OpenAI's chat request, to canonical: values, ranges, what goes together, and what is listed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import ChatRequest, JsonFormat, Message, Tool
from adapters.errors import InvalidRequest
from adapters.wire.openai_request import parse_chat_request
from adapters.wire.openai_types import FIELDS
from tests.support.openai_requests import FUNCTION, PARSED_TOOL, TOOL, USER, parse, refusal


def test_the_smallest_request() -> None:
    assert parse() == ChatRequest(model="m", messages=(Message(role="user", content="Hi"),))


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


# Fields, and what of them nothing here honours.
DROPPED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "whether to think": ({"reasoning": {"enabled": True}}, ("reasoning.enabled",)),
    "whether not to think": ({"reasoning": {"enabled": False}}, ("reasoning.enabled",)),
    "how long to think": (
        {"reasoning": {"effort": "low", "max_tokens": 100, "enabled": None}},
        ("reasoning.max_tokens",),
    ),
    "thoughts to be hidden": ({"reasoning": {"exclude": True}}, ("reasoning.exclude",)),
    "thoughts not to be hidden": ({"reasoning": {"exclude": False}}, ()),
    "two efforts": ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, ("reasoning.effort",)),
    "one effort twice": ({"reasoning": {"effort": "low"}, "reasoning_effort": "low"}, ()),
    "functions beside tools": ({"tools": [TOOL], "functions": [FUNCTION]}, ("functions",)),
    "no functions beside tools": ({"tools": [TOOL], "functions": []}, ()),
    "functions beside no tools": ({"tools": [], "functions": [FUNCTION]}, ()),
    "two choices": (
        {"tools": [TOOL], "tool_choice": "auto", "function_call": {"name": "f"}},
        ("function_call",),
    ),
    "the older choice among tools": ({"tools": [TOOL], "function_call": "auto"}, ()),
    "a past thought that is no text": (
        {"messages": [{"role": "assistant", "content": "a", "reasoning": {"text": "r"}}, USER]},
        ("messages[].reasoning",),
    ),
    "a past thought": ({"messages": [{"role": "assistant", "content": "a", "reasoning": "r"}, USER]}, ()),
}


@pytest.mark.parametrize(("fields", "names"), DROPPED.values(), ids=DROPPED)
def test_what_could_alter_the_answer_and_is_not_honoured_is_named(
    fields: dict[str, Any], names: tuple[str, ...]
) -> None:
    assert parse(**fields).unsupported == names


def test_unknown_fields_inside_others_are_listed_too() -> None:
    options = {"rejectIfBusy": True, "queueRequest": True, "tags": None, "x" * 100: 1}
    request = parse(options=options, reasoning={"effort": "low", "summary": "auto"}, foo=1)
    assert request.unknown == ("foo", "options.queueRequest", f"options.{'x' * 64}", "reasoning.summary")
    assert request.reject_if_busy and request.reasoning_effort == "low"


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
