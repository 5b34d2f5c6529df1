"""Native streams: their frames, and that our own decoder reads back what was written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import ChatEvent, Delta, Finish, ToolCallDelta, Usage
from adapters.errors import Fault, RelayError
from adapters.wire.json_text import encode
from adapters.wire.native.chat_stream import ChatChunkStreamEncoder, ResponseStreamEncoder
from adapters.wire.openai_stream import MAX_LINE
from adapters.wire.workers_ai import ChatStreamDecoder
from tests.support.events import merged, play
from tests.support.openai_answers import COUNTED, STAMP
from tests.support.streams import payloads

Encoder = ResponseStreamEncoder | ChatChunkStreamEncoder
ENCODERS: list[type[Encoder]] = [ResponseStreamEncoder, ChatChunkStreamEncoder]
both = pytest.mark.parametrize("kind", ENCODERS, ids=lambda kind: kind.__name__)

USAGE = Usage(prompt_tokens=9, completion_tokens=2)
COUNTS = {
    "prompt_tokens": 9,
    "completion_tokens": 2,
    "total_tokens": 11,
    "prompt_tokens_details": {"cached_tokens": 0},
}
NOTHING = {
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "total_tokens": 0,
    "prompt_tokens_details": {"cached_tokens": 0},
}
CALL = ToolCallDelta(0, "call_1", "get_weather")


def stream(kind: Callable[..., Encoder], batches: Sequence[Sequence[ChatEvent]], padding: int = 0) -> bytes:
    encoder = kind(STAMP, padding=padding)
    return encoder.start() + b"".join(encoder.encode(batch) for batch in batches)


def frames(wire: bytes) -> list[dict[str, Any]]:
    """The frames of a whole stream without their padding, which has to be where it belongs."""
    *datas, last = payloads(wire)
    assert last == "[DONE]"
    decoded = [json.loads(data) for data in datas]
    for frame in decoded:
        if "id" in frame or isinstance(frame.get("p"), str):
            assert 2 <= len(frame.pop("p")) < 66
    return decoded


def read(wire: bytes) -> list[ChatEvent]:
    return merged(play(ChatStreamDecoder(), [wire]))


# ---------------------------------------------------------------- the response shape

RESPONSES: dict[str, tuple[list[ChatEvent], list[dict[str, Any]]]] = {
    "text": (
        [Delta("Hel"), Delta("lo"), Finish("stop", USAGE)],
        [
            {"response": "Hel"},
            {"response": "lo"},
            {"response": "", "finish_reason": "stop"},
            {"response": "", "usage": COUNTS},
        ],
    ),
    "tokens that look like JSON": (
        [Delta("3"), Delta(" true"), Delta("null"), Finish("length", USAGE)],
        [
            {"response": "3"},
            {"response": " true"},
            {"response": "null"},
            {"response": "", "finish_reason": "length"},
            {"response": "", "usage": COUNTS},
        ],
    ),
    "no usage and no reason": ([Delta("Hi"), Finish()], [{"response": "Hi"}]),
    "a call": (
        [
            Delta(tool_calls=(CALL,)),
            Delta(tool_calls=(ToolCallDelta(0, arguments='{"city":'),)),
            Delta(tool_calls=(ToolCallDelta(0, arguments='"Oslo"}'),)),
            Finish("tool_calls", USAGE),
        ],
        [
            {
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "index": 0,
                        "function": {"name": "get_weather", "arguments": ""},
                    }
                ]
            },
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]},
            {"tool_calls": [{"id": None, "type": None, "index": 0, "function": {"name": None, "arguments": ""}}]},
            {"response": "", "finish_reason": "tool_calls"},
            {"response": "", "usage": COUNTS},
        ],
    ),
    "a thought": (
        [Delta(reasoning="Two "), Delta(reasoning="and two."), Delta("Four"), Delta("."), Finish("stop", USAGE)],
        [
            {"response": "<think>\nTwo "},
            {"response": "and two."},
            {"response": "</think>\n\n"},
            {"response": "Four"},
            {"response": "."},
            {"response": "", "finish_reason": "stop"},
            {"response": "", "usage": COUNTS},
        ],
    ),
    "a thought and its answer at once": (
        [Delta("Four.", "Two and two."), Finish("stop", USAGE)],
        [
            {"response": "<think>\nTwo and two."},
            {"response": "</think>\n\n"},
            {"response": "Four."},
            {"response": "", "finish_reason": "stop"},
            {"response": "", "usage": COUNTS},
        ],
    ),
    "nothing but a thought": (
        [Delta(reasoning="Hm"), Finish("length", USAGE)],
        [
            {"response": "<think>\nHm"},
            {"response": "</think>\n\n"},
            {"response": "", "finish_reason": "length"},
            {"response": "", "usage": COUNTS},
        ],
    ),
    "a thought after the answer has begun": (
        [Delta("Four"), Delta(reasoning="or five"), Delta("."), Finish("stop", USAGE)],
        [
            {"response": "Four"},
            {"response": "", "reasoning_content": "or five"},
            {"response": "."},
            {"response": "", "finish_reason": "stop"},
            {"response": "", "usage": COUNTS},
        ],
    ),
    "nothing": (
        [Delta(), Finish("stop", USAGE)],
        [{"response": "", "finish_reason": "stop"}, {"response": "", "usage": COUNTS}],
    ),
}


@pytest.mark.parametrize(("events", "expected"), RESPONSES.values(), ids=RESPONSES)
def test_response_frames(events: list[ChatEvent], expected: list[dict[str, Any]]) -> None:
    wire = stream(ResponseStreamEncoder, [[event] for event in events])
    assert frames(wire) == expected
    assert read(wire) == merged(events)


def test_a_thought_ends_before_a_call() -> None:
    events = [Delta(reasoning="Hm."), Delta(tool_calls=(ToolCallDelta(0, "c", "f", "{}"),)), Delta(reasoning="So.")]
    wire = stream(ResponseStreamEncoder, [[*events, Finish("tool_calls", USAGE)]])
    assert [frame.get("response", "call") for frame in frames(wire)][:3] == ["<think>\nHm.", "</think>\n\n", "call"]
    assert read(wire) == [*events, Finish("tool_calls", USAGE)]


def test_the_response_shape_begins_with_the_first_token() -> None:
    assert ResponseStreamEncoder(STAMP).start() == b""


# ---------------------------------------------------------------- the chunk shape


def chunk(delta: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> dict[str, Any]:
    return {
        "id": STAMP.id,
        "object": "chat.completion.chunk",
        "created": STAMP.created,
        "model": STAMP.model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": logprobs}],
        "usage": NOTHING,
    }


ROLE = chunk({"role": "assistant", "content": "", "reasoning_content": None})
LAST = {**chunk({}), "choices": [], "usage": COUNTS}
TAIL = {"response": "", "usage": COUNTS}
LOGPROBS = [{"token": "Hi", "logprob": -0.5}]

CHUNKS: dict[str, tuple[list[ChatEvent], list[dict[str, Any]]]] = {
    "text": (
        [Delta("Hel"), Delta("lo"), Finish("stop", USAGE)],
        [
            ROLE,
            chunk({"content": "Hel", "reasoning_content": None}),
            chunk({"content": "lo", "reasoning_content": None}),
            chunk({}, "stop"),
            LAST,
            TAIL,
        ],
    ),
    "reasoning and text": (
        [Delta("Hi", "Hm"), Finish("length", USAGE)],
        [ROLE, chunk({"content": "Hi", "reasoning_content": "Hm"}), chunk({}, "length"), LAST, TAIL],
    ),
    "a call": (
        [
            Delta(tool_calls=(CALL,)),
            Delta(tool_calls=(ToolCallDelta(0, arguments="{}"),)),
            Finish("tool_calls", USAGE),
        ],
        [
            ROLE,
            chunk(
                {
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "index": 0,
                            "function": {"name": "get_weather", "arguments": ""},
                        }
                    ]
                }
            ),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
            chunk({}, "tool_calls"),
            LAST,
            TAIL,
        ],
    ),
    "logprobs": (
        [Delta("Hi", logprobs=LOGPROBS), Finish("stop", USAGE)],
        [ROLE, chunk({"content": "Hi"}, logprobs={"content": LOGPROBS}), chunk({}, "stop"), LAST, TAIL],
    ),
}


@pytest.mark.parametrize(("events", "expected"), CHUNKS.values(), ids=CHUNKS)
def test_chunks(events: list[ChatEvent], expected: list[dict[str, Any]]) -> None:
    wire = stream(ChatChunkStreamEncoder, [[event] for event in events])
    assert frames(wire) == expected
    assert read(wire) == merged(events)


def test_without_usage_there_is_no_tail() -> None:
    wire = stream(ChatChunkStreamEncoder, [[Delta("Hi"), Finish("stop")]])
    assert frames(wire)[2:] == [chunk({}, "stop")]


def test_the_chunks_usage_adds_up_to_the_tails() -> None:
    *parts, tail = frames(stream(ChatChunkStreamEncoder, [[Delta("a"), Delta("b"), Finish("stop", USAGE)]]))
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert sum(part["usage"][name] for part in parts) == tail["usage"][name]


# ---------------------------------------------------------------- both


@both
def test_batches_are_the_same_as_single_events(kind: type[Encoder]) -> None:
    events: list[ChatEvent] = [Delta(reasoning="a"), Delta("b"), Delta("c"), Finish("stop", USAGE)]
    assert stream(kind, [events]) == stream(kind, [[event] for event in events])


@both
def test_padding_varies_and_depends_on_nothing_but_its_argument(kind: type[Encoder]) -> None:
    events: list[ChatEvent] = [Delta("a")] * 64
    wires = [stream(kind, [[*events, Finish("stop")]], padding) for padding in (0, 0, 1, 2**40)]
    assert wires[0] == wires[1] != wires[2]
    lengths = [len(json.loads(data)["p"]) for data in payloads(wires[3])[:64]]
    assert sorted(lengths) == list(range(2, 66))


@both
def test_a_call_without_an_id_gets_one_and_keeps_it(kind: type[Encoder]) -> None:
    events: list[ChatEvent] = [
        Delta(tool_calls=(ToolCallDelta(0, None, "f", "{}"), ToolCallDelta(1, None, "g", "{}"))),
        Finish(),
    ]
    for _ in range(2):
        calls = [
            call for event in read(stream(kind, [events])) if isinstance(event, Delta) for call in event.tool_calls
        ]
        assert [call.id for call in calls] == [STAMP.call_id(0), STAMP.call_id(1)]


@both
def test_what_is_too_long_for_a_line_is_split(kind: type[Encoder]) -> None:
    long = "\x00é" * 40_000
    events: list[ChatEvent] = [
        Delta(reasoning=long),
        Delta(long),
        Delta(tool_calls=(ToolCallDelta(0, "c", "f", encode({"a": long}).decode()),)),
        Finish("stop", USAGE),
    ]
    wire = stream(kind, [events])
    assert max(map(len, wire.split(b"\n"))) < MAX_LINE + 1024
    assert read(wire) == events


@both
def test_the_frames_between(kind: type[Encoder]) -> None:
    encoder = kind(STAMP)
    assert encoder.media_type == b"text/event-stream"
    assert encoder.keep_alive() == b": keep-alive\n\n"
    assert encoder.encode([]) == b""


def problem(code: str | None, type_: str = "server_error") -> bytes:
    return encode({"error": {"message": "It failed.", "type": type_, "param": None, "code": code}})


ERRORS: list[tuple[bytes, int, Fault]] = [
    (problem("rate_limit_exceeded", "rate_limit_error"), 3040, Fault.RATE_LIMITED),
    (problem("insufficient_quota", "insufficient_quota"), 3036, Fault.QUOTA_EXHAUSTED),
    (problem("upstream_timeout"), 3046, Fault.UPSTREAM_TIMEOUT),
    (problem("context_length_exceeded", "invalid_request_error"), 5021, Fault.CONTEXT_LENGTH_EXCEEDED),
    (problem("invalid_value", "invalid_request_error"), 5006, Fault.INVALID_VALUE),
    (problem(None, "invalid_request_error"), 5006, Fault.INVALID_VALUE),
    (problem("upstream_error"), 3043, Fault.UPSTREAM_ERROR),
    (problem(None), 3043, Fault.UPSTREAM_ERROR),
]


@both
@pytest.mark.parametrize(("body", "code", "fault"), ERRORS)
def test_a_failure_is_the_last_frame(kind: type[Encoder], body: bytes, code: int, fault: Fault) -> None:
    encoder = kind(STAMP)
    begun = encoder.start() + encoder.encode([Delta("Hi")])
    wire = begun + encoder.error(body)
    assert json.loads(payloads(wire)[-1]) == {
        "errors": [{"code": code, "message": "AiError: It failed."}],
        "success": False,
        "result": {},
        "messages": [],
    }
    decoder = ChatStreamDecoder()
    assert merged(decoder.feed(wire)) == [Delta("Hi")]
    with pytest.raises(RelayError) as caught:
        decoder.close()
    assert caught.value.fault is fault


@both
def test_an_envelope_of_cloudflares_goes_out_as_it_is(kind: type[Encoder]) -> None:
    body = encode({"errors": [{"code": 3021, "message": "Slow down"}], "name": "InferenceUpstreamError"})
    (frame,) = map(json.loads, payloads(kind(STAMP).error(body)))
    assert frame == {
        "errors": [{"code": 3021, "message": "Slow down"}],
        "name": "InferenceUpstreamError",
        "success": False,
        "result": {},
        "messages": [],
    }


# A thought's outer line breaks, and a tag that the model wrote itself, mean nothing in the response shape.
PLAIN = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="<\n"), min_size=1)
REASON = st.none() | st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
CALLS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), min_size=1, max_size=3)


@st.composite
def answers(draw: st.DrawFn, text: st.SearchStrategy[str]) -> list[ChatEvent]:
    events: list[ChatEvent] = [Delta(reasoning=part) for part in draw(st.lists(text, max_size=3))]
    events += [Delta(part) for part in draw(st.lists(text, max_size=4))]
    for index, arguments in enumerate(draw(st.lists(CALLS, max_size=3))):
        whole = encode(arguments).decode()
        at = draw(st.integers(1, len(whole)))
        events.append(Delta(tool_calls=(ToolCallDelta(index, f"call_{index}", "f", whole[:at]),)))
        events.append(Delta(tool_calls=(ToolCallDelta(index, arguments=whole[at:]),)))
    return [*events, Finish(draw(REASON), draw(COUNTED))]  # type: ignore[arg-type]  # one of the reasons


@given(answers(PLAIN), st.integers(0, 100))
def test_what_a_response_stream_says_is_read_back(events: list[ChatEvent], padding: int) -> None:
    assert read(stream(ResponseStreamEncoder, [events], padding)) == merged(events)


@given(answers(st.text(min_size=1)), st.integers(0, 100))
def test_what_a_chunk_stream_says_is_read_back(events: list[ChatEvent], padding: int) -> None:
    assert read(stream(ChatChunkStreamEncoder, [events], padding)) == merged(events)
