"""The messages of a chat request, and the older form of a conversation."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.canonical import ChatRequest, ImagePart, JsonFormat, Message, NamedTool, TextPart, Tool, ToolCall
from adapters.wire.openai_request import OLD_FORM_MODEL, parse_chat_request
from adapters.wire.workers_ai import dump_chat_request
from tests.support.openai_requests import PARSED_TOOL, parse, refusal

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
