"""Events to OpenAI's chunks."""

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
    ToolCall,
    ToolCallDelta,
    Usage,
)
from adapters.wire.openai_answer import dump_usage
from adapters.wire.openai_stream import MAX_LINE, ChatStreamEncoder
from adapters.wire.workers_ai import ChatStreamDecoder
from tests.support.events import merged, play
from tests.support.openai_answers import COUNTED, LEGACY, REQUEST, STAMP, USAGE

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
