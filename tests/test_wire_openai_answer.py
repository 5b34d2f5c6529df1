"""A whole answer in OpenAI's form."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import ChatRequest, ChatResult, Choice, ToolCall, Usage
from adapters.wire.openai_answer import Stamp, dump_chat_result, dump_usage
from adapters.wire.workers_ai import parse_chat_result
from tests.support.openai_answers import COUNTED, LEGACY, REQUEST, STAMP, USAGE

CALL = ToolCall("call_1", "f", "{}")


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
    assert dumped(Choice(text="a", tool_calls=(CALL,)))["choices"][0]["message"]["content"] == "a"
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


@given(CHOICE, COUNTED)
def test_an_answer_is_read_back_as_it_was(choice: Choice, usage: Usage) -> None:
    result = ChatResult(choices=(choice,), usage=usage)
    assert parse_chat_result(dump_chat_result(result, REQUEST, STAMP)) == result
