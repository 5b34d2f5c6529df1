"""Whole answers in the native shapes, and that our own reader understands them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import ChatRequest, ChatResult, Choice, JsonFormat, Message, ToolCall, Usage
from adapters.wire.json_text import encode
from adapters.wire.native.chat_answer import dump_native_chat, native_usage
from adapters.wire.native.chat_inputs import InputKey, NativeChatRequest
from adapters.wire.openai_answer import dump_chat_result
from adapters.wire.openai_upstream import read_usage
from adapters.wire.workers_ai import parse_chat_result
from tests.support.openai_answers import COUNTED, STAMP

USAGE = Usage(prompt_tokens=9, completion_tokens=2, cached_tokens=1)
COUNTS = {
    "prompt_tokens": 9,
    "completion_tokens": 2,
    "total_tokens": 11,
    "prompt_tokens_details": {"cached_tokens": 1},
}
CALL = ToolCall(id="call_1", name="get_weather", arguments='{"city":"Oslo"}')


def asked(key: InputKey = "messages", **fields: Any) -> NativeChatRequest:
    request = ChatRequest(model="m", messages=(Message(role="user", content="Hi"),), **fields)
    return NativeChatRequest(request=request, input_key=key)


JSON_MODE = asked(response_format=JsonFormat())


def dump(
    choice: Choice, request: NativeChatRequest | None = None, *, native_result: str | None = "response"
) -> tuple[dict[str, Any], bytes]:
    result = ChatResult(choices=(choice,), usage=USAGE)
    body = dump_native_chat(result, request or asked(), native_result=native_result, stamp=STAMP)
    return json.loads(body), body


# A choice, the request, and the answer's members beside its usage.
RESPONSES: dict[str, tuple[Choice, NativeChatRequest, dict[str, Any]]] = {
    "text": (Choice(text="Hello"), asked(), {"response": "Hello", "tool_calls": []}),
    "text for a prompt": (Choice(text="Hello"), asked("prompt"), {"response": "Hello", "tool_calls": []}),
    "nothing": (Choice(finish_reason="length"), asked(), {"response": "", "tool_calls": []}),
    "a call": (
        Choice(tool_calls=(CALL,), finish_reason="tool_calls"),
        asked(),
        {"response": None, "tool_calls": [{"name": "get_weather", "arguments": {"city": "Oslo"}}]},
    ),
    "a call beside text": (
        Choice(text="Let me see.", tool_calls=(CALL,)),
        asked(),
        {"response": "Let me see.", "tool_calls": [{"name": "get_weather", "arguments": {"city": "Oslo"}}]},
    ),
    "arguments that are no object": (
        Choice(tool_calls=(ToolCall(None, "f", "[1]"), ToolCall(None, "g", "{broken"))),
        asked(),
        {"response": None, "tool_calls": [{"name": "f", "arguments": "[1]"}, {"name": "g", "arguments": "{broken"}]},
    ),
    "an object in JSON mode": (Choice(text='{"a": 1}'), JSON_MODE, {"response": {"a": 1}, "tool_calls": []}),
    "a number in JSON mode": (Choice(text="5"), JSON_MODE, {"response": 5, "tool_calls": []}),
    "broken JSON in JSON mode": (Choice(text='{"a'), JSON_MODE, {"response": '{"a', "tool_calls": []}),
    "JSON out of JSON mode": (Choice(text='{"a":1}'), asked(), {"response": '{"a":1}', "tool_calls": []}),
    "JSON nested without end": (
        Choice(text="[" * 100_000),
        JSON_MODE,
        {"response": "[" * 100_000, "tool_calls": []},
    ),
    "a thought": (
        Choice(text="Four.", reasoning="Two and two."),
        asked(),
        {"response": "<think>\nTwo and two.</think>\n\nFour.", "tool_calls": []},
    ),
    "a thought in JSON mode": (
        Choice(text="{}", reasoning="Hm."),
        JSON_MODE,
        {"response": {}, "tool_calls": [], "reasoning_content": "Hm."},
    ),
    "a thought before a call": (
        Choice(reasoning="Hm.", tool_calls=(CALL,)),
        asked(),
        {
            "response": None,
            "tool_calls": [{"name": "get_weather", "arguments": {"city": "Oslo"}}],
            "reasoning_content": "Hm.",
        },
    ),
}


@pytest.mark.parametrize("native_result", ["response", "response_or_openai_chat"])
@pytest.mark.parametrize(("choice", "request_", "members"), RESPONSES.values(), ids=RESPONSES)
def test_the_response_shape(
    choice: Choice, request_: NativeChatRequest, members: dict[str, Any], native_result: str
) -> None:
    answer, body = dump(choice, request_, native_result=native_result)
    assert answer == {**members, "usage": COUNTS}
    read = parse_chat_result(body)
    assert read.usage == USAGE
    assert [(call.name, call.arguments) for call in read.choices[0].tool_calls] == [
        (call.name, call.arguments) for call in choice.tool_calls
    ]
    assert read.choices[0].reasoning == choice.reasoning
    assert read.choices[0].text.replace(" ", "") == choice.text.replace(" ", "")


def test_only_the_first_of_many_answers_fits_the_response_shape() -> None:
    result = ChatResult(choices=(Choice(text="a"), Choice(text="b")), usage=USAGE)
    body = dump_native_chat(result, asked(), native_result="response", stamp=STAMP)
    assert json.loads(body)["response"] == "a"


@pytest.mark.parametrize("native_result", ["openai_chat", "openai_chat_or_responses", None])
def test_the_chat_shape_is_openais(native_result: str | None) -> None:
    result = ChatResult(choices=(Choice(text="Hi", reasoning="Hm.", finish_reason="stop"), Choice()), usage=USAGE)
    body = dump_native_chat(result, asked(n=2), native_result=native_result, stamp=STAMP)
    assert body == dump_chat_result(result, asked(n=2).request, STAMP)
    assert parse_chat_result(body) == result


@pytest.mark.parametrize("native_result", ["openai_chat", "openai_chat_or_responses", None])
def test_a_prompt_is_completed(native_result: str | None) -> None:
    logprobs = [{"token": "Hi", "logprob": -0.5}]
    choices = (Choice(text="Hi", finish_reason="length", logprobs=logprobs), Choice(text="Oh", reasoning="Hm."))
    result = ChatResult(choices=choices, usage=USAGE)
    body = dump_native_chat(result, asked("prompt"), native_result=native_result, stamp=STAMP)
    assert json.loads(body) == {
        "id": STAMP.id,
        "object": "text_completion",
        "created": STAMP.created,
        "model": STAMP.model,
        "choices": [
            {"index": 0, "text": "Hi", "finish_reason": "length", "logprobs": {"content": logprobs}},
            {"index": 1, "text": "<think>\nHm.</think>\n\nOh", "finish_reason": None, "logprobs": None},
        ],
        "usage": COUNTS,
    }
    assert parse_chat_result(body).choices[0] == choices[0]


def test_calls_fit_no_completion() -> None:
    answer, _ = dump(Choice(tool_calls=(CALL,)), asked("prompt"), native_result="openai_chat")
    assert answer["object"] == "chat.completion"


def test_a_usage_that_nobody_reported_is_said_to_be_an_estimate() -> None:
    keys: tuple[InputKey, ...] = ("messages", "prompt")
    for native_result, key in itertools.product(("response", "openai_chat"), keys):
        result = ChatResult(choices=(Choice(text="Hi"),))
        body = dump_native_chat(result, asked(key), native_result=native_result, stamp=STAMP)
        assert json.loads(body)["usage"]["estimated"] is True


@given(COUNTED)
def test_usage_is_told_whole(usage: Usage) -> None:
    wire = json.loads(encode(native_usage(usage)))
    assert read_usage(wire) == usage
    assert ("neurons" in wire) == (usage.neurons is not None)
    assert ("completion_tokens_details" in wire) == (usage.reasoning_tokens > 0)


@given(
    st.text(),
    st.booleans(),
    st.sampled_from(["response", "openai_chat", None]),
    st.sampled_from(["messages", "prompt"]),
)
def test_any_text_has_an_answer(text: str, json_mode: bool, native_result: str | None, key: InputKey) -> None:
    request = asked(key, response_format=JsonFormat() if json_mode else None)
    choice = Choice(text=text, tool_calls=(ToolCall("x", "f", text),) if json_mode else ())
    assert json.loads(dump(choice, request, native_result=native_result)[1])
