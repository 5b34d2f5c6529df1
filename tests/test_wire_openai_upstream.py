"""OpenAI's chat completions as servers really send them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from adapters.canonical import (
    ChatResult,
    Choice,
    Delta,
    FinishReason,
    ImagePart,
    JsonFormat,
    Message,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from adapters.errors import Fault, RelayError
from adapters.wire.openai_upstream import (
    StreamChoice,
    UsageReader,
    dump_message,
    dump_response_format,
    dump_tool,
    parse_completion,
    parse_response,
    read_choice,
    read_finish,
    read_text,
    read_usage,
)
from adapters.wire.tool_calls import ToolCallReader

FINISHES: list[tuple[Any, FinishReason | None]] = [
    ("stop", "stop"),
    ("eos", "stop"),
    ("stop_sequence", "stop"),
    ("length", "length"),
    ("model_length", "length"),
    ("max_tokens", "length"),
    ("tool_calls", "tool_calls"),
    ("function_call", "tool_calls"),
    ("content_filter", "content_filter"),
    ("other", None),
    ("unknown", None),
    ("", None),
    (None, None),
    (5, None),
    (["stop"], None),
]


@pytest.mark.parametrize(("theirs", "ours"), FINISHES)
def test_a_finish_reason_is_one_of_four_or_none(theirs: Any, ours: FinishReason | None) -> None:
    assert read_finish(theirs) == ours


def test_the_finish_reason_error_is_one() -> None:
    with pytest.raises(RelayError) as caught:
        read_finish("error")
    assert caught.value.fault is Fault.UPSTREAM_ERROR


# ---------------------------------------------------------------- usage

USAGES: dict[str, tuple[Any, Usage | None]] = {
    "of chat completions": (
        {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
        Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1, reasoning_tokens=1),
    ),
    "of responses": (
        {
            "input_tokens": 3,
            "output_tokens": 2,
            "input_tokens_details": {"cached_tokens": 1},
            "output_tokens_details": {"reasoning_tokens": 1},
        },
        Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1, reasoning_tokens=1),
    ),
    "with neurons": ({"prompt_tokens": 1, "neurons": 0.5}, Usage(prompt_tokens=1, neurons=0.5)),
    "neurons without a fraction": ({"prompt_tokens": 1, "neurons": 2}, Usage(prompt_tokens=1, neurons=2.0)),
    "explicit zeros": ({"prompt_tokens": 0, "completion_tokens": 0, "neurons": 0}, Usage(neurons=0.0)),
    "one half of it": ({"completion_tokens": 4}, Usage(completion_tokens=4)),
    "fractions": ({"prompt_tokens": 3.0, "completion_tokens": 1.6}, Usage(prompt_tokens=3, completion_tokens=2)),
    "details null": ({"prompt_tokens": 1, "prompt_tokens_details": None}, Usage(prompt_tokens=1)),
    "details odd": ({"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": "x"}}, Usage(prompt_tokens=1)),
    "an empty object": ({}, None),
    "counts of nothing": ({"total_tokens": 5}, None),
    "null": (None, None),
    "a list": ([1], None),
    "text": ({"prompt_tokens": "3"}, None),
    "booleans": ({"prompt_tokens": True, "completion_tokens": False}, None),
    "below zero": ({"prompt_tokens": -1}, None),
    "beyond all bounds": ({"prompt_tokens": float("inf"), "completion_tokens": 10**400}, None),
    "one half null": ({"prompt_tokens": None, "completion_tokens": 4}, Usage(completion_tokens=4)),
    "one half text": ({"prompt_tokens": "3", "completion_tokens": 2}, None),
    "one half below zero": ({"prompt_tokens": 3, "completion_tokens": -1}, None),
    "one half beyond all bounds": ({"input_tokens": 10**400, "output_tokens": 2}, None),
    "a zero beside what cannot be read": ({"prompt_tokens": 0, "completion_tokens": []}, None),
    "neurons beyond all bounds": ({"prompt_tokens": 1, "neurons": float("inf")}, Usage(prompt_tokens=1)),
}


@pytest.mark.parametrize(("value", "usage"), USAGES.values(), ids=USAGES)
def test_usage_is_read_and_never_made_up(value: Any, usage: Usage | None) -> None:
    assert read_usage(value) == usage


def counts(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion}


# Usage on the chunks, usage in the tail, the one that counts.
CHUNKS: dict[str, tuple[list[Any], Any, tuple[int, int] | None]] = {
    "nobody counted": ([], None, None),
    "only a last chunk": ([counts(3, 2)], None, (3, 2)),
    "running totals": ([counts(14, 0), counts(14, 2), counts(14, 3), counts(14, 3)], None, (14, 3)),
    "increments": ([counts(147, 0), counts(0, 1), counts(0, 0), counts(0, 1)], None, (147, 2)),
    "increments and a cumulative tail": ([counts(147, 0), counts(0, 1), counts(0, 1)], counts(147, 16), (147, 16)),
    "running totals and a tail": ([counts(14, 0), counts(14, 3)], counts(14, 4), (14, 4)),
    "a tail that counts zeros": ([counts(14, 3)], counts(0, 0), (0, 0)),
    "a tail that counts nothing": ([counts(14, 3)], {}, (14, 3)),
    "chunks that count nothing": ([None, {}, counts(3, 2), None], None, (3, 2)),
    "zeros alone": ([counts(0, 0), counts(0, 0)], None, (0, 0)),
    "a chunk that cannot be read": ([counts(9, 0), {"prompt_tokens": 0, "completion_tokens": "1"}], None, None),
    "a chunk that cannot be read and a tail": ([{"prompt_tokens": -1}, counts(9, 1)], counts(9, 2), (9, 2)),
    "a tail that cannot be read": ([counts(9, 1)], {"prompt_tokens": 9, "completion_tokens": -1}, (9, 1)),
    "nothing but a tail that cannot be read": ([], {"prompt_tokens": 9, "completion_tokens": -1}, None),
}


@pytest.mark.parametrize(("chunks", "tail", "expected"), CHUNKS.values(), ids=CHUNKS)
def test_a_stream_has_one_usage_however_it_is_told(
    chunks: list[Any], tail: Any, expected: tuple[int, int] | None
) -> None:
    reader = UsageReader()
    for value in chunks:
        reader.chunk(value)
    assert reader.tail(tail) is bool(tail)
    usage = reader.result()
    assert (usage and (usage.prompt_tokens, usage.completion_tokens)) == expected


# ---------------------------------------------------------------- text and chunks


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


TEXTS: list[tuple[Any, str]] = [
    ("a", "a"),
    ("", ""),
    (None, ""),
    ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
    (["a", "b"], "ab"),
    ([{"type": "refusal"}], ""),
    ([], ""),
    ({"a": 1}, '{"a":1}'),
    (42, "42"),
    (False, "false"),
    ([{"text": ["a", {"text": "b"}]}], '["a",{"text":"b"}]'),
    (["a", ["b"], None, 5], 'a["b"]5'),
    ([nested(450)], "[" * 450 + "]" * 450),
]


def test_content_nested_without_end_is_the_upstreams_error() -> None:
    with pytest.raises(RelayError) as caught:
        read_text([nested(100_000)])
    assert caught.value.fault is Fault.UPSTREAM_ERROR


@pytest.mark.parametrize(("content", "text"), TEXTS)
def test_content_of_any_form_is_text(content: Any, text: str) -> None:
    assert read_text(content) == text


CHOICES: dict[str, tuple[dict[str, Any], Delta | None]] = {
    "text": ({"delta": {"content": "a"}}, Delta("a")),
    "a role alone": ({"delta": {"role": "assistant", "content": ""}}, None),
    "an empty delta": ({"delta": {}}, None),
    "no delta": ({}, None),
    "the text of a completion": ({"text": "a"}, Delta("a")),
    "reasoning_content": ({"delta": {"reasoning_content": "a"}}, Delta(reasoning="a")),
    "reasoning": ({"delta": {"reasoning": "a", "content": None}}, Delta(reasoning="a")),
    "reasoning under both names counts once": (
        {"delta": {"reasoning": "a", "reasoning_content": "a"}},
        Delta(reasoning="a"),
    ),
    "reasoning and text": ({"delta": {"reasoning": "a", "content": "b"}}, Delta("b", "a")),
    "a call": (
        {"delta": {"tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{}"}}]}},
        Delta(tool_calls=(ToolCallDelta(0, "x", "f", "{}"),)),
    ),
    "log probabilities without text": (
        {"delta": {"content": ""}, "logprobs": {"content": [{"token": ""}]}},
        Delta(logprobs=[{"token": ""}]),
    ),
    "log probabilities that are none": ({"delta": {"content": "a"}, "logprobs": {"content": []}}, Delta("a")),
    "unknown keys": ({"delta": {"content": "a", "annotations": []}, "matched_stop": 106}, Delta("a")),
}


@pytest.mark.parametrize(("wire", "delta"), CHOICES.values(), ids=CHOICES)
def test_a_chunk_adds_what_it_says(wire: dict[str, Any], delta: Delta | None) -> None:
    assert read_choice(msgspec.convert(wire, StreamChoice), ToolCallReader()) == delta


# ---------------------------------------------------------------- whole results

COMPLETIONS: dict[str, tuple[dict[str, Any], Choice]] = {
    "text": (
        {"message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"},
        Choice(text="a", finish_reason="stop"),
    ),
    "content null": ({"message": {"content": None}, "finish_reason": "length"}, Choice(finish_reason="length")),
    "content as an object": ({"message": {"content": {"a": 1}}}, Choice(text='{"a":1}')),
    "content as parts": ({"message": {"content": [{"type": "text", "text": "a"}]}}, Choice(text="a")),
    "no message": ({"text": "a"}, Choice(text="a")),
    "nothing": ({}, Choice()),
    "reasoning": ({"message": {"content": "a", "reasoning": "r"}}, Choice(text="a", reasoning="r")),
    "calls": (
        {"message": {"content": "", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": {"a": 1}}}]}},
        Choice(tool_calls=(ToolCall("x", "f", '{"a":1}'),)),
    ),
    "log probabilities": (
        {"message": {"content": "a"}, "logprobs": {"content": [{"token": "a"}]}},
        Choice(text="a", logprobs=[{"token": "a"}]),
    ),
}


@pytest.mark.parametrize(("wire", "choice"), COMPLETIONS.values(), ids=COMPLETIONS)
def test_a_completion_is_read(wire: dict[str, Any], choice: Choice) -> None:
    assert parse_completion({"choices": [wire]}) == ChatResult(choices=(choice,))


def test_a_completion_may_hold_several_choices() -> None:
    choices = [{"message": {"content": text}} for text in "ab"]
    assert [choice.text for choice in parse_completion({"choices": choices}).choices] == ["a", "b"]


@pytest.mark.parametrize("choices", [None, [], "a", [None], [1], {}], ids=repr)
def test_a_completion_without_a_choice_is_an_error(choices: Any) -> None:
    with pytest.raises(RelayError) as caught:
        parse_completion({"choices": choices})
    assert caught.value.fault is Fault.UPSTREAM_ERROR


MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "a"}]}
RESPONSES: dict[str, tuple[dict[str, Any], Choice]] = {
    "a message": ({"output": [MESSAGE], "status": "completed"}, Choice(text="a", finish_reason="stop")),
    "a call": (
        {"output": [{"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}]},
        Choice(tool_calls=(ToolCall("call_1", "f", "{}"),), finish_reason="tool_calls"),
    ),
    "a call with one id": (
        {"output": [{"type": "function_call", "id": "fc_1", "name": "f", "arguments": "{}"}]},
        Choice(tool_calls=(ToolCall("fc_1", "f", "{}"),), finish_reason="tool_calls"),
    ),
    "a summary of the reasoning": (
        {"output": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "r"}]}, MESSAGE]},
        Choice(text="a", reasoning="r", finish_reason="stop"),
    ),
    "cut at the limit": (
        {"output": [MESSAGE], "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        Choice(text="a", finish_reason="length"),
    ),
    "filtered": (
        {"output": [MESSAGE], "status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
        Choice(text="a", finish_reason="content_filter"),
    ),
    "incomplete without a word": (
        {"output": [MESSAGE], "status": "incomplete"},
        Choice(text="a", finish_reason="length"),
    ),
    "no output": ({"output": None}, Choice(finish_reason="stop")),
}


@pytest.mark.parametrize(("wire", "choice"), RESPONSES.values(), ids=RESPONSES)
def test_a_responses_object_is_read(wire: dict[str, Any], choice: Choice) -> None:
    assert parse_response(wire) == ChatResult(choices=(choice,))


def test_a_response_that_failed_is_an_error() -> None:
    with pytest.raises(RelayError):
        parse_response({"output": [], "status": "failed"})


# ---------------------------------------------------------------- requests


def test_content_is_never_null_and_a_call_always_has_an_id() -> None:
    calls = (ToolCall(None, "f", "{}"), ToolCall("x", "g", "{}"))
    wire = dump_message(Message(role="assistant", tool_calls=calls))
    assert wire["content"] == ""
    assert [call["id"] for call in wire["tool_calls"]] == ["call_0", "x"]
    assert all(call["type"] == "function" for call in wire["tool_calls"])


def test_parts_keep_their_order_and_their_detail() -> None:
    image = ImagePart("https://example.org/a.png", "high")
    assert dump_message(Message(role="user", content=(image, TextPart("a"), ImagePart("data:,"))))["content"] == [
        {"type": "image_url", "image_url": {"url": image.url, "detail": "high"}},
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
    ]


def test_reasoning_is_replayed_beside_the_content() -> None:
    wire = dump_message(Message(role="assistant", content="a", reasoning="r"))
    assert wire == {"role": "assistant", "content": "a", "reasoning": "r"}


def test_a_tool_says_strict_only_where_its_caller_did() -> None:
    assert "strict" not in dump_tool(Tool(name="f", parameters={}))["function"]
    assert dump_tool(Tool(name="f", parameters={}, strict=False))["function"]["strict"] is False
    assert "strict" not in dump_tool(Tool(name="f", parameters={}, strict=True), with_strict=False)["function"]


def test_a_schema_without_a_name_gets_one() -> None:
    assert dump_response_format(JsonFormat(schema={}))["json_schema"] == {"name": "answer", "schema": {}}
