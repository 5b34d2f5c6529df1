"""The chat answers of OpenAI-compatible engines: streams at every cut, whole results, what is broken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import (
    ChatEvent,
    ChatResult,
    Choice,
    Delta,
    Finish,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from adapters.errors import Fault, RelayError, UpstreamTruncated
from adapters.profiles import PROFILES
from adapters.wire import sse
from adapters.wire.openai_engine import EngineStreamDecoder, parse_engine_result
from tests.support.cloudflare import frames
from tests.support.engine_wires import (
    PING,
    STREAMS,
    USAGE,
    WHOLES,
    chatglm,
    chatglm_stream,
    chatglm_whole,
    chunk,
    crlf,
    whole,
)
from tests.support.events import cuts_of, each_cut, merged, play

COUNTED = Usage(prompt_tokens=9, completion_tokens=2)
FUNCTIONS = ("get_weather", "get_time")
CALL_TEXT = "get_weather\n```python\ntool_call(city='Oslo', days=2)\n```"
CALL = Delta(tool_calls=(ToolCallDelta(0, None, "get_weather", '{"city":"Oslo","days":2}'),))

TAIL = {"choices": [], "usage": USAGE}
WRITTEN: dict[str, tuple[str, bytes, list[ChatEvent]]] = {
    "reasoning under its newer name": (
        "vllm",
        frames(chunk({"reasoning": "Hm."}), chunk({"content": "Yes"}), chunk({}, "stop"), TAIL, "[DONE]"),
        [Delta(reasoning="Hm."), Delta("Yes"), Finish("stop", COUNTED)],
    ),
    "reasoning under its older name": (
        "sglang",
        frames(chunk({"reasoning_content": "Hm."}), chunk({"content": "Yes"}), chunk({}, "stop"), "[DONE]"),
        [Delta(reasoning="Hm."), Delta("Yes"), Finish("stop", None)],
    ),
    "a thought in the text, without a parser for it": (
        "vllm",
        frames(*(chunk({"content": t}) for t in ("<thi", "nk>\nHm.", "</thi", "nk>\n\nYes")), chunk({}, "stop")),
        [Delta(reasoning="Hm."), Delta("Yes"), Finish("stop", None)],
    ),
    "a call in pieces": (
        "vllm",
        frames(
            chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f"}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
            chunk({}, "tool_calls"),
            TAIL,
            "[DONE]",
        ),
        [Delta(tool_calls=(ToolCallDelta(0, "c1", "f", '{"a":1}'),)), Finish("tool_calls", COUNTED)],
    ),
    "a call without arguments": (
        "ollama",
        frames(chunk({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f"}}]}, "tool_calls"), "[DONE]"),
        [Delta(tool_calls=(ToolCallDelta(0, "c1", "f", "{}"),)), Finish("tool_calls", None)],
    ),
    "usage on every chunk": (
        "vllm",
        frames(
            chunk({"content": "a"}, usage={"prompt_tokens": 9, "completion_tokens": 1}),
            chunk({}, "length", usage={"prompt_tokens": 9, "completion_tokens": 2}),
            "[DONE]",
        ),
        [Delta("a"), Finish("length", COUNTED)],
    ),
    "ended by the usage chunk alone": (
        "openai",
        frames(chunk({"content": "a"}), TAIL),
        [Delta("a"), Finish(None, COUNTED)],
    ),
    "padding and an early chunk without choices": (
        "openai",
        frames({"choices": []}, {}, chunk({"content": "a"}, "stop"), "[DONE]"),
        [Delta("a"), Finish("stop", None)],
    ),
    "broken JSON after the whole answer": (
        "openai",
        frames(chunk({"content": "a"}, "stop"), "{oops", "[DONE]"),
        [Delta("a"), Finish("stop", None)],
    ),
    "a lone surrogate": (
        "openai",
        b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\ndata: [DONE]\n\n',
        [Delta("a\ufffd"), Finish()],
    ),
    "no blank line at the very end": (
        "transformers-serve",
        frames(chunk({"content": "a"}, "stop", usage=USAGE)).rstrip(b"\n"),
        [Delta("a"), Finish("stop", COUNTED)],
    ),
    "log probabilities": (
        "llama-server",
        frames({"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [{"token": "a"}]}}]}, "[DONE]"),
        [Delta("a", logprobs=[{"token": "a"}]), Finish()],
    ),
    "log probabilities beside the beginning of what may be a thought": (
        "llama-server",
        frames({"choices": [{"delta": {"content": "<"}, "logprobs": {"content": [{"token": "<"}]}}]}, "[DONE]"),
        [Delta("<", logprobs=[{"token": "<"}]), Finish()],
    ),
    "a reason that says nothing": (
        "openai",
        frames(chunk({"content": "a"}, "other")),
        [Delta("a"), Finish(None, None)],
    ),
    "chatglm.cpp: a line break before the answer": (
        "chatglm.cpp",
        b"".join(chatglm_stream("\n", " ", "Hello")),
        [Delta("Hello"), Finish(None, None)],
    ),
    "chatglm.cpp: an empty answer": ("chatglm.cpp", b"".join(chatglm_stream("")), [Finish(None, None)]),
    "chatglm.cpp: a call as text": (
        "chatglm.cpp",
        b"".join(chatglm_stream("get", "_weather", "\n", "```python\ntool_call(city=", "'Oslo',", " days=2)\n``", "`")),
        [CALL, Finish(None, None)],
    ),
    "chatglm.cpp: words, then a call as text": (
        "chatglm.cpp",
        b"".join(chatglm_stream("\n Let me see.\n", " get_weather\n ```python\ntool_call(city='Oslo', days=2)\n```")),
        [Delta("Let me see.\n"), CALL, Finish(None, None)],
    ),
    "chatglm.cpp: a thought, then a call as text": (
        "chatglm.cpp",
        b"".join(chatglm_stream("<think>Hm.</think>\n", CALL_TEXT)),
        [Delta(reasoning="Hm."), CALL, Finish(None, None)],
    ),
}

EXAMPLES: dict[str, tuple[str, bytes, list[ChatEvent]]] = {
    **{
        f"{name} as it is": (
            name,
            b"".join(wire),
            [
                Delta("Hello there"),
                Finish(None if name == "chatglm.cpp" else "stop", None if name == "chatglm.cpp" else COUNTED),
            ],
        )
        for name, wire in STREAMS.items()
    },
    **WRITTEN,
}


def decoder_of(profile: str) -> EngineStreamDecoder:
    form = PROFILES[profile].form
    return EngineStreamDecoder(form, functions=FUNCTIONS if form.text_calls else ())


def decoded(profile: str, pieces: list[bytes]) -> list[ChatEvent]:
    decoder = decoder_of(profile)
    events = merged(play(decoder, pieces))
    assert decoder.done and decoder.complete
    assert decoder.feed(frames(chunk({"content": "late"}))) == [] == decoder.close()
    return events


@pytest.mark.parametrize(("profile", "wire", "events"), EXAMPLES.values(), ids=EXAMPLES)
def test_a_stream_means_the_same_wherever_it_is_cut(profile: str, wire: bytes, events: list[ChatEvent]) -> None:
    assert decoded(profile, [wire]) == events
    for pieces in each_cut(wire):
        assert decoded(profile, pieces) == events, pieces


@pytest.mark.parametrize("profile", STREAMS)
@given(data=st.data())
def test_a_stream_means_the_same_in_any_number_of_pieces(profile: str, data: st.DataObject) -> None:
    wire = b"".join(STREAMS[profile])
    assert decoded(profile, data.draw(cuts_of(wire)))[0] == Delta("Hello there")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("profile", STREAMS)
def test_a_stream_means_the_same_with_any_line_ends_and_comments(profile: str, end: bytes) -> None:
    frames_ = [frame.replace(b"\r\n", b"\n").replace(b"\n", end) for frame in STREAMS[profile]]
    wire = (b": ping" + end + end).join(frames_)
    assert decoded(profile, [wire])[0] == Delta("Hello there")


@pytest.mark.parametrize("profile", STREAMS)
def test_a_stream_that_is_cut_off_never_looks_finished(profile: str) -> None:
    """Ended after any byte: either the whole answer with its end, or an error."""
    wire = b"".join(STREAMS[profile])
    for length in range(len(wire)):
        try:
            events = play(decoder_of(profile), [wire[:length]])
        except RelayError:
            continue
        assert "".join(event.text for event in events if isinstance(event, Delta)) == "Hello there"
        assert isinstance(events[-1], Finish)


def test_a_call_as_text_stays_text_where_nothing_was_offered() -> None:
    decoder = EngineStreamDecoder(PROFILES["chatglm.cpp"].form)
    assert merged(play(decoder, chatglm_stream(CALL_TEXT))) == [Delta(CALL_TEXT), Finish(None, None)]


UNFINISHED = {
    "nothing at all": ("openai", b""),
    "only a comment": ("chatglm.cpp", PING),
    "text and no end": ("vllm", frames(chunk({"content": "a"}))),
    "chatglm.cpp: no finish chunk": ("chatglm.cpp", chatglm({"role": "assistant"}) + chatglm({"content": "Hel"})),
    "usage beside text": ("openai", frames(chunk({"content": "a"}, usage=USAGE))),
    "text after what looked like the end": ("openai", frames(TAIL, chunk({"content": "a"}))),
    "a usage that counts nothing": ("openai", frames(chunk({"content": "a"}), {"choices": [], "usage": {}})),
}


@pytest.mark.parametrize(("profile", "wire"), UNFINISHED.values(), ids=UNFINISHED)
def test_an_end_that_was_not_announced_is_an_error(profile: str, wire: bytes) -> None:
    decoder = decoder_of(profile)
    decoder.feed(wire)
    with pytest.raises(UpstreamTruncated):
        decoder.close()


BROKEN: dict[str, tuple[bytes, Fault]] = {
    "no JSON": (b"data: oops\n\n", Fault.UPSTREAM_ERROR),
    "no UTF-8": (b'data: {"choices":"\xff"}\n\n', Fault.UPSTREAM_ERROR),
    "choices that are none": (frames({"choices": [1]}), Fault.UPSTREAM_ERROR),
    "nested too deeply": (
        b'data: {"choices":[{"delta":{"content":' + b"[" * 50_000 + b"]" * 50_000 + b"}}]}\n\n",
        Fault.UPSTREAM_ERROR,
    ),
    "calls that are none": (frames(chunk({"tool_calls": "x"})), Fault.UPSTREAM_ERROR),
    "a frame without an end": (b"data: " + b"x" * (sse.MAX_FRAME + 1), Fault.UPSTREAM_ERROR),
    "the finish reason `error`": (frames(chunk({}, "error")), Fault.UPSTREAM_ERROR),
    "vLLM's error": (
        frames({"error": {"message": "boom", "type": "BadRequestError", "param": None, "code": 400}}),
        Fault.INVALID_VALUE,
    ),
    "llama-server's error": (
        frames({"error": {"code": 500, "message": "failed to decode", "type": "server_error"}}),
        Fault.UPSTREAM_ERROR,
    ),
    "Ollama's error": (frames({"error": {"message": "llama runner terminated"}}), Fault.UPSTREAM_ERROR),
    "an error as text": (frames({"error": "out of memory"}), Fault.UPSTREAM_ERROR),
    "an older engine's error": (frames({"object": "error", "message": "no", "code": 400}), Fault.INVALID_VALUE),
    "FastAPI's error": (frames({"detail": "no"}), Fault.UPSTREAM_ERROR),
    "an event of its own": (b'event: error\ndata: {"message": "boom", "code": 429}\n\n', Fault.RATE_LIMITED),
    "an error inside a chunk": (frames(chunk({"content": "b"}, error={"code": 429})), Fault.RATE_LIMITED),
    "a context that is full": (
        frames({"error": {"message": "the request exceeds the available context size", "code": 400, "n_ctx": 512}}),
        Fault.CONTEXT_LENGTH_EXCEEDED,
    ),
}


@pytest.mark.parametrize(("wire", "fault"), BROKEN.values(), ids=BROKEN)
def test_a_frame_that_is_an_error_or_cannot_be_read_fails_the_stream(wire: bytes, fault: Fault) -> None:
    decoder = decoder_of("openai")
    decoder.feed(frames(chunk({"content": "fine so far"})))
    with pytest.raises(RelayError) as caught:
        decoder.feed(wire)
        decoder.feed(b"")
    assert caught.value.fault is fault
    assert "fine so far" not in caught.value.message


def test_what_came_before_an_error_is_given_first() -> None:
    decoder = decoder_of("openai")
    assert decoder.feed(frames(chunk({"content": "a"}), {"error": "no"})) == [Delta("a")]
    assert decoder.failure is not None and not decoder.complete
    with pytest.raises(RelayError):
        decoder.feed(b"x")
    with pytest.raises(RelayError):
        decoder.close()


def test_an_error_in_the_last_frame_is_found_at_the_end() -> None:
    decoder = decoder_of("openai")
    decoder.feed(frames(chunk({"content": "a"})) + b'data: {"error":"no"}')
    with pytest.raises(RelayError):
        decoder.close()


def test_text_in_the_last_frame_comes_before_the_error_that_it_was_cut() -> None:
    decoder = decoder_of("openai")
    decoder.feed(frames(chunk({"content": "a"})).rstrip(b"\n"))
    assert decoder.close() == [Delta("a")]
    assert isinstance(decoder.failure, UpstreamTruncated)


def test_only_done_is_no_answer() -> None:
    with pytest.raises(RelayError, match="empty"):
        decoder_of("openai").feed(b"data: [DONE]\n\n")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_frame_does_worse_than_a_relay_error(payload: bytes) -> None:
    for profile in ("openai", "chatglm.cpp"):
        try:
            play(decoder_of(profile), [b"data: " + payload + b"\n\n"])
        except RelayError:
            pass


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
KEYS = (
    *("tool_calls", "usage", "finish_reason", "choices", "error", "reasoning", "delta", "content", "message", "object"),
    *("function", "arguments", "name", "index", "id", "logprobs", "code", "detail", "loc", "msg", "text", "n_ctx"),
)
ODD = st.recursive(
    SCALARS | st.sampled_from(["stop", "error", "<think>", CALL_TEXT, "get_weather\n", "```"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), ODD, max_size=4), max_size=4))
def test_no_odd_object_does_worse_than_a_relay_error(values: list[dict[str, Any]]) -> None:
    for profile in ("openai", "chatglm.cpp"):
        try:
            play(decoder_of(profile), [frames(*values, "[DONE]")])
        except RelayError:
            pass
        for value in values:
            try:
                parse_engine_result(json.dumps(value).encode(), PROFILES[profile].form, functions=FUNCTIONS, limit=9)
            except RelayError:
                pass


# ---------------------------------------------------------------- whole results


def result_of(profile: str, value: object, **options: Any) -> ChatResult:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_engine_result(body, PROFILES[profile].form, **options)


RESULTS: dict[str, tuple[str, bytes, ChatResult]] = {
    **{
        f"{name} as it is": (
            name,
            json.dumps(value).encode(),
            ChatResult(
                choices=(Choice(text="Hello there", finish_reason=None if name == "chatglm.cpp" else "stop"),),
                usage=COUNTED,
            ),
        )
        for name, value in WHOLES.items()
    },
}


@pytest.mark.parametrize(("profile", "body", "result"), RESULTS.values(), ids=RESULTS)
def test_a_whole_answer_is_read(profile: str, body: bytes, result: ChatResult) -> None:
    assert result_of(profile, body, functions=FUNCTIONS) == result


def glm_call(name: str, arguments: str, written: str | None = None) -> dict[str, Any]:
    """A call as chatglm.cpp gives it: without an id, and all but the name once more as the text."""
    call = {"function": {"arguments": arguments, "name": name}, "type": "function"}
    return chatglm_whole(f"```python\n{written or arguments}\n```", "function_call", [call])


CHOICES: dict[str, tuple[str, dict[str, Any], Choice]] = {
    "a thought in the text": (
        "openai",
        whole("<think>\nHm.\n</think>\n\nYes"),
        Choice(text="Yes", reasoning="Hm.\n", finish_reason="stop"),
    ),
    "a thought beside the text": (
        "vllm",
        whole("Yes", reasoning="Hm."),
        Choice(text="Yes", reasoning="Hm.", finish_reason="stop"),
    ),
    "a call with its arguments as an object": (
        "ollama",
        whole(None, "tool_calls", tool_calls=[{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}]),
        Choice(tool_calls=(ToolCall("c", "f", '{"a":1}'),), finish_reason="tool_calls"),
    ),
    "chatglm.cpp: a call, whose finish reason is of the older kind": (
        "chatglm.cpp",
        glm_call("get_weather", '{"city": "Oslo"}'),
        Choice(tool_calls=(ToolCall(None, "get_weather", '{"city": "Oslo"}'),), finish_reason="tool_calls"),
    ),
    "chatglm.cpp: arguments that it left as it found them": (
        "chatglm.cpp",
        glm_call("get_weather", "tool_call(city='Oslo', days=2)"),
        Choice(tool_calls=(ToolCall(None, "get_weather", '{"city":"Oslo","days":2}'),), finish_reason="tool_calls"),
    ),
    "chatglm.cpp: arguments that nobody can read": (
        "chatglm.cpp",
        glm_call("get_weather", "Oslo please"),
        Choice(tool_calls=(ToolCall(None, "get_weather", "Oslo please"),), finish_reason="tool_calls"),
    ),
    "chatglm.cpp: arguments on several lines, which it does not read": (
        "chatglm.cpp",
        glm_call("get_weather", "PARSE_ERROR", "tool_call(\n    city='Oslo',\n)"),
        Choice(tool_calls=(ToolCall(None, "get_weather", '{"city":"Oslo"}'),), finish_reason="tool_calls"),
    ),
    "chatglm.cpp: words before the call, which it takes for the name": (
        "chatglm.cpp",
        chatglm_whole(
            CALL_TEXT,
            "function_call",
            [{"function": {"arguments": '{"city": "Oslo", "days": 2}', "name": "Wait."}, "type": "function"}],
        ),
        Choice(
            text="Wait.\n",
            tool_calls=(ToolCall(None, "get_weather", '{"city":"Oslo","days":2}'),),
            finish_reason="tool_calls",
        ),
    ),
    "chatglm.cpp: a call as text": (
        "chatglm.cpp",
        chatglm_whole(f"Wait.\n{CALL_TEXT}"),
        Choice(text="Wait.\n", tool_calls=(ToolCall(None, "get_weather", '{"city":"Oslo","days":2}'),)),
    ),
    "chatglm.cpp: the limit was hit, though it says `stop`": (
        "chatglm.cpp",
        chatglm_whole("Hello", prompt_tokens=30, completion_tokens=20),
        Choice(text="Hello", finish_reason="length"),
    ),
    "chatglm.cpp: one token less than the limit": (
        "chatglm.cpp",
        chatglm_whole("Hello", prompt_tokens=30, completion_tokens=19),
        Choice(text="Hello"),
    ),
    "another engine's limit is that of the answer": (
        "openai",
        whole("Hello", usage={"prompt_tokens": 49, "completion_tokens": 20}),
        Choice(text="Hello", finish_reason="stop"),
    ),
}


@pytest.mark.parametrize(("profile", "value", "choice"), CHOICES.values(), ids=CHOICES)
def test_what_an_answer_gets_wrong_is_mended(profile: str, value: dict[str, Any], choice: Choice) -> None:
    assert result_of(profile, value, functions=FUNCTIONS, limit=50).choices == (choice,)


@pytest.mark.parametrize("name", ["PARSE_ERROR", "get_weather"])
def test_a_call_that_nobody_can_read_is_an_error(name: str) -> None:
    with pytest.raises(RelayError) as caught:
        result_of("chatglm.cpp", glm_call(name, "PARSE_ERROR", "tool_call(who knows)"), functions=FUNCTIONS)
    assert caught.value.fault is Fault.UPSTREAM_ERROR


FAILED: dict[str, tuple[object, Fault]] = {
    "no JSON": (b"<html>", Fault.UPSTREAM_ERROR),
    "a list": ([], Fault.UPSTREAM_ERROR),
    "an empty object": ({}, Fault.UPSTREAM_ERROR),
    "no choice": ({"choices": []}, Fault.UPSTREAM_ERROR),
    "an error with the status of a success": ({"error": {"message": "no", "code": 429}}, Fault.RATE_LIMITED),
    "an older error with the status of a success": ({"object": "error", "message": "no"}, Fault.UPSTREAM_ERROR),
}


@pytest.mark.parametrize(("value", "fault"), FAILED.values(), ids=FAILED)
def test_what_is_no_answer_is_an_error(value: object, fault: Fault) -> None:
    with pytest.raises(RelayError) as caught:
        result_of("openai", value)
    assert caught.value.fault is fault


def test_pings_between_frames_count_as_nothing() -> None:
    decoder = decoder_of("chatglm.cpp")
    decoder.feed(PING + crlf({"choices": [{"delta": {"content": "a"}}]}) + PING)
    assert decoder.frames == 1
