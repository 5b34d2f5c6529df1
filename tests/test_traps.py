"""Where Workers AI's wire surprises: one test for each known trap that concerns chat.

The numbers are those of the list that the product was built from; the sources stand in `transcripts/README.md`
and in the codecs. Traps about paging (10), the binding's content type (11), images and audio (21) and embeddings (23)
do not concern chat. What the adapter does with a trap is driven at its seam, the transport.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import respx

from adapters.answer import settle
from adapters.base import Call
from adapters.canonical import (
    ChatRequest,
    ChatResult,
    Choice,
    Delta,
    Finish,
    JsonFormat,
    Message,
    NamedTool,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from adapters.catalogue import load_snapshot
from adapters.cloudflare import Cloudflare
from adapters.cloudflare_calls import Account, CloudflareCalls
from adapters.errors import Fault, RelayError, Retry, StreamUnsupported, UpstreamTruncated
from adapters.wire.openai_chat import ChatStreamEncoder, Stamp, dump_chat_result, parse_chat_request
from adapters.wire.workers_ai import ChatStreamDecoder, EmptyResult, dump_chat_request, parse_chat_result
from adapters.wire.workers_ai_errors import parse_error
from proxy.problems import of_relay_error
from tests import transcripts
from tests.support.cloudflare import ACCOUNT, TOKEN, frames
from tests.support.events import merged, play

pytestmark = pytest.mark.anyio

HI = (Message(role="user", content="Hi"),)
TOOL = Tool(name="get_weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
STAMP = Stamp(id="chatcmpl-1", created=1795167460, model="what-was-asked-for", fingerprint="fp_x")
MODEL = "@cf/meta/llama-3.2-1b-instruct"
RUN = f"https://api.cloudflare.com/client/v4/accounts/{ACCOUNT}/ai/run/"
STREAM = {"content-type": "text/event-stream"}


def native(openai_form: bool = True, *, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """The body that Cloudflare gets for a request with these fields."""
    request = ChatRequest(model="m", messages=fields.pop("messages", HI), **fields)
    body: dict[str, Any] = json.loads(dump_chat_request(request, openai_form=openai_form, stream=stream)[0])
    return body


def decoded(*values: object) -> list[Any]:
    """The events of a stream of these frames."""
    return merged(play(ChatStreamDecoder(), [frames(*values)]))


def refused(status: int, **body: Any) -> RelayError:
    return parse_error(status, json.dumps(body).encode())


class Pieces(httpx.AsyncByteStream):
    """A streamed body."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


@pytest.fixture
def router() -> respx.Router:
    return respx.Router(assert_all_called=False)


@pytest.fixture
def cloudflare(router: respx.Router) -> Cloudflare:
    account = Account(account_id=ACCOUNT, api_token=TOKEN)
    calls = CloudflareCalls(httpx.MockTransport(router.async_handler), account)
    return Cloudflare(calls, model_of=load_snapshot().resolve)


def asked(router: respx.Router) -> list[httpx.Request]:
    return [call.request for call in router.calls]


async def stream_of(cloudflare: Cloudflare, request: ChatRequest) -> list[Any]:
    async with cloudflare.stream_chat(request, Call("req_1")) as batches:
        return [event async for batch in batches for event in batch]


# ---------------------------------------------------------------- streams


def test_trap_01_literal_tokens_keep_their_space() -> None:
    events = merged(play(ChatStreamDecoder(), [transcripts.read("classic-literals.sse")]))
    assert events[0] == Delta("z is 3.5; y is null; flag is true.")


def test_trap_02_a_tail_without_choices_is_usage_and_never_a_chunk_for_the_client() -> None:
    events = merged(play(ChatStreamDecoder(), [transcripts.read("openai-incremental-usage.sse")]))
    assert events[-1] == Finish("stop", Usage(prompt_tokens=147, completion_tokens=16, neurons=1.7727))
    encoder = ChatStreamEncoder(ChatRequest(model="m", messages=HI), STAMP)
    for line in (encoder.start() + encoder.encode(events)).split(b"\n\n"):
        if line.startswith(b"data: {"):
            assert len(json.loads(line[6:])["choices"]) == 1


def test_trap_03_usage_on_chunks_is_not_billed_twice() -> None:
    def chunk(prompt: int, completion: int) -> dict[str, Any]:
        usage = {"prompt_tokens": prompt, "completion_tokens": completion}
        return {"choices": [{"delta": {"content": "a"}}], "usage": usage}

    tail = {"response": "", "usage": {"prompt_tokens": 10, "completion_tokens": 3}}
    increments = [chunk(10, 1), chunk(0, 1), chunk(0, 1)]
    totals = [chunk(10, 1), chunk(10, 2), chunk(10, 3)]
    for values in ([*increments, tail], [*totals, tail], increments, totals):
        events = decoded(*values, "[DONE]")
        assert events[-1] == Finish(None, Usage(prompt_tokens=10, completion_tokens=3))


def test_trap_04_an_empty_result_is_told_apart_from_an_empty_answer() -> None:
    with pytest.raises(EmptyResult):
        parse_chat_result(transcripts.read("result-empty.json"))
    counted = parse_chat_result(b'{"result":{"response":"","usage":{"prompt_tokens":1,"completion_tokens":0}}}')
    assert counted.choices == (Choice(),)


async def test_trap_04_json_in_place_of_a_stream_is_noticed(router: respx.Router, cloudflare: Cloudflare) -> None:
    request = ChatRequest(model=MODEL, messages=HI)
    route = router.post(RUN + MODEL)
    route.respond(json={"result": {}, "success": True, "errors": [], "messages": []})
    with pytest.raises(StreamUnsupported) as caught:
        await stream_of(cloudflare, request)
    assert caught.value.remember
    route.respond(json={"result": {"response": "Hi"}, "success": True, "errors": [], "messages": []})
    assert merged(await stream_of(cloudflare, request)) == [Delta("Hi"), Finish()]


def test_trap_05_whether_to_stream_is_always_said() -> None:
    for openai_form in (True, False):
        assert native(openai_form)["stream"] is False
        assert native(openai_form, stream=True)["stream"] is True


async def test_trap_05_a_stream_that_nobody_asked_for_is_read_whole(
    router: respx.Router, cloudflare: Cloudflare
) -> None:
    wire = transcripts.read("classic.sse")
    router.post(RUN + MODEL).mock(httpx.Response(200, headers=STREAM, stream=Pieces(wire[:30], wire[30:])))
    result = await cloudflare.chat(ChatRequest(model=MODEL, messages=HI), Call("req_1"))
    assert result.choices[0].text == "Hello"
    assert result.usage == Usage(prompt_tokens=9, completion_tokens=2)
    assert json.loads(asked(router)[0].content)["stream"] is False


def test_trap_20_a_stream_without_its_end_is_truncated_and_not_finished() -> None:
    for values in ([{"response": "Hi"}], [{"choices": [{"delta": {"content": "Hi"}}]}], []):
        decoder = ChatStreamDecoder()
        decoder.feed(frames(*values))
        with pytest.raises(UpstreamTruncated):
            decoder.close()


# ---------------------------------------------------------------- requests


def test_trap_06_the_token_limit_is_sent_under_the_name_that_older_models_know() -> None:
    for openai_form in (True, False):
        assert native(openai_form, max_tokens=4096)["max_tokens"] == 4096
    asked_for = parse_chat_request(
        b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"max_completion_tokens":9}'
    )
    assert asked_for.max_tokens == 9


async def test_trap_09_an_escaped_model_id_is_found_and_not_escaped_again(
    router: respx.Router, cloudflare: Cloudflare
) -> None:
    router.post(url__startswith=RUN).respond(json={"result": {"response": "Hi"}, "success": True})
    for name in (MODEL, MODEL.replace("/", "%2F"), MODEL.replace("/", "%2f"), "llama-3.2-1b-instruct"):
        await cloudflare.chat(ChatRequest(model=name, messages=HI), Call("req_1"))
    assert {request.url.raw_path for request in asked(router)} == {
        f"/client/v4/accounts/{ACCOUNT}/ai/run/{MODEL}".encode()
    }


def test_trap_12_a_schema_is_bare_for_older_models_and_wrapped_for_the_others() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = JsonFormat(name="n", schema=schema, strict=True)
    assert native(False, response_format=wanted)["response_format"]["json_schema"] == {"title": "n", **schema}
    wrapped = {"name": "n", "schema": schema, "strict": True}
    assert native(True, response_format=wanted)["response_format"]["json_schema"] == wrapped
    for shape in ({"response": {"a": "b"}}, {"choices": [{"message": {"content": '{"a":"b"}'}}]}):
        result = parse_chat_result(json.dumps({"result": shape, "success": True}).encode())
        assert result.choices[0].text == '{"a":"b"}'


def test_trap_13_any_is_never_sent_and_a_named_tool_stays_named() -> None:
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"tools":[{"function":{"name":"f"}}],"tool_choice":'
    )
    anything = parse_chat_request(body + b'"any"}')
    named = parse_chat_request(body + b'{"type":"function","function":{"name":"f"}}}')
    for openai_form in (True, False):
        sent = [json.loads(dump_chat_request(r, openai_form=openai_form, stream=False)[0]) for r in (anything, named)]
        assert sent[0]["tool_choice"] == "required"
        assert sent[1]["tool_choice"] == {"type": "function", "function": {"name": "f"}}


def test_trap_13_a_required_call_that_came_as_text_is_recovered() -> None:
    text = '{"name":"get_weather","arguments":{"city":"Oslo"}}'
    for choice in ("required", NamedTool("get_weather")):
        request = ChatRequest(model="m", messages=HI, tools=(TOOL,), tool_choice=choice)
        result = settle(ChatResult(choices=(Choice(text=text, finish_reason="stop"),)), request)
        assert result.choices[0].tool_calls == (ToolCall(None, "get_weather", '{"city":"Oslo"}'),)
        assert result.choices[0].finish_reason == "tool_calls"


def test_trap_17_reasoning_is_read_under_both_names_and_replayed_beside_the_content() -> None:
    for name in ("reasoning", "reasoning_content"):
        message = {"content": "Yes", name: "Hm"}
        body = json.dumps({"result": {"choices": [{"message": message}]}, "success": True}).encode()
        assert parse_chat_result(body).choices[0] == Choice(text="Yes", reasoning="Hm")
        assert decoded({"choices": [{"delta": message}]}, "[DONE]")[:2] == [Delta(reasoning="Hm"), Delta("Yes")]
        asked_for = parse_chat_request(
            json.dumps({"model": "m", "messages": [{"role": "assistant", **message}]}).encode()
        )
        assert native(True, messages=asked_for.messages)["messages"] == [
            {"role": "assistant", "content": "Yes", "reasoning": "Hm"}
        ]
        assert native(False, messages=asked_for.messages)["messages"] == [{"role": "assistant", "content": "Yes"}]


def test_trap_18_a_budget_spent_on_thinking_is_an_empty_answer_cut_off() -> None:
    for content in ("", None):
        choice = {"message": {"content": content, "reasoning_content": "Hm"}, "finish_reason": "length"}
        usage = {"prompt_tokens": 5, "completion_tokens": 64}
        body = json.dumps({"result": {"choices": [choice], "usage": usage}, "success": True}).encode()
        result = settle(parse_chat_result(body), ChatRequest(model="m", messages=HI, max_tokens=64))
        assert result.choices == (Choice(reasoning="Hm", finish_reason="length"),)
        assert result.usage == Usage(prompt_tokens=5, completion_tokens=64)
    chunks = [{"choices": [{"delta": {"reasoning_content": "Hm"}}]}, {"choices": [{"finish_reason": "length"}]}]
    assert decoded(*chunks, "[DONE]") == [Delta(reasoning="Hm"), Finish("length")]


def test_trap_18_the_switch_for_thinking_is_passed_on_whatever_its_name() -> None:
    for switch in ({"enable_thinking": False}, {"thinking": False}):
        assert native(True, chat_template_kwargs=switch)["chat_template_kwargs"] == switch


async def test_trap_19_the_reasoning_effort_travels_in_the_body(router: respx.Router, cloudflare: Cloudflare) -> None:
    router.post(url__startswith=RUN).respond(json={"result": {"response": "Hi"}, "success": True})
    model = "@cf/openai/gpt-oss-120b"
    await cloudflare.chat(ChatRequest(model=model, messages=HI, reasoning_effort="high"), Call("req_1"))
    (request,) = asked(router)
    assert request.url.query == b""
    assert json.loads(request.content)["reasoning_effort"] == "high"


async def test_trap_22_nothing_is_asked_for_where_cloudflare_has_no_route(
    router: respx.Router, cloudflare: Cloudflare
) -> None:
    router.post(RUN + MODEL).mock(side_effect=_classic)
    request = ChatRequest(model=MODEL, messages=HI)
    await cloudflare.chat(request, Call("req_1"))
    await stream_of(cloudflare, request)
    assert {(call.method, str(call.url)) for call in asked(router)} == {("POST", RUN + MODEL)}
    no_route = refused(405, errors=[{"code": 7001, "message": "GET not supported for requested URI."}])
    assert no_route.fault is Fault.UPSTREAM_MISCONFIGURED


def _classic(request: httpx.Request) -> httpx.Response:
    if json.loads(request.content)["stream"]:
        return httpx.Response(200, headers=STREAM, stream=Pieces(transcripts.read("classic.sse")))
    return httpx.Response(200, content=transcripts.read("result-response.json"))


# ---------------------------------------------------------------- calls


def test_trap_14_flat_calls_get_ids_and_text_arguments() -> None:
    result = parse_chat_result(transcripts.read("result-flat-tool-call.json"))
    assert result.choices[0].tool_calls == (ToolCall(None, "get_weather", '{"city":"Oslo"}'),)
    request = ChatRequest(model="m", messages=HI)
    dumped = json.loads(dump_chat_result(settle(result, request), request, STAMP))["choices"][0]
    (call,) = dumped["message"]["tool_calls"]
    assert call == {
        "id": call["id"],
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
    }
    assert call["id"].startswith("call_")
    assert dumped["finish_reason"] == "tool_calls"


def test_trap_14_arguments_that_were_encoded_twice_are_encoded_once() -> None:
    twice = json.dumps(json.dumps({"city": "Oslo"}))
    calls = [{"function": {"name": "get_weather", "arguments": twice}}]
    body = json.dumps({"result": {"response": None, "tool_calls": calls}, "success": True}).encode()
    assert json.loads(parse_chat_result(body).choices[0].tool_calls[0].arguments) == {"city": "Oslo"}
    (delta, _) = decoded({"tool_calls": calls}, "[DONE]")
    assert json.loads(delta.tool_calls[0].arguments) == {"city": "Oslo"}


def test_trap_15_tool_ids_that_repeat_stay_as_they_are() -> None:
    repeated = "functions.get_time:0"
    call = {"id": repeated, "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    turn: list[dict[str, Any]] = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": repeated, "content": "12:00"},
    ]
    wire: list[dict[str, Any]] = [
        {"role": "user", "content": "When?"},
        *turn,
        {"role": "user", "content": "And now?"},
        *turn,
    ]
    request = parse_chat_request(json.dumps({"model": "m", "messages": wire}).encode())
    for openai_form in (True, False):
        sent = native(openai_form, messages=request.messages)["messages"]
        assert [message["role"] for message in sent] == [message["role"] for message in wire]
        assert [message["tool_calls"][0]["id"] for message in sent if "tool_calls" in message] == [repeated] * 2
        assert [message["tool_call_id"] for message in sent if "tool_call_id" in message] == [repeated] * 2
    events = decoded({"tool_calls": [{"index": i, **call} for i in range(2)]}, "[DONE]")
    assert events[:2] == [
        Delta(tool_calls=(ToolCallDelta(i, repeated, "get_time", "{}"),)) for i in range(2)
    ]  # two calls, though they share an id


def test_trap_16_an_all_null_frame_ends_the_calls_and_is_none() -> None:
    null: dict[str, Any] = {"id": None, "type": None, "index": 0, "function": {"name": None, "arguments": ""}}
    events = merged(play(ChatStreamDecoder(), [transcripts.read("classic-tool-call.sse")]))
    assert events[0] == Delta(tool_calls=(ToolCallDelta(0, "call_1", "get_weather", '{"city":"Oslo"}'),))
    assert decoded({"response": "Hi"}, {"tool_calls": [null]}, "[DONE]") == [Delta("Hi"), Finish()]
    del null["index"]
    assert decoded({"response": "Hi"}, {"tool_calls": [null]}, "[DONE]") == [Delta("Hi"), Finish()]


# ---------------------------------------------------------------- errors


def test_trap_07_429_has_three_meanings() -> None:
    minute, day, busy = (refused(429, errors=[{"code": code, "message": "m"}]) for code in (3021, 3036, 3040))
    assert [error.fault.retry for error in (minute, day, busy)] == [Retry.YES, Retry.NO, Retry.YES]
    assert [of_relay_error(error).code for error in (minute, day, busy)] == [
        "rate_limit_exceeded",
        "insufficient_quota",
        "rate_limit_exceeded",
    ]
    assert (b"x-should-retry", b"false") in of_relay_error(day).headers
    assert b"retry-after" in dict(of_relay_error(busy).headers)


def test_trap_08_a_bad_token_and_a_wrong_account_are_known_by_code_and_not_by_status() -> None:
    token = refused(400, errors=[{"code": 9106, "message": "Authentication failed (status: 400)"}])
    account = refused(404, errors=[{"code": 7003, "message": f"Could not route to /accounts/{ACCOUNT}/ai/run/x"}])
    assert (token.fault, account.fault) == (Fault.UPSTREAM_AUTH, Fault.UPSTREAM_MISCONFIGURED)
    assert [of_relay_error(error).status for error in (token, account)] == [502, 502]
    assert ACCOUNT not in account.message


def test_trap_24_the_client_sees_the_model_it_asked_for() -> None:
    result = parse_chat_result(transcripts.read("result-openai-chat.json"))
    request = ChatRequest(model="m", messages=HI)
    assert json.loads(dump_chat_result(result, request, STAMP))["model"] == "what-was-asked-for"
    encoder = ChatStreamEncoder(request, STAMP)
    events = play(ChatStreamDecoder(), [transcripts.read("openai-incremental-usage.sse")])
    stream = encoder.start() + encoder.encode(events)
    assert b"external" not in stream
    assert stream.count(b'"model":"what-was-asked-for"') == stream.count(b"data: {")


def test_trap_25_errors_are_read_from_every_envelope() -> None:
    item = {"code": 5007, "message": "No such model"}
    for body in ({"errors": [item]}, {"error": [item]}, {"error": item}, {"error": "5007: No such model"}):
        assert refused(400, success=False, **body).fault is Fault.MODEL_NOT_FOUND
    assert refused(404, success=False, error="Model not found").fault is Fault.UPSTREAM_MISCONFIGURED
    with pytest.raises(RelayError) as caught:
        decoded({"success": False, "result": [], "error": [item]})
    assert caught.value.fault is Fault.MODEL_NOT_FOUND
