"""What the real chatglm.cpp and llama-server sent, as the adapter reads it: every recording has a row here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from adapters.base import Call
from adapters.canonical import (
    ChatEvent,
    ChatRequest,
    ChatResult,
    Choice,
    Delta,
    EmbeddingRequest,
    Finish,
    Message,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from adapters.engine_calls import Endpoint, EngineCalls
from adapters.engine_health import Health, Load, probe
from adapters.errors import Fault, RelayError, UpstreamTruncated
from adapters.openai_compatible import OpenAICompatible
from adapters.profiles import PROFILES
from adapters.transport import open_transport
from adapters.wire.openai_engine import EngineStreamDecoder, parse_engine_result
from adapters.wire.openai_engine_embeddings import parse_engine_embedding_result
from adapters.wire.openai_engine_errors import parse_engine_error
from tests import transcripts
from tests.support.events import each_cut, merged, pieces_of, play
from tests.support.exchange import Exchange, read_exchange

ENGINES = transcripts.FOLDER / "engines"
PROFILE_OF = {"chatglm_cpp": "chatglm.cpp", "llama_server": "llama-server"}
SHORT = 3500  # bytes of a stream that is cut at every place; longer ones are cut at some

SENTENCE = "The weather in Oslo is mild, about seven degrees. \U0001f324"
ARGUMENTS = '{"city":"Oslo","days":2}'
SPACED = '{"city": "Oslo", "days": 2}'


def counted(prompt: int, completion: int, cached: int = 0) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)


def said(usage: Usage, reason: Any = "stop", text: str = SENTENCE, **more: Any) -> ChatResult:
    """One choice and its usage."""
    return ChatResult(choices=(Choice(text=text, finish_reason=reason, **more),), usage=usage)


def called(usage: Usage, arguments: str, reason: Any = "tool_calls") -> ChatResult:
    """A call, whose id is another in each recording and is left out."""
    return said(usage, reason, "", tool_calls=(ToolCall(None, "get_weather", arguments),))


def calling(arguments: str) -> Delta:
    return Delta(tool_calls=(ToolCallDelta(0, None, "get_weather", arguments),))


GLM_STREAM: list[ChatEvent] = [Delta(SENTENCE), Finish(None, None)]
STREAMS: dict[str, list[ChatEvent]] = {
    "chatglm_cpp/stream": GLM_STREAM,
    "chatglm_cpp/stream-usage": GLM_STREAM,  # it knows no `stream_options`
    "chatglm_cpp/stream-limit": [Delta(SENTENCE + "\n"), Finish(None, None)],
    "chatglm_cpp/stream-waited": [Delta(SENTENCE + "\n"), Finish(None, None)],  # a ping comes first
    "chatglm_cpp/prompt-over-limit-stream": [Finish(None, None)],
    "chatglm_cpp/max-tokens-zero-stream": [Finish(None, None)],
    "chatglm_cpp/call-stream": [calling(ARGUMENTS), Finish(None, None)],
    "llama_server/stream": [Delta(SENTENCE), Finish("stop", None)],
    "llama_server/stream-usage": [Delta(SENTENCE), Finish("stop", counted(34, 17, 33))],
    "llama_server/stream-limit": [Delta("The weather in Oslo"), Finish("length", counted(34, 4, 33))],
    "llama_server/stop-stream": [Delta("The weather in Oslo is"), Finish("stop", counted(34, 6, 33))],
    "llama_server/max-tokens-zero-stream": [Delta("The"), Finish("length", None)],
    "llama_server/call-stream": [calling(SPACED), Finish("tool_calls", counted(334, 12, 333))],
    "llama_server/thought-stream": [
        Delta(reasoning="Somebody asks for it.\n"),
        Delta("\n\n" + SENTENCE),
        Finish("stop", counted(34, 24, 33)),
    ],
    # Two answers in one stream are never asked for: the relay calls once for each.
    "llama_server/two-answers-stream": [Delta("TheThe weather weather in in"), Finish("length", counted(34, 3, 33))],
}
"""Streams of one kind of piece after another, and what they mean."""

UNFINISHED = {
    "chatglm_cpp/killed": "",
    "chatglm_cpp/beyond-max-length-stream": SENTENCE + "\nThe",
    "llama_server/killed": "The",
}
"""Streams of engines that died, and the text until then."""

GLM = counted(22, 19)  # it counts two tokens of the template into each answer
LLAMA = counted(34, 17, 33)
RESULTS: dict[str, ChatResult] = {
    "chatglm_cpp/chat": said(GLM, None),
    "chatglm_cpp/system": said(counted(34, 19), None),
    "chatglm_cpp/tools": said(counted(512, 19), None),
    "chatglm_cpp/unknown-model": said(GLM, None),  # what it ignores, here and below
    "chatglm_cpp/stop": said(GLM, None),
    "chatglm_cpp/two-answers": said(GLM, None),
    "chatglm_cpp/logprobs": said(GLM, None),
    "chatglm_cpp/schema": said(GLM, None),
    "chatglm_cpp/limit-over-context": said(GLM, None),
    "chatglm_cpp/long-prompt": said(counted(512, 19), None),
    "chatglm_cpp/prompt-over-limit": said(counted(22, 2), "length", ""),
    "chatglm_cpp/chat-limit": said(GLM, "length"),
    "chatglm_cpp/call": called(counted(512, 8), ARGUMENTS),
    "chatglm_cpp/call-unreadable": called(counted(512, 7), '{"city":"Oslo"}'),
    "chatglm_cpp/call-cut": said(counted(512, 6), "length", "get_weather\n ```python\ntool_call("),
    "llama_server/chat": said(counted(34, 17)),
    "llama_server/system": said(counted(53, 17)),
    "llama_server/tools": said(counted(334, 17, 1)),
    "llama_server/tool-turns": said(counted(400, 17, 333)),
    "llama_server/null-content": said(counted(19, 17, 1)),
    "llama_server/no-messages": said(counted(11, 17, 1)),
    "llama_server/parts": said(counted(24, 17, 6)),
    "llama_server/unknown-model": said(LLAMA),
    "llama_server/max-tokens-null": said(LLAMA),
    "llama_server/temperature-5": said(LLAMA),
    "llama_server/chat-of-embedder": said(counted(34, 17)),
    "llama_server/tool-choice-named": said(counted(334, 17, 333)),  # the object is taken for "auto"
    "llama_server/tool-choice-none": said(counted(334, 17, 333)),
    "llama_server/stop": said(counted(34, 6, 33), text="The weather in Oslo is"),
    "llama_server/seed-too-large": said(counted(34, 3, 33), "length", "The weather in"),
    "llama_server/chat-limit": said(counted(34, 4, 33), "length", "The weather in Oslo"),
    "llama_server/key-right": said(counted(34, 3), "length", "The weather in"),
    "llama_server/max-tokens-zero": said(counted(34, 1, 33), "length", "The"),
    "llama_server/max-tokens-one": said(counted(34, 1, 33), "length", "The"),
    "llama_server/call": called(counted(334, 12), SPACED),
    "llama_server/call-required": called(counted(334, 12, 333), SPACED),
    "llama_server/call-cut": called(counted(334, 7, 333), '{"city": "Oslo",', "length"),
    "llama_server/thought": said(counted(34, 24), text="\n\n" + SENTENCE, reasoning="Somebody asks for it.\n"),
    "llama_server/effort": said(counted(34, 24, 33), text="\n\n" + SENTENCE, reasoning="Somebody asks for it.\n"),
    # The usage is that of one of them.
    "llama_server/two-answers": ChatResult(choices=(Choice(text=SENTENCE, finish_reason="stop"),) * 2, usage=LLAMA),
}

REFUSED: dict[str, tuple[Fault, str]] = {
    "chatglm_cpp/tool-turns": (Fault.INVALID_VALUE, "Invalid 'messages[1].content.str': Input should be a valid"),
    "chatglm_cpp/null-content": (Fault.INVALID_VALUE, "Invalid 'messages[0].content.str': Input should be a valid"),
    "chatglm_cpp/no-messages": (Fault.INVALID_VALUE, "empty messages"),
    "chatglm_cpp/messages-missing": (Fault.INVALID_VALUE, "Invalid 'messages': Field required."),
    "chatglm_cpp/max-tokens-null": (Fault.INVALID_VALUE, "Invalid 'max_tokens': Input should be a valid integer."),
    "chatglm_cpp/temperature-5": (Fault.INVALID_VALUE, "Invalid 'temperature': Input should be less than or equal to"),
    "chatglm_cpp/temperature-text": (Fault.INVALID_VALUE, "Invalid 'temperature': Input should be a valid number"),
    "chatglm_cpp/parts": (Fault.INVALID_VALUE, "multimodal content must have a text item followed by an image_url"),
    "chatglm_cpp/picture": (Fault.UPSTREAM_ERROR, "The engine failed to answer."),  # the server lacks a library
    "chatglm_cpp/not-json": (Fault.INVALID_VALUE, "JSON decode error"),
    "chatglm_cpp/embeddings-off": (Fault.UPSTREAM_MISCONFIGURED, "does not offer this call"),
    "llama_server/messages-missing": (Fault.INVALID_VALUE, "'messages' is required"),
    "llama_server/temperature-text": (Fault.INVALID_VALUE, "Field 'temperature'"),
    "llama_server/schema-broken": (Fault.INVALID_VALUE, "unrecognized type nothing"),
    "llama_server/logprobs-tools-stream": (Fault.INVALID_VALUE, "logprobs is not supported with tools + stream"),
    "llama_server/picture": (Fault.INVALID_VALUE, "image input is not supported"),
    "llama_server/not-json": (Fault.UPSTREAM_ERROR, "The engine failed to answer."),
    "llama_server/prompt-over-context": (Fault.CONTEXT_LENGTH_EXCEEDED, "maximum context length is 1024 tokens"),
    "llama_server/prompt-over-context-stream": (Fault.CONTEXT_LENGTH_EXCEEDED, "maximum context length is 1024 tokens"),
    "llama_server/embeddings-over-context": (Fault.CONTEXT_LENGTH_EXCEEDED, "context_length_exceeded"),
    "llama_server/embeddings-off": (Fault.UPSTREAM_MISCONFIGURED, "does not offer this call"),
    "llama_server/key-missing": (Fault.UPSTREAM_AUTH, "The engine refused the relay's own credentials."),
    "llama_server/key-wrong": (Fault.UPSTREAM_AUTH, "The engine refused the relay's own credentials."),
    "llama_server/loading-chat": (Fault.UPSTREAM_UNREACHABLE, "still loading its model"),
}
"""By recording: the fault, and what its message holds."""

IDLE = Load(running=0, waiting=0, slots=1, context_window=16384)
LOOKS: dict[str, tuple[dict[str, str], Health]] = {
    "chatglm.cpp": ({"/v1/models": "chatglm_cpp/models"}, Health(ready=True)),
    "chatglm.cpp has no page for its health": (
        {"/v1/models": "chatglm_cpp/health"},
        Health(ready=False, reason="it answers with status 404"),
    ),
    "llama-server, idle": (
        {
            "/health": "llama_server/health-idle",
            "/slots": "llama_server/slots-idle",
            "/metrics": "llama_server/metrics-idle",
        },
        Health(ready=True, load=IDLE),
    ),
    "llama-server, busy": (
        {
            "/health": "llama_server/health-busy",
            "/slots": "llama_server/slots-busy",
            "/metrics": "llama_server/metrics-busy",
        },
        Health(ready=True, busy=True, load=msgspec.structs.replace(IDLE, running=1)),
    ),
    "llama-server that tells nothing": (
        {
            "/health": "llama_server/health",
            "/slots": "llama_server/slots-off",
            "/metrics": "llama_server/metrics-off",
        },
        Health(ready=True),
    ),
    "llama-server with a wrong key is alive": (
        {"/health": "llama_server/key-missing-health", "/slots": "llama_server/key-missing-slots"},
        Health(ready=True),
    ),
    "llama-server, loading": (
        {"/health": "llama_server/loading"},
        Health(ready=False, loading=True, reason="it is loading its model"),
    ),
    "llama-server without a slot for us": (
        {"/health": "llama_server/slots-full"},
        Health(ready=False, reason="it answers with status 503"),
    ),
}
"""What an engine answers at which path, and what a look at it makes of that."""

FACTS: dict[str, tuple[int, tuple[str | int, ...], object]] = {
    # It dies without an answer: of limits below 2, and when an answer would pass its `MAX_LENGTH`.
    "chatglm_cpp/max-tokens-zero": (0, (), None),
    "chatglm_cpp/max-tokens-one": (0, (), None),
    "chatglm_cpp/beyond-max-length": (0, (), None),
    "chatglm_cpp/no-such-path": (404, ("detail",), "Not Found"),
    "chatglm_cpp/models": (200, ("data", 0, "id"), "gpt-3.5-turbo"),
    "llama_server/no-such-path": (404, ("error", "type"), "not_found_error"),
    "llama_server/models": (200, ("data", 0, "meta", "n_ctx"), 1024),
    "llama_server/key-missing-models": (401, ("error", "message"), "Invalid API Key"),
    "llama_server/props-idle": (200, ("default_generation_settings", "n_ctx"), 16384),
    "llama_server/props-busy": (200, ("total_slots",), 1),
}
"""What the relay's code was written by, but does not read: the status, and a value in the JSON at a path."""

# Recordings with a test of their own: a long list of numbers.
ALONE = {
    *(f"llama_server/{name}" for name in ("embeddings", "logprobs", "logprobs-alone", "logprobs-stream")),
    *(f"llama_server/{name}" for name in ("schema", "schema-stream")),
}


def recording(name: str) -> Exchange:
    return read_exchange(transcripts.read(f"engines/{name}.http"))


def profile_of(name: str) -> str:
    return PROFILE_OF[name.partition("/")[0]]


def functions_of(exchange: Exchange, profile: str) -> list[str]:
    """The functions whose calls may come as text."""
    tools = (exchange.asked or {}).get("tools", ()) if PROFILES[profile].form.text_calls else ()
    return [tool["function"]["name"] for tool in tools]


def decoder_of(name: str) -> EngineStreamDecoder:
    profile = profile_of(name)
    return EngineStreamDecoder(PROFILES[profile].form, functions=functions_of(recording(name), profile))


def result_of(name: str) -> ChatResult:
    exchange, profile = recording(name), profile_of(name)
    form = PROFILES[profile].form
    functions = functions_of(exchange, profile)
    return parse_engine_result(exchange.payload, form, functions=functions, limit=exchange.asked.get("max_tokens"))


def without_ids(value: Any) -> Any:
    """The same with the ids of calls left out."""
    match value:
        case list():
            return [without_ids(item) for item in value]
        case Delta():
            return msgspec.structs.replace(value, tool_calls=tuple(_anonymous(call) for call in value.tool_calls))
        case ChatResult():
            choices = tuple(
                msgspec.structs.replace(choice, tool_calls=tuple(_anonymous(call) for call in choice.tool_calls))
                for choice in value.choices
            )
            return msgspec.structs.replace(value, choices=choices)
    return value


def _anonymous(call: Any) -> Any:
    return msgspec.structs.replace(call, id=None)


def test_every_recording_means_something() -> None:
    files = {f"{path.parent.name}/{path.stem}" for path in ENGINES.glob("*/*")}
    looked_at = {name for paths, _ in LOOKS.values() for name in paths.values()}
    assert files == {*STREAMS, *UNFINISHED, *RESULTS, *REFUSED, *looked_at, *FACTS, *ALONE}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_means_the_same_wherever_it_is_cut(name: str) -> None:
    exchange = recording(name)
    assert exchange.streamed and exchange.whole
    wire = exchange.payload
    cuts = each_cut(wire) if len(wire) <= SHORT else (pieces_of(wire, range(size, len(wire), size)) for size in (1, 7))
    for pieces in [[wire], *cuts]:
        assert without_ids(merged(play(decoder_of(name), pieces))) == STREAMS[name]


@pytest.mark.parametrize("name", UNFINISHED)
def test_an_engine_that_died_never_looks_finished(name: str) -> None:
    exchange = recording(name)
    assert exchange.streamed and not exchange.whole
    decoder = decoder_of(name)
    events = decoder.feed(exchange.payload)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == UNFINISHED[name]
    with pytest.raises(UpstreamTruncated):
        decoder.close()


@pytest.mark.parametrize("name", RESULTS)
def test_a_whole_answer_is_read(name: str) -> None:
    exchange = recording(name)
    assert exchange.status == 200 and exchange.whole and not exchange.streamed
    result = result_of(name)
    assert without_ids(result) == RESULTS[name]
    ids = [call.id for choice in result.choices for call in choice.tool_calls]
    assert all(id is None if profile_of(name) == "chatglm.cpp" else id for id in ids)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_becomes_one_of_our_faults(name: str) -> None:
    exchange = recording(name)
    fault, words = REFUSED[name]
    error = parse_engine_error(exchange.status, exchange.payload)
    assert error.fault is fault
    assert words in error.message


@pytest.mark.parametrize("name", FACTS)
def test_what_the_code_was_written_by(name: str) -> None:
    exchange = recording(name)
    status, path, expected = FACTS[name]
    value: Any = json.loads(exchange.payload) if path else None
    for step in path:
        value = value[step]
    assert (exchange.status, value) == (status, expected)


def test_a_schema_is_kept_to() -> None:
    (choice,) = result_of("llama_server/schema").choices
    assert set(json.loads(choice.text)) == {"city", "warm"}
    decoder = decoder_of("llama_server/schema-stream")
    text, finish = merged(play(decoder, [recording("llama_server/schema-stream").payload]))
    assert isinstance(text, Delta) and set(json.loads(text.text)) == {"city", "warm"}
    assert isinstance(finish, Finish) and finish.reason == "stop"


def test_log_probabilities_come_with_their_tokens() -> None:
    (whole,) = result_of("llama_server/logprobs").choices
    (alone,) = result_of("llama_server/logprobs-alone").choices
    streamed, _ = merged(play(decoder_of(name := "llama_server/logprobs-stream"), [recording(name).payload]))
    assert isinstance(streamed, Delta)
    for logprobs, alternatives in ((whole.logprobs, 2), (streamed.logprobs, 2), (alone.logprobs, 20)):
        assert logprobs is not None
        assert [(item["token"], len(item["top_logprobs"])) for item in logprobs] == [
            ("The", alternatives),
            (" weather", alternatives),
        ]


def test_vectors_come_in_the_order_of_their_texts() -> None:
    result = parse_engine_embedding_result(recording("llama_server/embeddings").payload)
    assert [len(vector) for vector in result.vectors] == [64, 64]
    assert result.usage == counted(10, 0)


# ---------------------------------------------------------------- over a socket, as it was recorded


@asynccontextmanager
async def replaying(names: Mapping[str, str]) -> AsyncIterator[str]:
    """A server that answers with the very bytes of the recordings, by path, and closes; elsewhere with nothing."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        name = names.get(head.split(b" ", 2)[1].decode())
        if name is not None:
            writer.write(recording(name).answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@asynccontextmanager
async def calls_of(profile: str, names: Mapping[str, str]) -> AsyncIterator[EngineCalls]:
    transport: httpx.AsyncBaseTransport = open_transport(connect_timeout=5)
    async with replaying(names) as url, transport:
        yield EngineCalls(transport, Endpoint(name="e", base_url=url, profile=PROFILES[profile]))


ASKED = ChatRequest(
    model="tiny",
    messages=(Message(role="user", content="How warm is it in Oslo?"),),
    tools=(Tool(name="get_weather", parameters={"type": "object"}),),
)
CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"


@pytest.mark.anyio
@pytest.mark.parametrize("name", STREAMS)
async def test_the_adapter_reads_a_stream_from_a_socket(name: str) -> None:
    async with calls_of(profile_of(name), {CHAT: name}) as calls:
        async with OpenAICompatible(calls).stream_chat(ASKED, Call("id")) as batches:
            events = [event async for batch in batches for event in batch]
    assert without_ids(merged(events)) == STREAMS[name]


@pytest.mark.anyio
@pytest.mark.parametrize("name", RESULTS)
async def test_the_adapter_reads_a_whole_answer_from_a_socket(name: str) -> None:
    async with calls_of(profile_of(name), {CHAT: name}) as calls:
        result = await OpenAICompatible(calls).chat(ASKED, Call("id"))
    assert [choice.text for choice in result.choices] == [choice.text for choice in RESULTS[name].choices]
    assert result.usage == RESULTS[name].usage


@pytest.mark.anyio
@pytest.mark.parametrize("name", [*UNFINISHED, "chatglm_cpp/max-tokens-one"])
async def test_the_adapter_notices_that_the_engine_died(name: str) -> None:
    async with calls_of(profile_of(name), {CHAT: name}) as calls:
        engine = OpenAICompatible(calls)
        with pytest.raises(RelayError) as caught:
            async with engine.stream_chat(ASKED, Call("id")) as batches:
                _ = [batch async for batch in batches]
    assert caught.value.fault is Fault.UPSTREAM_ERROR
    assert engine.stats.failures == 1


@pytest.mark.anyio
@pytest.mark.parametrize("name", REFUSED)
async def test_the_adapter_is_refused_over_a_socket(name: str) -> None:
    fault, words = REFUSED[name]
    async with calls_of("openai", {CHAT: name, EMBEDDINGS: name}) as calls:
        engine = OpenAICompatible(calls)
        with pytest.raises(RelayError) as caught:
            if "embeddings" in name:
                await engine.embed(EmbeddingRequest(model="tiny", texts=("Oslo",)), Call("id"))
            else:
                await engine.chat(ASKED, Call("id"))
    assert caught.value.fault is fault and words in caught.value.message


@pytest.mark.anyio
@pytest.mark.parametrize(("names", "health"), LOOKS.values(), ids=LOOKS)
async def test_a_look_at_an_engine(names: dict[str, str], health: Health) -> None:
    async with calls_of(profile_of(next(iter(names.values()))), names) as calls:
        assert await probe(calls) == health
