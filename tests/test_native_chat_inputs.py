"""Text generation's native input: every way to put it, and the ranges of the two kinds of models."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import (
    ChatRequest,
    ImagePart,
    JsonFormat,
    Message,
    NamedTool,
    TextPart,
    Tool,
    ToolCall,
)
from adapters.errors import Fault, InvalidRequest
from adapters.wire.native.chat_inputs import (
    BOUNDS,
    DEFAULT_MAX_TOKENS,
    NativeChatRequest,
    NativeResponsesRequest,
    parse_chat_inputs,
    response_shaped,
)
from adapters.wire.openai_request import parse_chat_request

USER = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
OLDER, NEWER = "response", "openai_chat"
SHAPES = ["response", "response_or_openai_chat", "openai_chat", "openai_chat_or_responses", None]


def read(native_result: str | None = OLDER, **fields: Any) -> NativeChatRequest:
    """An input with these fields; one message is there unless said otherwise (`...`: without it)."""
    body = {"messages": [USER], **fields}
    wire = json.dumps({key: value for key, value in body.items() if value is not ...}).encode()
    asked = parse_chat_inputs(wire, model="@cf/a/b", native_result=native_result)
    assert isinstance(asked, NativeChatRequest)
    return asked


def refusal(native_result: str | None = OLDER, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(native_result, **fields)
    assert caught.value.fault is Fault.INVALID_VALUE
    return caught.value


def test_the_smallest_inputs() -> None:
    said = (Message(role="user", content="Hi"),)
    older = ChatRequest(model="@cf/a/b", messages=said, max_tokens=DEFAULT_MAX_TOKENS)
    newer = ChatRequest(model="@cf/a/b", messages=said)
    assert read(OLDER) == NativeChatRequest(request=older, input_key="messages")
    assert read(NEWER) == NativeChatRequest(request=newer, input_key="messages")
    assert read(None) == read(NEWER)
    assert read(OLDER, messages=..., prompt="Hi") == NativeChatRequest(request=older, input_key="prompt")
    assert read(NEWER, messages=..., prompt="Hi") == NativeChatRequest(request=newer, input_key="prompt")


def test_an_input_that_is_decoded_already_means_the_same() -> None:
    fields: dict[str, Any] = {"prompt": "Hi", "messages": None, "top_k": 5}
    assert parse_chat_inputs(fields, model="@cf/a/b", native_result=OLDER) == read(**fields)


@pytest.mark.parametrize("native_result", SHAPES)
@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({}, "messages", "oneOf at '/' not met: required properties missing: 'messages' or 'prompt'"),
        ({"messages": None, "prompt": None}, "messages", "oneOf at '/' not met"),
        (
            {"messages": [USER], "prompt": "Hi"},
            "prompt",
            "oneOf at '/' not met: give only one of 'messages' or 'prompt'",
        ),
    ],
)
def test_one_input_and_no_more(native_result: str | None, fields: dict[str, Any], param: str, words: str) -> None:
    error = refusal(native_result, **{"messages": ..., **fields})
    assert error.param == param
    assert words in error.message


@pytest.mark.parametrize("body", [b"", b" \n", b"{}"])
def test_an_empty_body_is_told_what_is_missing(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="'messages' or 'prompt'"):
        parse_chat_inputs(body, model="m", native_result=OLDER)


@pytest.mark.parametrize("body", [b"[]", b"5", [], "x"])
def test_what_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(InvalidRequest, match="expected an object"):
        parse_chat_inputs(body, model="m", native_result=OLDER)


def test_what_nests_too_deeply_is_refused() -> None:
    arguments: dict[str, Any] = {}
    for _ in range(100_000):
        arguments = {"a": arguments}
    call = {"name": "f", "arguments": arguments}
    try:
        with pytest.raises(InvalidRequest, match="nested too deeply"):
            parse_chat_inputs(
                {"messages": [{"role": "assistant", "tool_calls": [call]}]}, model="m", native_result=OLDER
            )
    finally:
        while arguments:  # or the interpreter would take them down one inside the other
            arguments = arguments.pop("a")


# ---------------------------------------------------------------- the input of GPT-OSS


def test_an_input_for_responses_is_handed_on_with_its_model() -> None:
    asked = parse_chat_inputs(
        {"input": "Hi", "instructions": None, "model": "x", "reasoning": {"effort": "low"}},
        model="@cf/openai/gpt-oss-20b",
        native_result="openai_chat_or_responses",
    )
    assert isinstance(asked, NativeResponsesRequest)
    assert json.loads(asked.body) == {"input": "Hi", "reasoning": {"effort": "low"}, "model": "@cf/openai/gpt-oss-20b"}


def test_an_input_for_responses_excludes_the_others() -> None:
    error = refusal("openai_chat_or_responses", input="Hi")
    assert (error.param, "'messages' or 'prompt' or 'input'" in error.message) == ("input", True)


@pytest.mark.parametrize("native_result", [OLDER, NEWER, None])
def test_other_models_know_no_such_input(native_result: str | None) -> None:
    assert refusal(native_result, messages=..., input="Hi").param == "messages"
    assert read(native_result, input="Hi").request.unknown == ("input",)


# ---------------------------------------------------------------- ranges


def test_which_models_are_response_shaped() -> None:
    assert [response_shaped(shape) for shape in SHAPES] == [True, True, False, False, False]


@pytest.mark.parametrize("name", BOUNDS)
def test_the_older_models_ranges(name: str) -> None:
    low, high = BOUNDS[name]
    for value in (low, high):
        assert getattr(read(OLDER, **{name: value}).request, name) == value
    for value in (low - 1, high + 1):
        error = refusal(OLDER, **{name: value})
        assert (error.param, str(value) in error.message) == (name, True)


@pytest.mark.parametrize("name", BOUNDS)
def test_the_newer_models_ranges_are_openais(name: str) -> None:
    for value in (-3, -2, -0.5, 0, 1, 1.5, 2, 5, 51, 10**10):
        body = json.dumps({"model": "@cf/a/b", "messages": [USER], name: value}).encode()
        try:
            openai = parse_chat_request(body)
        except InvalidRequest as exc:
            error = refusal(NEWER, **{name: value})
            assert (error.param, error.message) == (exc.param, exc.message)
        else:
            assert read(NEWER, **{name: value}).request == openai


@pytest.mark.parametrize("native_result", SHAPES)
@pytest.mark.parametrize("name", ["max_tokens", *BOUNDS])
def test_a_number_of_a_wrong_type_is_refused(native_result: str | None, name: str) -> None:
    for value in ("1", True, [1]):
        error = refusal(native_result, **{name: value})
        assert (error.param, error.code) == (name, "invalid_type")


def test_the_limit_of_an_answer() -> None:
    assert read(OLDER, max_tokens=9).request.max_tokens == 9
    assert read(OLDER, max_completion_tokens=9.0).request.max_tokens == 9
    assert refusal(OLDER, max_tokens=0).param == "max_tokens"


@pytest.mark.parametrize("native_result", SHAPES)
def test_a_prompt_is_text_and_not_empty(native_result: str | None) -> None:
    for value in (5, ["Hi"], ""):
        assert refusal(native_result, messages=..., prompt=value).param == "prompt"


def test_only_the_older_models_limit_a_prompts_length() -> None:
    longest = "a" * 131_072
    assert read(OLDER, messages=..., prompt=longest).request.messages[0].content == longest
    assert refusal(OLDER, messages=..., prompt=longest + "a").param == "prompt"
    assert read(NEWER, messages=..., prompt=longest + "a").request.messages[0].content == longest + "a"


# ---------------------------------------------------------------- fields

# Fields, and what they are in a request.
FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "stream": ({"stream": True}, {"stream": True}),
    "nulls": ({"stream": None, "temperature": None, "tools": None, "response_format": None, "lora": None}, {}),
    "lora": ({"lora": "mine"}, {"lora": "mine"}),
    "stop": ({"stop": ["a"]}, {"stop": ("a",)}),
    "effort": ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    "no effort": ({"reasoning_effort": None}, {"reasoning_effort": "none"}),
    "kwargs": (
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ),
    "refused where busy": ({"options": {"rejectIfBusy": True}}, {"reject_if_busy": True}),
    "raw": ({"raw": True}, {"unsupported": ("raw",)}),
    "raw as Cloudflare's example has it": ({"raw": "true"}, {"unsupported": ("raw",)}),
    "not raw": ({"raw": "false"}, {}),
    "the model's own name": ({"model": "another"}, {}),
    "unknown": ({"new": 1, "gone": None, "history": []}, {"unknown": ("new", "history")}),
    "unknown inside of others": (
        {"options": {"rejectIfBusy": True, "new": 1}, "reasoning": {"effort": "low", "gone": None, "other": 1}},
        {"reject_if_busy": True, "reasoning_effort": "low", "unknown": ("options.new", "reasoning.other")},
    ),
    "JSON": ({"response_format": {"type": "json_object"}}, {"response_format": JsonFormat()}),
    "a bare schema": (
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
        {"response_format": JsonFormat(schema=SCHEMA)},
    ),
    "a wrapped schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}},
        {"response_format": JsonFormat(name="n", schema=SCHEMA, strict=True)},
    ),
    "guided JSON": ({"guided_json": SCHEMA}, {"response_format": JsonFormat(schema=SCHEMA)}),
    "guided JSON beside a format": (
        {"guided_json": SCHEMA, "response_format": {"type": "json_object"}},
        {"response_format": JsonFormat()},
    ),
}


@pytest.mark.parametrize("native_result", [OLDER, NEWER])
@pytest.mark.parametrize(("fields", "expected"), FIELDS.values(), ids=FIELDS)
def test_fields(native_result: str, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    plain = read(native_result).request
    assert read(native_result, **fields).request == msgspec.structs.replace(plain, **expected)


def test_raw_is_told() -> None:
    assert read(raw=True).raw is True
    assert read(raw=False).raw is False
    assert refusal(raw="yes").param == "raw"
    assert refusal(raw=1).param == "raw"


def test_answers_by_the_number_are_for_newer_models() -> None:
    assert read(NEWER, n=2).request.n == 2
    request = read(OLDER, n=2, stream=True).request
    assert (request.n, request.unknown) == (1, ("n",))
    assert read(OLDER, n=1).request.unknown == ()


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FLAT = {"name": "f", "description": "d", "parameters": PARAMETERS}
PARSED = Tool(name="f", description="d", parameters=PARAMETERS)

TOOLS: dict[str, tuple[dict[str, Any], tuple[Tool, ...]]] = {
    "flat": ({"tools": [FLAT]}, (PARSED,)),
    "flat with a type": ({"tools": [{"type": "function", **FLAT}]}, (PARSED,)),
    "OpenAI's": ({"tools": [{"type": "function", "function": FLAT}]}, (PARSED,)),
    "both": (
        {"tools": [FLAT, {"function": {**FLAT, "name": "g"}}]},
        (PARSED, Tool(name="g", description="d", parameters=PARAMETERS)),
    ),
    "functions": (
        {"functions": [{"name": "f", "code": "return 1"}]},
        (Tool(name="f", parameters={"type": "object", "properties": {}}),),
    ),
    "functions beside tools": ({"tools": [FLAT], "functions": [{"name": "g", "code": ""}]}, (PARSED,)),
    "none": ({"tools": []}, ()),
}


@pytest.mark.parametrize("native_result", [OLDER, NEWER])
@pytest.mark.parametrize(("fields", "tools"), TOOLS.values(), ids=TOOLS)
def test_tools(native_result: str, fields: dict[str, Any], tools: tuple[Tool, ...]) -> None:
    request = read(native_result, **fields).request
    assert (request.tools, request.legacy_functions) == (tools, False)


@pytest.mark.parametrize(
    ("choice", "parsed"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "f"}}, NamedTool("f")),
    ],
)
def test_the_choice_among_tools(choice: Any, parsed: Any) -> None:
    assert read(tools=[FLAT], tool_choice=choice).request.tool_choice == parsed


WRONG_TOOLS: list[tuple[dict[str, Any], str]] = [
    ({"tools": {}}, "tools"),
    ({"tools": ["f"]}, "tools[0]"),
    ({"tools": [FLAT, {"description": "d"}]}, "tools[1].name"),
    ({"tools": [{"name": ""}]}, "tools[0].name"),
    ({"tools": [{**FLAT, "description": False}]}, "tools[0].description"),
    ({"tools": [{**FLAT, "type": "code"}]}, "tools[0].type"),
    ({"tools": [{**FLAT, "type": 5}]}, "tools[0].type"),
    ({"tools": [{"function": {"description": "d"}}]}, "tools[0].function.name"),
    ({"tools": [{"function": "f"}]}, "tools[0].function"),
    ({"functions": "f"}, "functions"),
    ({"functions": [{"code": ""}]}, "functions[0].name"),
    ({"tools": [FLAT], "tool_choice": {"function": {"name": "g"}}}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"guided_json": "x"}, "response_format.json_schema.schema"),
]


@pytest.mark.parametrize("native_result", [OLDER, NEWER])
@pytest.mark.parametrize(("fields", "param"), WRONG_TOOLS)
def test_a_wrong_tool_is_named(native_result: str, fields: dict[str, Any], param: str) -> None:
    assert refusal(native_result, **fields).param == param


# ---------------------------------------------------------------- messages and images

URI = "data:image/png;base64,iVBORw0KGgo="
IMAGE_PART = {"type": "image_url", "image_url": {"url": URI}}

CONTENTS: list[tuple[Any, Any]] = [
    ("Hi", "Hi"),
    ([{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}], "Hithere"),
    ({"type": "text", "text": "Hi"}, "Hi"),
    (IMAGE_PART, (ImagePart(URI),)),
    ([{"type": "text", "text": "Hi"}, IMAGE_PART], (TextPart("Hi"), ImagePart(URI))),
]


@pytest.mark.parametrize(("content", "parsed"), CONTENTS)
def test_content(content: Any, parsed: Any) -> None:
    expected = read(messages=[{"role": "user", "content": [content] if isinstance(content, dict) else content}])
    (message,) = read(messages=[{"role": "user", "content": content}]).request.messages
    assert (message,) == expected.request.messages
    if not isinstance(parsed, str):
        assert message.content == parsed


def test_history_keeps_its_thoughts_and_calls() -> None:
    history = [
        {
            "role": "assistant",
            "content": None,
            "reasoning": "Hm.",
            "tool_calls": [{"name": "f", "arguments": {"a": 1}}],
        },
        {"role": "tool", "name": "f", "content": "2"},
    ]
    asked, answered = read(messages=history).request.messages
    assert asked == Message(
        role="assistant", reasoning="Hm.", tool_calls=(ToolCall(id="call_0_0", name="f", arguments='{"a":1}'),)
    )
    assert answered == Message(role="tool", name="f", content="2", tool_call_id="call_0_0")


PNG, JPEG, GIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a"
IMAGES: dict[str, tuple[Any, str]] = {
    "bytes": (list(PNG), f"data:image/png;base64,{base64.b64encode(PNG).decode()}"),
    "base64": (base64.b64encode(JPEG).decode(), f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"),
    "another kind": (list(GIF), f"data:image/gif;base64,{base64.b64encode(GIF).decode()}"),
    "of no kind known": ([1], "data:image/jpeg;base64,AQ=="),
    "a data URI": (URI, URI),
}


@pytest.mark.parametrize(("image", "uri"), IMAGES.values(), ids=IMAGES)
def test_an_image_beside_a_prompt_is_part_of_it(image: Any, uri: str) -> None:
    (message,) = read(messages=..., prompt="What?", image=image).request.messages
    assert message == Message(role="user", content=(TextPart("What?"), ImagePart(uri)))


def test_an_image_beside_messages_is_part_of_the_users_last() -> None:
    turns = [USER, {"role": "user", "content": [IMAGE_PART]}, {"role": "assistant", "content": "No."}]
    first, second, third = read(messages=turns, image=[1]).request.messages
    assert (first.content, third.content) == ("Hi", "No.")
    assert second.content == (ImagePart(URI), ImagePart("data:image/jpeg;base64,AQ=="))


@pytest.mark.parametrize("image", [[], "", [256], "!", {"a": 1}, 5])
def test_a_wrong_image_is_refused(image: Any) -> None:
    assert refusal(image=image).param == "image"


def test_an_image_needs_somebody_who_shows_it() -> None:
    assert refusal(image=[1], messages=[{"role": "system", "content": "a"}]).param == "image"


WRONG_MESSAGES: list[tuple[Any, str]] = [
    ("Hi", "messages"),
    ([], "messages"),
    (["Hi"], "messages[0]"),
    ([{"content": "Hi"}], "messages[0].role"),
    ([{"role": "king", "content": "Hi"}], "messages[0].role"),
    ([USER, {"role": "user", "content": 5}], "messages[1].content"),
    ([{"role": "user", "content": {"type": "text"}}], "messages[0].content[0].text"),
    ([{"role": "assistant", "tool_calls": ["f"]}], "messages[0].tool_calls[0]"),
    ([{"role": "assistant", "tool_calls": [{"function": 5}]}], "messages[0].tool_calls[0].function"),
    ([{"role": "assistant", "tool_calls": [{"id": 5, "name": "f"}]}], "messages[0].tool_calls[0].id"),
    ([{"role": "assistant", "tool_calls": [{"arguments": {}}]}], "messages[0].tool_calls[0].function.name"),
    ([{"role": "tool", "tool_call_id": 5, "content": ""}], "messages[0].tool_call_id"),
]


@pytest.mark.parametrize("native_result", [OLDER, NEWER])
@pytest.mark.parametrize(("messages", "param"), WRONG_MESSAGES)
def test_a_wrong_message_is_named(native_result: str, messages: Any, param: str) -> None:
    assert refusal(native_result, messages=messages).param == param


# ---------------------------------------------------------------- whatever comes

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "function", "name", "id", "tool_calls"]), inner
        )
    ),
)
KEYS = ["messages", "prompt", "input", "image", "raw", "tools", "functions", "response_format", "guided_json", "seed",
        "top_k", "temperature", "n", "stop", "reasoning_effort", "options", "tool_choice", "stream"]  # fmt: skip


@given(
    fields=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5) | VALUES,
    native_result=st.sampled_from(SHAPES),
    valid=st.booleans(),
)
def test_any_json_is_a_chat_or_a_refusal(fields: Any, native_result: str | None, valid: bool) -> None:
    if valid and isinstance(fields, dict):
        fields = {**fields, "messages": [USER], "prompt": None, "input": None}
    try:
        asked = parse_chat_inputs(fields, model="m", native_result=native_result)
    except InvalidRequest as refused:
        assert len(refused.message) < 400
    else:
        assert isinstance(asked, NativeChatRequest | NativeResponsesRequest)


@given(st.binary(max_size=80), st.sampled_from(SHAPES))
def test_any_bytes_are_a_refusal(body: bytes, native_result: str | None) -> None:
    with pytest.raises(InvalidRequest):
        parse_chat_inputs(body, model="m", native_result=native_result)
