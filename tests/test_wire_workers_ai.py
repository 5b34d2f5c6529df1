"""Workers AI's native text generation: request bodies, results in every shape, streams in every shape."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import (
    Change,
    ChatEvent,
    ChatRequest,
    ChatResult,
    Choice,
    Delta,
    Finish,
    ImagePart,
    JsonFormat,
    Message,
    NamedTool,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from adapters.errors import Fault, RelayError, UpstreamTruncated
from adapters.wire import sse
from adapters.wire.workers_ai import (
    ChatStreamDecoder,
    EmptyResult,
    dump_chat_request,
    parse_chat_result,
)
from tests import transcripts
from tests.support.cloudflare import frames
from tests.support.events import cuts_of, each_cut, merged, play

# ---------------------------------------------------------------- streams

RECORDED: dict[str, list[ChatEvent]] = {
    "classic.sse": [Delta("Hello"), Finish(None, Usage(prompt_tokens=9, completion_tokens=2))],
    "classic-literals.sse": [
        Delta("z is 3.5; y is null; flag is true."),
        Finish(None, Usage(prompt_tokens=21, completion_tokens=15)),
    ],
    "classic-tool-call.sse": [
        Delta(tool_calls=(ToolCallDelta(0, "call_1", "get_weather", '{"city":"Oslo"}'),)),
        Finish("tool_calls", None),
    ],
    "classic-flat-tool-calls.sse": [
        Delta(tool_calls=(ToolCallDelta(0, None, "get_weather", '{"city":"Oslo"}'),)),
        Delta(tool_calls=(ToolCallDelta(1, None, "get_time", '{"zone":"CET","offset":"1"}'),)),
        Finish(None, Usage(prompt_tokens=180, completion_tokens=31)),
    ],
    "classic-finish-reason.sse": [Delta("Hello world"), Finish("stop", None)],
    "openai-incremental-usage.sse": [
        Delta("Hi"),
        Finish("stop", Usage(prompt_tokens=147, completion_tokens=16, neurons=1.7727)),
    ],
    "openai-cumulative-usage.sse": [
        Delta(reasoning="Greet."),
        Delta("Hello"),
        Finish("stop", Usage(prompt_tokens=14, completion_tokens=4)),
    ],
    "openai-plain.sse": [Delta("Hello"), Finish("stop", Usage(prompt_tokens=3, completion_tokens=2))],
    "openai-reasoning-then-tool-call.sse": [
        Delta(reasoning="I need the weather."),
        Delta("Let me look."),
        Delta(tool_calls=(ToolCallDelta(0, "functions.get_weather:0", "get_weather", '{"city": "New York"}'),)),
        Finish("tool_calls", None),
    ],
}

USAGE = {"prompt_tokens": 1, "completion_tokens": 2}
COUNTED = Usage(prompt_tokens=1, completion_tokens=2)
TAIL = {"response": "", "usage": USAGE}


def chunk(delta: Any = None, reason: Any = None, **more: Any) -> dict[str, Any]:
    """One of OpenAI's chunks."""
    return {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": reason}], **more}


WRITTEN: dict[str, tuple[bytes, list[ChatEvent]]] = {
    "a separator inside a string": (
        frames({"response": "a\u2028b\u2029c\u0085d"}, TAIL, "[DONE]"),
        [Delta("a\u2028b\u2029c\u0085d"), Finish(None, COUNTED)],
    ),
    "text beyond the basic plane": (
        frames({"response": "né 你好 🎉"}, TAIL, "[DONE]"),
        [Delta("né 你好 🎉"), Finish(None, COUNTED)],
    ),
    "a lone surrogate": (
        b'data: {"response":"a\\ud83d"}\n\ndata: {"response":"b"}\n\ndata: [DONE]\n\n',
        [Delta("a\ufffdb"), Finish()],
    ),
    "a surrogate pair": (b'data: {"response":"\\ud83c\\udf89"}\n\ndata: [DONE]\n\n', [Delta("🎉"), Finish()]),
    "carriage returns": (
        frames({"response": "a"}, TAIL, "[DONE]").replace(b"\n", b"\r\n"),
        [Delta("a"), Finish(None, COUNTED)],
    ),
    "no space after `data:`": (
        frames({"response": "a"}, TAIL, "[DONE]").replace(b"data: ", b"data:"),
        [Delta("a"), Finish(None, COUNTED)],
    ),
    "`[DONE]` with a trailing space": (frames({"response": "a"}, "[DONE] "), [Delta("a"), Finish()]),
    "`[DONE]` without a blank line": (
        frames({"response": "a"}) + b"data: [DONE]",
        [Delta("a"), Finish()],
    ),
    "frames after `[DONE]`": (frames({"response": "a"}, "[DONE]", {"response": "b"}), [Delta("a"), Finish()]),
    "ended by the usage tail alone": (frames({"response": "a"}, TAIL), [Delta("a"), Finish(None, COUNTED)]),
    "ended by a finish reason alone": (
        frames({"response": "a", "finish_reason": "length"}),
        [Delta("a"), Finish("length", None)],
    ),
    "of several finish reasons the last": (
        frames({"response": "a", "finish_reason": "length"}, {"finish_reason": "stop"}, "[DONE]"),
        [Delta("a"), Finish("stop", None)],
    ),
    "a reason that says nothing": (
        frames({"response": "a", "finish_reason": "other"}),
        [Delta("a"), Finish(None, None)],
    ),
    "explicit zeros": (
        frames({"response": "a"}, {"response": "", "usage": {"prompt_tokens": 0, "completion_tokens": 0}}, "[DONE]"),
        [Delta("a"), Finish(None, Usage())],
    ),
    "ended by a usage tail that cannot be read": (
        frames({"response": "a"}, {"response": "", "usage": {"prompt_tokens": 9, "completion_tokens": -2}}),
        [Delta("a"), Finish(None, None)],
    ),
    "an answer that is empty, but counted": (frames(TAIL, "[DONE]"), [Finish(None, COUNTED)]),
    "a thought in the text": (
        frames(
            *({"response": text} for text in ("<th", "ink>\n", "Hm", ".</", "think>", "\n\n", "Yes")), TAIL, "[DONE]"
        ),
        [Delta(reasoning="Hm."), Delta("Yes"), Finish(None, COUNTED)],
    ),
    "a thought beside the text": (
        frames({"reasoning_content": "Hm."}, {"response": None, "reasoning": "So"}, {"response": "Yes"}, "[DONE]"),
        [Delta(reasoning="Hm.So"), Delta("Yes"), Finish()],
    ),
    "chunks without a delta": (
        frames({"choices": [{"text": "a"}]}, {"choices": [{"delta": None, "finish_reason": "stop"}]}, "[DONE]"),
        [Delta("a"), Finish("stop", None)],
    ),
    "chunks without choices": (
        frames({"choices": []}, chunk({"content": "a"}, "stop"), "[DONE]"),
        [Delta("a"), Finish("stop", None)],
    ),
    "log probabilities": (
        frames({"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [{"token": "a"}]}}]}, "[DONE]"),
        [Delta("a", logprobs=[{"token": "a"}]), Finish()],
    ),
    "a vendor's own error key that is null": (
        frames(chunk({"content": "a"}, "stop", error=None), "[DONE]"),
        [Delta("a"), Finish("stop", None)],
    ),
}

STREAMS = {name: (transcripts.read(name), events) for name, events in RECORDED.items()} | WRITTEN


def decoded(pieces: list[bytes]) -> list[ChatEvent]:
    decoder = ChatStreamDecoder()
    events = merged(play(decoder, pieces))
    assert decoder.done and decoder.complete
    assert decoder.feed(b'data: {"response":"late"}\n\n') == [] == decoder.close()
    return events


def test_every_recorded_stream_is_decoded_here() -> None:
    assert {path.name for path in transcripts.FOLDER.glob("*.sse")} == set(RECORDED)


def test_every_recording_has_a_source() -> None:
    files = {path.name for path in transcripts.FOLDER.iterdir() if path.suffix in {".sse", ".json"}}
    told = {line.split("|")[1].strip() for line in transcripts.read("README.md").decode().splitlines() if "|" in line}
    assert files == told - {"file", "---"}


@pytest.mark.parametrize(("wire", "events"), STREAMS.values(), ids=STREAMS)
def test_a_stream_means_the_same_wherever_it_is_cut(wire: bytes, events: list[ChatEvent]) -> None:
    assert decoded([wire]) == events
    for pieces in each_cut(wire):
        assert decoded(pieces) == events, pieces


@pytest.mark.parametrize("name", RECORDED)
@given(data=st.data())
def test_a_recorded_stream_means_the_same_in_any_number_of_pieces(name: str, data: st.DataObject) -> None:
    wire = transcripts.read(name)
    assert decoded(data.draw(cuts_of(wire))) == RECORDED[name]


@pytest.mark.parametrize("end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_stream_means_the_same_with_other_line_ends(name: str, end: bytes) -> None:
    wire = transcripts.read(name).replace(b"\n", end)
    for pieces in each_cut(wire):
        assert decoded(pieces) == RECORDED[name]


@pytest.mark.parametrize("name", RECORDED)
def test_a_stream_that_is_cut_off_never_looks_finished(name: str) -> None:
    """Ended after any byte: either the whole answer with its end, or an error."""
    wire = transcripts.read(name)
    text = "".join(event.text for event in RECORDED[name] if isinstance(event, Delta))
    for length in range(len(wire)):
        decoder = ChatStreamDecoder()
        try:
            events = play(decoder, [wire[:length]])
        except RelayError:
            continue
        assert "".join(event.text for event in events if isinstance(event, Delta)) == text
        assert isinstance(events[-1], Finish)


UNFINISHED = {
    "nothing at all": b"",
    "only a comment": b": hello\n\n",
    "no `[DONE]`": frames({"response": "a"}),
    "no `[DONE]` after chunks": frames(chunk({"content": "a"})),
    "chunks with usage but without an end": frames(chunk({"content": "a"}, usage=USAGE)),
    "usage beside text": frames({"response": "a", "usage": USAGE}),
    "usage beside a piece of a call": frames(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"a":'}}], "usage": USAGE}
    ),
    "usage beside a thought": frames({"reasoning_content": "Hm", "response": "", "usage": USAGE}),
    "a usage that counts nothing": frames({"response": "a"}, {"response": "", "usage": {}}),
    "an empty list of calls": frames({"response": "a"}, {"tool_calls": []}),
}


@pytest.mark.parametrize("wire", UNFINISHED.values(), ids=UNFINISHED)
def test_an_end_that_was_not_announced_is_an_error(wire: bytes) -> None:
    decoder = ChatStreamDecoder()
    decoder.feed(wire)
    with pytest.raises(UpstreamTruncated):
        decoder.close()


BROKEN: dict[str, tuple[bytes, Fault]] = {
    "no JSON": (b"data: oops\n\n", Fault.UPSTREAM_ERROR),
    "half a frame": (b'data: {"response":"a\n\n', Fault.UPSTREAM_ERROR),
    "a bare number": (frames(5), Fault.UPSTREAM_ERROR),
    "a bare string": (b'data: "a"\n\n', Fault.UPSTREAM_ERROR),
    "no UTF-8": (b'data: {"response":"a\xff"}\n\n', Fault.UPSTREAM_ERROR),
    "a raw surrogate": (b'data: {"response":"\xed\xa0\x80"}\n\n', Fault.UPSTREAM_ERROR),
    "no UTF-8 inside a value": (b'data: {"response":["\xff"]}\n\n', Fault.UPSTREAM_ERROR),
    "nested too deeply": (b'data: {"response":' + b"[" * 50_000 + b"]" * 50_000 + b"}\n\n", Fault.UPSTREAM_ERROR),
    "a number too large": (b'data: {"usage":{"prompt_tokens":1e999}}\n\n', Fault.UPSTREAM_ERROR),
    "choices that are none": (frames({"choices": [1]}), Fault.UPSTREAM_ERROR),
    "calls that are none": (frames({"tool_calls": "x"}), Fault.UPSTREAM_ERROR),
    "a frame without an end": (b"data: " + b"x" * (sse.MAX_FRAME + 1), Fault.UPSTREAM_ERROR),
    "an error object": (frames({"error": {"message": "no", "code": 3040}}), Fault.RATE_LIMITED),
    "an error as text": (frames({"error": "3040: Capacity temporarily exceeded"}), Fault.RATE_LIMITED),
    "an error list": (frames({"errors": [{"code": 3036}]}), Fault.QUOTA_EXHAUSTED),
    "an envelope that failed": (frames({"success": False, "result": {}}), Fault.UPSTREAM_ERROR),
    "an error beside an empty choice list": (frames({"error": {"code": "3040"}, "choices": []}), Fault.RATE_LIMITED),
    "an error inside a chunk": (frames(chunk({"content": "a"}, error={"code": 3040})), Fault.RATE_LIMITED),
    "an engine's own form": (frames({"object": "error", "message": "OOM", "code": 500}), Fault.UPSTREAM_ERROR),
    "an event of its own": (b'event: error\ndata: {"message": "boom", "code": 3040}\n\n', Fault.RATE_LIMITED),
    "the binding's form": (frames({"internalCode": 3040, "description": "Capacity"}), Fault.RATE_LIMITED),
    "the finish reason `error`": (frames({"response": "a", "finish_reason": "error"}), Fault.UPSTREAM_ERROR),
    "the finish reason `error` in a chunk": (frames(chunk({}, "error")), Fault.UPSTREAM_ERROR),
    "a context that is full": (
        frames({"errors": [{"code": 5021, "message": "too long"}]}),
        Fault.CONTEXT_LENGTH_EXCEEDED,
    ),
}


@pytest.mark.parametrize(("wire", "fault"), BROKEN.values(), ids=BROKEN)
def test_a_frame_that_is_an_error_or_cannot_be_read_fails_the_stream(wire: bytes, fault: Fault) -> None:
    decoder = ChatStreamDecoder(context_window=8192)
    decoder.feed(frames({"response": "fine so far"}))
    with pytest.raises(RelayError) as caught:
        decoder.feed(wire)
        decoder.feed(b"")  # what came before the error in the same frame went first
    assert caught.value.fault is fault
    assert "fine so far" not in caught.value.message
    if fault is Fault.CONTEXT_LENGTH_EXCEEDED:
        assert "8192" in caught.value.message


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_frame_does_worse_than_a_relay_error(payload: bytes) -> None:
    decoder = ChatStreamDecoder()
    try:
        play(decoder, [b"data: " + payload + b"\n\n"])
    except RelayError:
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    *("response", "tool_calls", "usage", "finish_reason", "choices", "error", "errors", "success", "reasoning"),
    *("delta", "content", "function", "arguments", "name", "index", "id", "logprobs", "message", "code", "output"),
)
ODD = st.recursive(
    JSON | st.sampled_from(["stop", "error", "<think>", '"', "3040"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), ODD, max_size=4), max_size=4))
def test_no_odd_object_in_a_stream_does_worse_than_a_relay_error(values: list[dict[str, Any]]) -> None:
    decoder = ChatStreamDecoder()
    try:
        play(decoder, [frames(*values, "[DONE]")])
    except RelayError:
        pass


def test_only_done_is_an_empty_result() -> None:
    with pytest.raises(EmptyResult):
        ChatStreamDecoder().feed(b"data: [DONE]\n\n")


# The frames hold these values one after the other; what must come out as text.
LITERALS: dict[str, tuple[list[Any], str]] = {
    "a number takes no space": (["is", " ", 3, ".", 5], "is 3.5"),
    "a number keeps its digits": (["is ", 1.50], "is 1.5"),
    "a negative number": (["a", -1], "a-1"),
    "true after a word": (["is", True], "is true"),
    "false after a word": (["is", False], "is false"),
    "null after a word": (["is", None, "."], "is null."),
    "a word at the very start": ([True], "true"),
    "null at the very start is nothing": ([None, "a"], "a"),
    "after an opening bracket": (["f(", True], "f(true"),
    "after a quote": (['"', False], '"false'),
    "after a space": (["is ", True], "is true"),
    "after a line break": (["is\n", None], "is\nnull"),
    "words in a row": (["a", True, False, None], "a true false null"),
    "an object": (["a ", {"b": 1}], 'a {"b": 1}'),
}


@pytest.mark.parametrize(("values", "text"), LITERALS.values(), ids=LITERALS)
def test_tokens_that_parse_as_json_are_text_again(values: list[Any], text: str) -> None:
    wire = frames(*({"response": value, "p": "ab"} for value in values), TAIL, "[DONE]")
    assert decoded([wire]) == [Delta(text), Finish(None, COUNTED)]


def test_the_digits_of_a_number_are_those_that_were_sent() -> None:
    wire = b'data: {"response":"v"}\n\ndata: {"response":1.50}\n\ndata: {"response":1e3}\n\ndata: [DONE]\n\n'
    assert decoded([wire])[0] == Delta("v1.501e3")


SILENT_NULLS = {
    "beside usage": {"response": None, "usage": USAGE},
    "beside calls": {"response": None, "tool_calls": []},
    "beside a finish reason": {"response": None, "finish_reason": "stop"},
    "beside a thought": {"response": None, "reasoning_content": "Hm"},
}


@pytest.mark.parametrize("frame", SILENT_NULLS.values(), ids=SILENT_NULLS)
def test_null_beside_something_else_is_no_word(frame: dict[str, Any]) -> None:
    events = decoded([frames({"response": "is"}, frame, "[DONE]")])
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "is"


def test_null_after_a_call_is_no_word() -> None:
    call = {"tool_calls": [{"name": "f", "arguments": {}}]}
    events = decoded([frames({"response": "Wait"}, call, {"response": None}, "[DONE]")])
    assert events[0] == Delta("Wait")


# ---------------------------------------------------------------- results

RESULTS: dict[str, ChatResult] = {
    "result-response.json": ChatResult(
        choices=(Choice(text="Hello"),), usage=Usage(prompt_tokens=9, completion_tokens=2)
    ),
    "result-openai-chat.json": ChatResult(
        choices=(Choice(text="Hi", finish_reason="stop"),),
        usage=Usage(prompt_tokens=12, completion_tokens=2, neurons=0.16),
    ),
    "result-responses.json": ChatResult(
        choices=(Choice(text="Hi", reasoning="Greet.", finish_reason="stop"),),
        usage=Usage(prompt_tokens=70, completion_tokens=11),
    ),
    "result-text-completion.json": ChatResult(
        choices=(Choice(text="Hi", finish_reason="length"),), usage=Usage(prompt_tokens=1, completion_tokens=16)
    ),
    "result-flat-tool-call.json": ChatResult(
        choices=(Choice(tool_calls=(ToolCall(None, "get_weather", '{"city":"Oslo"}'),)),),
        usage=Usage(prompt_tokens=180, completion_tokens=16),
    ),
}


@pytest.mark.parametrize(("name", "result"), RESULTS.items())
def test_a_recorded_result_is_read_by_its_keys(name: str, result: ChatResult) -> None:
    assert parse_chat_result(transcripts.read(name)) == result


def test_every_recorded_result_is_read_here() -> None:
    recorded = {path.name for path in transcripts.FOLDER.glob("result-*.json")}
    assert recorded == {*RESULTS, "result-empty.json"}


def envelope(result: Any) -> bytes:
    return json.dumps({"result": result, "success": True, "errors": [], "messages": []}).encode()


SHAPES: dict[str, tuple[Any, Choice]] = {
    "a bare string": ("Hi", Choice(text="Hi")),
    "JSON mode, an object": ({"response": {"a": [1, None]}}, Choice(text='{"a":[1,null]}')),
    "JSON mode, a text": ({"response": '{"a":1}'}, Choice(text='{"a":1}')),
    "JSON mode, a list": ({"response": [1]}, Choice(text="[1]")),
    "a number": ({"response": 42}, Choice(text="42")),
    "a boolean": ({"response": False}, Choice(text="false")),
    "an empty text": ({"response": ""}, Choice()),
    "nothing said, but counted": ({"response": None, "usage": {"prompt_tokens": 1}}, Choice()),
    "nested calls": (
        {"response": "", "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": {}}}]},
        Choice(tool_calls=(ToolCall("x", "f", "{}"),)),
    ),
    "calls alone": ({"tool_calls": [{"name": "f", "arguments": {}}]}, Choice(tool_calls=(ToolCall(None, "f", "{}"),))),
    "a thought in the text": ({"response": "<think>Hm</think>\nYes"}, Choice(text="Yes", reasoning="Hm")),
    "a thought beside the text": ({"response": "Yes", "reasoning": "Hm"}, Choice(text="Yes", reasoning="Hm")),
    "a finish reason": ({"response": "a", "finish_reason": "model_length"}, Choice(text="a", finish_reason="length")),
}


@pytest.mark.parametrize(("result", "choice"), SHAPES.values(), ids=SHAPES)
def test_a_result_of_any_shape_is_read(result: Any, choice: Choice) -> None:
    assert parse_chat_result(envelope(result)).choices == (choice,)


def test_a_result_without_its_envelope_is_read() -> None:
    assert parse_chat_result(b'{"response":"Hi"}').choices[0].text == "Hi"
    assert parse_chat_result(b'{"choices":[{"message":{"content":"Hi"}}]}').choices[0].text == "Hi"


@pytest.mark.parametrize("result", [{}, None, "", [], {"response": None}, {"response": None, "tool_calls": []}])
def test_a_success_that_holds_nothing_is_an_empty_result(result: Any) -> None:
    with pytest.raises(EmptyResult):
        parse_chat_result(envelope(result))


def test_the_recorded_empty_result_is_one() -> None:
    with pytest.raises(EmptyResult):
        parse_chat_result(transcripts.read("result-empty.json"))


UNREADABLE = {
    "no JSON": b"<html>",
    "half of it": b'{"result":{"response":"a',
    "no UTF-8": b'{"result":{"response":"\xff"}}',
    "nothing": b"",
    "a list": b"[]",
    "a number": b"3",
    "a result that is a number": envelope(3),
    "a result that is a list": envelope([1]),
    "a shape of another task": envelope({"data": [[0.1]]}),
    "no choice": envelope({"choices": []}),
    "choices that are none": envelope({"choices": ["a"]}),
    "generation that failed": envelope({"choices": [{"message": {"content": "a"}, "finish_reason": "error"}]}),
    "a response that failed": envelope({"output": [], "status": "failed"}),
    "success false": b'{"success":false,"result":{"response":"a"},"errors":[]}',
    "an error object alone": b'{"error":{"message":"no"}}',
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_result_is_an_upstream_error(body: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        parse_chat_result(body)
    assert caught.value.fault is Fault.UPSTREAM_ERROR
    assert not isinstance(caught.value, EmptyResult)


def test_an_error_that_came_with_status_200_keeps_its_meaning() -> None:
    for body in (
        b'{"success":false,"errors":[{"code":3036}]}',
        b'{"errors":[{"code":"3036"}]}',
        b'{"error":{"code":3036}}',
        b'{"success":false,"result":[],"error":[{"code":3036}]}',
    ):
        with pytest.raises(RelayError) as caught:
            parse_chat_result(body)
        assert caught.value.fault is Fault.QUOTA_EXHAUSTED


@given(ODD)
def test_no_odd_result_does_worse_than_a_relay_error(value: Any) -> None:
    for body in (json.dumps(value).encode(), envelope(value)):
        try:
            assert isinstance(parse_chat_result(body), ChatResult)
        except RelayError:
            pass


# ---------------------------------------------------------------- requests

HELLO = (Message(role="user", content="Hi"),)
TOOL = Tool(name="f", description="d", parameters={"type": "object", "properties": {}}, strict=True)
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def dump(openai_form: bool, *, stream: bool = False, efforts: tuple[str, ...] = (), **fields: Any) -> tuple[Any, Any]:
    """The native body as JSON, and the changes as text."""
    request = ChatRequest(model="m", messages=fields.pop("messages", HELLO), **fields)
    body, changes = dump_chat_request(request, openai_form=openai_form, stream=stream, efforts=efforts)
    return json.loads(body), [str(change) for change in changes]


OLD, NEW = False, True
EITHER = pytest.mark.parametrize("openai_form", [OLD, NEW], ids=["older form", "OpenAI form"])


@EITHER
def test_the_smallest_request_says_its_messages_and_whether_to_stream(openai_form: bool) -> None:
    assert dump(openai_form) == ({"messages": [{"role": "user", "content": "Hi"}], "stream": False}, [])


def test_a_stream_is_asked_for_with_its_usage_where_that_is_known() -> None:
    assert dump(OLD, stream=True)[0]["stream"] is True
    assert "stream_options" not in dump(OLD, stream=True)[0]
    assert dump(NEW, stream=True)[0]["stream_options"] == {"include_usage": True}
    assert "stream_options" not in dump(NEW)[0]


@EITHER
def test_the_token_limit_travels_under_the_name_that_both_forms_know(openai_form: bool) -> None:
    body, _ = dump(openai_form, max_tokens=77)
    assert body["max_tokens"] == 77
    assert "max_completion_tokens" not in body


# Field, value asked for, value sent in the older form, whether that is listed.
CLAMPED: list[tuple[str, Any, Any, bool]] = [
    ("frequency_penalty", -2, 0, True),
    ("frequency_penalty", 2, 2, False),
    ("frequency_penalty", 0, 0, False),
    ("presence_penalty", -0.5, 0, True),
    ("presence_penalty", 1.5, 1.5, False),
    ("repetition_penalty", 3, 2, True),
    ("top_p", 0, 0.001, True),
    ("top_p", 1, 1, False),
    ("top_k", 200, 50, True),
    ("top_k", 50, 50, False),
    ("temperature", 2, 2, False),
    ("seed", 0, 9_999_999_999, True),
    ("seed", -1, 9_999_999_998, True),
    ("seed", 1, 1, False),
    ("seed", 9_999_999_999, 9_999_999_999, False),
    ("seed", 10_000_000_000, 1, True),
    ("seed", 2**63 - 1, (2**63 - 2) % 9_999_999_999 + 1, True),
    ("seed", -(2**63), (-(2**63) - 1) % 9_999_999_999 + 1, True),
]


@pytest.mark.parametrize(("field", "asked", "sent", "listed"), CLAMPED)
def test_the_older_form_gets_values_in_its_ranges(field: str, asked: Any, sent: Any, listed: bool) -> None:
    body, changes = dump(OLD, **{field: asked})
    assert body[field] == sent
    assert changes == ([f"{field}=clamped"] if listed else [])


@pytest.mark.parametrize(("field", "asked"), [(field, asked) for field, asked, _, _ in CLAMPED])
def test_the_openai_form_gets_values_as_they_are(field: str, asked: Any) -> None:
    body, changes = dump(NEW, **{field: asked})
    assert body[field] == asked
    assert changes == []


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_seed_is_sent_in_range(seed: int) -> None:
    assert 1 <= dump(OLD, seed=seed)[0]["seed"] <= 9_999_999_999


# What the older form does not know: the field, its value, how that is listed.
UNKNOWN_TO_OLD: dict[str, tuple[Any, str]] = {
    "stop": (("END",), "emulated"),
    "logprobs": (True, "dropped"),
    "logit_bias": ({"50256": -100}, "dropped"),
    "reasoning_effort": ("low", "dropped"),
    "chat_template_kwargs": ({"enable_thinking": False}, "dropped"),
}


@pytest.mark.parametrize(("field", "value", "kind"), [(name, *row) for name, row in UNKNOWN_TO_OLD.items()])
def test_what_the_older_form_lacks_is_left_out_and_listed(field: str, value: Any, kind: str) -> None:
    body, changes = dump(OLD, **{field: value})
    assert field not in body
    assert changes == [f"{field}={kind}"]
    body, changes = dump(NEW, **{field: value})
    assert body[field] == (list(value) if isinstance(value, tuple) else value)
    assert changes == []


@EITHER
def test_what_no_form_knows_is_listed(openai_form: bool) -> None:
    body, changes = dump(openai_form, min_p=0.1, unsupported=("verbosity",), unknown=("foo",))
    assert changes == ["verbosity=dropped", "foo=ignored", "min_p=dropped"]
    assert set(body) == {"messages", "stream"}


CALLING = Message(role="assistant", tool_calls=(ToolCall("x", "f", "{}"),))
# What turns say beside their text, and what of it the older form has no place for.
BESIDE_THE_TEXT: dict[str, tuple[list[Message], list[str]]] = {
    "a name": ([Message(role="user", content="Hi", name="Ann")], ["messages[].name=dropped"]),
    "a name beside an image": (
        [Message(role="user", content=(ImagePart("https://example.com/a.png"),), name="Ann")],
        ["messages[].name=dropped"],
    ),
    "a past thought": ([Message(role="assistant", content="a", reasoning="r")], ["messages[].reasoning=dropped"]),
    "a past thought beside a call": (
        [msgspec.structs.replace(CALLING, reasoning="r")],
        ["messages[].reasoning=dropped"],
    ),
    "many of both": (
        [Message(role="assistant", content="a", name="Ann", reasoning="r")] * 50,
        ["messages[].name=dropped", "messages[].reasoning=dropped"],
    ),
    "a name beside a call, which stays": ([msgspec.structs.replace(CALLING, name="Ann")], []),
    "the name of a function, which stays": (
        [CALLING, Message(role="tool", content="1", tool_call_id="x", name="f")],
        [],
    ),
}


@pytest.mark.parametrize(("turns", "listed"), BESIDE_THE_TEXT.values(), ids=BESIDE_THE_TEXT)
def test_what_a_turn_loses_in_the_older_form_is_listed(turns: list[Message], listed: list[str]) -> None:
    body, changes = dump(OLD, messages=tuple(turns))
    assert changes == listed
    assert all("reasoning" not in turn for turn in body["messages"])
    kept = [None if "messages[].name=dropped" in listed else turn.name for turn in turns]
    assert [turn.get("name") for turn in body["messages"]] == kept
    body, changes = dump(NEW, messages=tuple(turns))
    assert changes == []
    assert [turn.get("name") for turn in body["messages"]] == [turn.name for turn in turns]


def test_one_call_at_a_time_is_asked_for_or_emulated() -> None:
    body, changes = dump(NEW, tools=(TOOL,), parallel_tool_calls=False)
    assert (body["parallel_tool_calls"], changes) == (False, [])
    body, changes = dump(OLD, tools=(TOOL,), parallel_tool_calls=False)
    assert ("parallel_tool_calls" in body, changes) == (False, ["parallel_tool_calls=emulated"])
    for openai_form in (OLD, NEW):
        assert "parallel_tool_calls" not in dump(openai_form, parallel_tool_calls=False)[0]
        assert dump(openai_form, tools=(TOOL,), parallel_tool_calls=True)[1] == []


EFFORTS: list[tuple[str, tuple[str, ...], str]] = [
    ("minimal", (), "low"),
    ("low", (), "low"),
    ("high", (), "high"),
    ("xhigh", ("low", "medium", "high"), "high"),
    ("none", ("low", "medium"), "low"),
    ("none", ("none", "low"), "none"),
    ("medium", ("low", "medium", "high"), "medium"),
    ("max", ("none", "xhigh"), "xhigh"),
    ("something new", ("low",), "something new"),
]


@pytest.mark.parametrize(("asked", "known", "sent"), EFFORTS)
def test_the_reasoning_effort_is_one_that_the_model_has(asked: str, known: tuple[str, ...], sent: str) -> None:
    body, changes = dump(NEW, efforts=known, reasoning_effort=asked)
    assert body["reasoning_effort"] == sent
    assert changes == ([] if asked == sent else ["reasoning_effort=clamped"])


FORMATS: dict[str, tuple[JsonFormat, Any, Any]] = {
    "any object": (JsonFormat(), {"type": "json_object"}, {"type": "json_object"}),
    "a schema": (
        JsonFormat(schema=SCHEMA),
        {"type": "json_schema", "json_schema": SCHEMA},
        {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
    ),
    "a named strict schema": (
        JsonFormat(name="n", schema=SCHEMA, strict=True),
        {"type": "json_schema", "json_schema": {"title": "n", **SCHEMA}},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
    ),
    "a schema with a title of its own": (
        JsonFormat(name="n", schema={"title": "t"}),
        {"type": "json_schema", "json_schema": {"title": "t"}},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"title": "t"}}},
    ),
}


@pytest.mark.parametrize(("wanted", "bare", "wrapped"), FORMATS.values(), ids=FORMATS)
def test_a_schema_is_bare_in_the_older_form_and_wrapped_in_openais(wanted: JsonFormat, bare: Any, wrapped: Any) -> None:
    assert dump(OLD, response_format=wanted)[0]["response_format"] == bare
    assert dump(NEW, response_format=wanted)[0]["response_format"] == wrapped


def test_tools_are_complete_and_strict_is_for_those_who_know_it() -> None:
    function = {"name": "f", "description": "d", "parameters": TOOL.parameters}
    assert dump(OLD, tools=(TOOL,))[0]["tools"] == [{"type": "function", "function": function}]
    assert dump(NEW, tools=(TOOL,))[0]["tools"] == [{"type": "function", "function": {**function, "strict": True}}]
    silent = Tool(name="f", parameters={})
    expected = {"name": "f", "description": "", "parameters": {}}
    assert dump(OLD, tools=(silent,))[0]["tools"][0]["function"] == expected


CHOICES: list[tuple[Any, Any]] = [
    ("auto", "auto"),
    ("none", "none"),
    ("required", "required"),
    (NamedTool("f"), {"type": "function", "function": {"name": "f"}}),
]


@EITHER
@pytest.mark.parametrize(("choice", "sent"), CHOICES)
def test_the_tool_choice_is_sent_only_beside_tools(openai_form: bool, choice: Any, sent: Any) -> None:
    assert dump(openai_form, tools=(TOOL,), tool_choice=choice)[0]["tool_choice"] == sent
    assert "tool_choice" not in dump(openai_form, tool_choice="auto")[0]
    assert "tool_choice" not in dump(openai_form, tools=(TOOL,))[0]


@EITHER
def test_cloudflares_own_options_are_passed_on(openai_form: bool) -> None:
    body, changes = dump(openai_form, reject_if_busy=True, lora="mine")
    assert body["options"] == {"rejectIfBusy": True}
    assert (body["lora"], changes) == ("mine", [])


IMAGE = ImagePart("data:image/png;base64,AA==", "low")
CALL = ToolCall("call_1", "f", "{}")
WIRE_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE_PARTS = [
    {"type": "text", "text": "what"},
    {"type": "image_url", "image_url": {"url": IMAGE.url, "detail": "low"}},
]

MESSAGES: dict[str, tuple[Message, dict[str, Any], dict[str, Any]]] = {
    "text": (
        Message(role="system", content="a"),
        {"role": "system", "content": "a"},
        {"role": "system", "content": "a"},
    ),
    "a name": (
        Message(role="user", content="a", name="n"),
        {"role": "user", "content": "a"},
        {"role": "user", "content": "a", "name": "n"},
    ),
    "a thought": (
        Message(role="assistant", content="a", reasoning="r"),
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "a", "reasoning": "r"},
    ),
    "an image": (
        Message(role="user", content=(TextPart("what"), IMAGE)),
        {"role": "user", "content": IMAGE_PARTS},
        {"role": "user", "content": IMAGE_PARTS},
    ),
    "calls": (
        Message(role="assistant", tool_calls=(CALL,), reasoning="r"),
        {"role": "assistant", "content": "", "tool_calls": [WIRE_CALL]},
        {"role": "assistant", "content": "", "tool_calls": [WIRE_CALL], "reasoning": "r"},
    ),
    "a call's result": (
        Message(role="tool", content="42", tool_call_id="call_1"),
        {"role": "tool", "content": "42", "tool_call_id": "call_1"},
        {"role": "tool", "content": "42", "tool_call_id": "call_1"},
    ),
}


@pytest.mark.parametrize(("message", "flat", "full"), MESSAGES.values(), ids=MESSAGES)
def test_messages_are_flat_in_the_older_form(message: Message, flat: Any, full: Any) -> None:
    assert dump(OLD, messages=(message,))[0]["messages"] == [flat]
    assert dump(NEW, messages=(message,))[0]["messages"] == [full]


@EITHER
def test_null_is_never_sent(openai_form: bool) -> None:
    request = ChatRequest(
        model="m",
        messages=tuple(message for message, _, _ in MESSAGES.values()),
        tools=(Tool(name="f", parameters={}),),
        response_format=JsonFormat(schema={}),
    )
    body, _ = dump_chat_request(request, openai_form=openai_form, stream=True)
    assert b"null" not in body


def test_a_change_reads_as_the_header_shows_it() -> None:
    assert str(Change("seed", "clamped")) == "seed=clamped"


NOT_WHOLE = {
    "an empty finish reason": frames({"response": "a", "finish_reason": ""}),
    "a finish reason that is no word": frames({"response": "a", "finish_reason": 0}),
    "an empty finish reason in a chunk": frames(chunk({"content": "a"}, "")),
    "text after what looked like the tail": frames(
        {"response": "", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}, {"response": "more"}
    ),
}


@pytest.mark.parametrize("wire", NOT_WHOLE.values(), ids=NOT_WHOLE)
def test_what_does_not_end_an_answer(wire: bytes) -> None:
    decoder = ChatStreamDecoder()
    decoder.feed(wire)
    with pytest.raises(UpstreamTruncated):
        decoder.close()
