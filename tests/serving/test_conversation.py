"""Conversations as chat templates read them."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.canonical import ImagePart, Message, TextPart, Tool, ToolCall
from adapters.errors import InvalidRequest
from adapters.local.serving.conversation import (
    check_parts,
    dump_messages,
    dump_tools,
    in_one_voice,
    one_call_each,
    renumbered,
    with_tools_told,
)
from adapters.local.serving.turns import Thought

THINK = Thought("<think>", "</think>")
USER = Message(role="user", content="Hi")
CALL = ToolCall("call_1", "f", '{"a": 1}')
OTHER = ToolCall("call_2", "g", "{}")


def called(*calls: ToolCall, **fields: Any) -> Message:
    return Message(role="assistant", tool_calls=calls, **fields)


def result(id: str, content: str = "r") -> Message:
    return Message(role="tool", tool_call_id=id, content=content)


def function(call: ToolCall, arguments: Any) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


TURNS: dict[str, tuple[Message, dict[str, Any]]] = {
    "text": (USER, {"role": "user", "content": "Hi"}),
    "a name": (Message(role="user", content="Hi", name="Ann"), {"role": "user", "content": "Hi", "name": "Ann"}),
    "parts": (
        Message(role="user", content=(TextPart("a"), TextPart("b"))),
        {"role": "user", "content": "ab"},
    ),
    "reasoning": (
        Message(role="assistant", content="Yes.", reasoning="Hm."),
        {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."},
    ),
    "reasoning left in the text": (
        Message(role="assistant", content="<think>\nHm.\n</think>\n\nYes."),
        {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm.\n"},
    ),
    "reasoning in both": (
        Message(role="assistant", content="<think>a</think>b", reasoning="c"),
        {"role": "assistant", "content": "<think>a</think>b", "reasoning_content": "c"},
    ),
    "what a user calls a thought": (
        Message(role="user", content="<think>a</think>b"),
        {"role": "user", "content": "<think>a</think>b"},
    ),
    "calls": (
        called(CALL, ToolCall(None, "g", "broken"), ToolCall("x", "h", "[1]")),
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                function(CALL, {"a": 1}),
                function(ToolCall(None, "g", ""), "broken"),
                function(ToolCall("x", "h", ""), "[1]"),
            ],
        },
    ),
    "a result": (result("call_9"), {"role": "tool", "content": "r", "tool_call_id": "call_9"}),
}


@pytest.mark.parametrize(("message", "want"), TURNS.values(), ids=TURNS)
def test_a_turn_is_told_under_the_names_that_templates_read(message: Message, want: dict[str, Any]) -> None:
    assert dump_messages([message], THINK) == [want]


def test_a_result_is_told_with_its_functions_name() -> None:
    named = Message(role="tool", tool_call_id="call_1", content="r", name="other")
    turns = dump_messages([called(CALL), result("call_1"), named], None)
    assert [turn.get("name") for turn in turns] == [None, "f", "other"]


def test_without_marks_of_thoughts_text_stays() -> None:
    (turn,) = dump_messages([Message(role="assistant", content="<think>a</think>b")], None)
    assert turn == {"role": "assistant", "content": "<think>a</think>b"}


def test_arguments_stay_text_where_a_template_joins_them_to_text() -> None:
    (turn,) = dump_messages([called(CALL)], None, text_arguments=True)
    assert turn["tool_calls"] == [function(CALL, '{"a": 1}')]


def test_an_image_is_refused_by_its_place() -> None:
    check_parts([USER, Message(role="user", content=(TextPart("a"), TextPart("b")))])
    with pytest.raises(InvalidRequest) as caught:
        check_parts([USER, Message(role="user", content=(TextPart("a"), ImagePart("data:,secret")))])
    assert caught.value.param == "messages[1].content[1]"
    assert "secret" not in caught.value.message


def test_tools_stand_in_openais_envelope() -> None:
    tool = Tool(name="f", description="d", parameters={"type": "object"})
    assert dump_tools([tool]) == [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    ]


def test_ids_are_renumbered_alike_in_calls_and_results() -> None:
    turns = renumbered([USER, called(CALL, OTHER), result("call_2"), result("call_1"), result("call_7")])
    assert turns[0] == USER
    assert [call.id for call in turns[1].tool_calls] == ["000000000", "000000001"]
    assert [turn.tool_call_id for turn in turns[2:]] == ["000000001", "000000000", "000000002"]


CONVERSATIONS: dict[str, tuple[list[Message], list[Message]]] = {
    "one call": ([called(CALL), result("call_1"), USER], [called(CALL), result("call_1"), USER]),
    "two calls": (
        [USER, called(CALL, OTHER, content="c", reasoning="t"), result("call_2"), result("call_1"), USER],
        [USER, called(CALL, content="c", reasoning="t"), result("call_1"), called(OTHER), result("call_2"), USER],
    ),
    "no results": ([called(CALL, OTHER)], [called(CALL), called(OTHER)]),
    "results of nothing": (
        [called(CALL, OTHER), result("x"), result("call_2")],
        [called(CALL), called(OTHER), result("call_2"), result("x")],
    ),
    "two such turns": (
        [called(CALL, OTHER), result("call_1"), called(CALL, OTHER), result("call_2")],
        [called(CALL), result("call_1"), called(OTHER), called(CALL), called(OTHER), result("call_2")],
    ),
}


@pytest.mark.parametrize(("turns", "want"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_each_call_gets_a_turn_before_its_result(turns: list[Message], want: list[Message]) -> None:
    assert one_call_each(turns) == want


def test_text_beside_reasoning_and_calls_joins_the_reasoning() -> None:
    turns = [USER, called(CALL, content="c", reasoning="t"), called(CALL, content="c"), called(CALL, reasoning="t")]
    assert in_one_voice(turns) == [USER, called(CALL, reasoning="t\n\nc"), *turns[2:]]


def test_tools_are_told_in_the_systems_turn() -> None:
    tool = Tool(name="f", parameters={})
    told = '[{"name":"f","description":"","parameters":{}}]'
    user = {"role": "user", "content": "Hi"}
    assert with_tools_told([{"role": "system", "content": "s"}, user], [tool]) == [
        {"role": "system", "content": "s", "tools": told},
        user,
    ]
    assert with_tools_told([user], [tool]) == [{"role": "system", "content": "", "tools": told}, user]
