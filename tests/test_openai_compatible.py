"""The adapter for OpenAI-compatible engines over real sockets: each engine's wire, the queue, the end of a caller."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.types import Send

from adapters.answer import AnswerRules, settle, settled
from adapters.base import Call
from adapters.canonical import (
    ChatEvent,
    ChatRequest,
    Delta,
    EmbeddingRequest,
    Finish,
    Message,
    Tool,
    ToolCall,
    Usage,
)
from adapters.cloudflare_calls import Timeouts
from adapters.engine_calls import Endpoint, EngineCalls, retry_after
from adapters.errors import Fault, InvalidRequest, RelayError, UpstreamTruncated
from adapters.local.own import PROFILE, TENANT
from adapters.openai_compatible import OpenAICompatible
from adapters.profiles import PROFILES
from adapters.transport import open_transport
from adapters.wire.changes import HEADER
from proxy.problems import of_relay_error
from tests.support.cloudflare import Asked, Script, Step, answer, frames, held, stream
from tests.support.engine_wires import (
    CHAT,
    EMBEDDINGS,
    KEY,
    PING,
    STREAMS,
    USAGE,
    WHOLES,
    FakeEngine,
    by_stream,
    chatglm,
    chatglm_stream,
    chatglm_whole,
    chunk,
    playing,
    whole,
)
from tests.support.raw_http import STREAM_HEAD
from tests.support.raw_http import chunk as raw_chunk
from tests.support.scripted import Peer, scripted
from tests.support.servers import DEADLINE

pytestmark = pytest.mark.anyio

REQUEST = ChatRequest(model="alias", messages=(Message(role="user", content="Hi"),), max_tokens=9)
COUNTED = Usage(prompt_tokens=9, completion_tokens=2)
WEATHER = Tool(name="get_weather", parameters={"type": "object"})
HELLO = by_stream(answer(200, WHOLES["vllm"]), stream(*STREAMS["vllm"]))


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def made(engine: FakeEngine) -> AsyncIterator[Callable[..., OpenAICompatible]]:
    """Makes adapters over the engine."""
    transport = open_transport(connect_timeout=5)
    async with playing(engine) as served:

        def make(profile: str = "vllm", *, timeouts: Timeouts | None = None, **options: Any) -> OpenAICompatible:
            fields = {"name": "mine", "base_url": f"{served.url}/v1", "models": {"alias": "own-name"}, "api_key": KEY}
            endpoint = Endpoint(profile=PROFILES[profile], **{**fields, **options})
            calls = EngineCalls(transport, endpoint, timeouts=timeouts, hop="our-hop", user_agent="relay/1")
            return OpenAICompatible(calls)

        yield make
        await transport.aclose()


Make = Callable[..., OpenAICompatible]


async def events_of(adapter: OpenAICompatible, request: ChatRequest = REQUEST) -> list[ChatEvent]:
    async with adapter.stream_chat(request, Call("id")) as batches:
        return [event async for batch in batches for event in batch]


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


async def soon(done: Callable[[], bool]) -> None:
    """Wait until the other tasks have brought something about."""
    async with asyncio.timeout(DEADLINE):
        for _ in iter(done, True):
            await asyncio.sleep(0)


# ---------------------------------------------------------------- what goes out


async def test_a_call_carries_the_key_and_says_who_calls(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, HELLO)
    await made().chat(REQUEST, Call("id"))
    (asked,) = engine.requests
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["accept-encoding"] == "identity", "a compressed stream would come in lumps"
    assert asked.headers["user-agent"] == "relay/1" and asked.headers["x-relay-hop"] == "our-hop"
    assert asked.json == {
        "model": "own-name",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": False,
        "max_tokens": 9,
    }


@pytest.mark.parametrize("profile", PROFILES)
async def test_our_own_engine_alone_hears_who_asks(profile: str, engine: FakeEngine, made: Make) -> None:
    adapter = made(profile)
    for tenant in ("key-1a2b3c4d", "key-99999999", None):
        engine.script(CHAT, answer(200, WHOLES["vllm"]))
        call = Call("id")
        call.tenant = tenant
        await adapter.chat(REQUEST, call)
    told = [asked.headers.get(TENANT) for asked in engine.requests]
    assert told == (["key-1a2b3c4d", "key-99999999", None] if profile == PROFILE else [None] * 3)


async def test_without_a_key_none_is_sent_and_other_names_go_as_they_are(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, HELLO)
    await made(api_key=None).chat(msgspec.structs.replace(REQUEST, model="org/other"), Call("id"))
    assert "authorization" not in engine.requests[0].headers
    assert engine.requests[0].json["model"] == "org/other"


async def test_the_caller_hears_who_answers_and_what_was_changed(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, answer(200, WHOLES["chatglm.cpp"]))
    call = Call("id")
    await made("chatglm.cpp").chat(msgspec.structs.replace(REQUEST, seed=5, unknown=("x",)), call)
    assert call.upstream == "mine" and list(map(str, call.changes)) == ["seed=dropped", "x=ignored"]


async def test_strict_mode_refuses_before_anything_is_sent(engine: FakeEngine, made: Make) -> None:
    adapter = made("chatglm.cpp")
    with pytest.raises(InvalidRequest) as caught:
        await adapter.chat(msgspec.structs.replace(REQUEST, seed=5), Call("id", strict=True))
    assert caught.value.param == "seed" and engine.requests == [] and adapter.open == 0


TOLD = {HEADER: "reasoning_effort=dropped, max_tokens=clamped"}


@pytest.mark.parametrize("profile", PROFILES)
async def test_what_our_own_engine_has_changed_is_passed_on(profile: str, engine: FakeEngine, made: Make) -> None:
    for limited_by_relay, theirs in ((False, TOLD[HEADER]), (True, "reasoning_effort=dropped")):
        engine.script(CHAT, answer(200, WHOLES["vllm"], headers=TOLD))
        call = Call("id")
        request = msgspec.structs.replace(REQUEST, max_tokens_by_relay=limited_by_relay, unknown=("x",))
        await made(profile).chat(request, call)
        told = ", ".join(map(str, call.changes))
        assert told == (f"{theirs}, x=ignored" if profile == PROFILE else "x=ignored")


async def test_strict_mode_refuses_what_our_own_engine_has_changed(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, answer(200, WHOLES["vllm"], headers=TOLD))
    adapter = made(PROFILE)
    for ask in (adapter.chat, stream_of(adapter)):
        with pytest.raises(InvalidRequest) as caught:
            await ask(REQUEST, Call("id", strict=True))
        assert caught.value.param == "reasoning_effort" and adapter.open == 0
    assert adapter.stats.failures == 0


def stream_of(adapter: OpenAICompatible) -> Callable[[ChatRequest, Call], Awaitable[None]]:
    async def begin(request: ChatRequest, call: Call) -> None:
        async with adapter.stream_chat(request, call):
            pass

    return begin


async def test_a_limit_of_the_callers_own_is_no_rest_for_the_engine(engine: FakeEngine, made: Make) -> None:
    """Who has too many schemas waiting is told so; all others go on."""
    adapter = made(PROFILE)
    for param, rests in (("response_format", False), (None, True)):
        error = {"message": "Try again.", "type": "rate_limit_error", "param": param, "code": "rate_limit_exceeded"}
        engine.script(CHAT, answer(429, {"error": error}, headers={"retry-after": "17"}))
        with pytest.raises(RelayError) as caught:
            await adapter.chat(REQUEST, Call("id"))
        assert caught.value.param == param and caught.value.retry_after == 17
        assert (adapter.stats.rests_until > 0, adapter.stats.failures) == (rests, int(rests))


async def test_a_long_prompt_of_chatglm_cpp_is_listed(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, answer(200, WHOLES["chatglm.cpp"]))
    adapter, limits = made("chatglm.cpp"), []
    for text, changes in {"x" * 1500: [], "x" * 1600: ["messages=clamped"], "你" * 780: ["messages=clamped"]}.items():
        call = Call("id")
        await adapter.chat(
            msgspec.structs.replace(REQUEST, messages=(Message(role="user", content=text),), max_tokens=100), call
        )
        assert list(map(str, call.changes)) == changes
        limits.append(engine.requests[-1].json["max_tokens"])
    assert limits == [604, 612, 612]


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize("profile", PROFILES)
async def test_each_engines_answers_come_back_alike(engine: FakeEngine, made: Make, profile: str) -> None:
    engine.script(CHAT, by_stream(answer(200, WHOLES[profile]), stream(*STREAMS[profile])))
    adapter = made(profile)
    (choice,) = settle(await adapter.chat(REQUEST, Call("id")), REQUEST).choices
    assert (choice.text, choice.finish_reason) == ("Hello there", "stop")
    async with adapter.stream_chat(REQUEST, Call("id")) as batches:
        events = [event async for batch in settled(batches, AnswerRules(REQUEST)) for event in batch]
    assert text_of(events) == "Hello there"
    finish = events[-1]
    assert isinstance(finish, Finish) and finish.reason == "stop" and finish.usage is not None
    assert finish.usage.estimated is (profile == "chatglm.cpp")
    assert adapter.stats.failures == 0 and adapter.stats.answers == 2 and adapter.open == 0


async def test_events_come_as_the_engine_sends_them(engine: FakeEngine, made: Make) -> None:
    go = asyncio.Event()
    engine.script(CHAT, stream(*STREAMS["llama-server"][:2], Step(b"".join(STREAMS["llama-server"][2:]), go)))
    async with made("llama-server").stream_chat(REQUEST, Call("id")) as batches:
        assert await anext(batches) == [Delta("Hello")]
        go.set()
        assert [event async for batch in batches for event in batch] == [Delta(" there"), Finish("stop", COUNTED)]


async def test_a_connection_is_used_again(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, HELLO)
    adapter = made()
    await events_of(adapter)
    await events_of(adapter)
    assert len({asked.client for asked in engine.requests}) == 1


async def test_a_stream_though_a_whole_answer_was_asked_for(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, stream(*STREAMS["openai"]))
    result = await made("openai").chat(REQUEST, Call("id"))
    assert (result.choices[0].text, result.usage) == ("Hello there", COUNTED)


async def test_a_whole_answer_though_a_stream_was_asked_for(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, answer(200, WHOLES["openai"]))
    adapter = made("openai")
    assert await events_of(adapter) == [Delta("Hello there"), Finish("stop", COUNTED)]
    assert adapter.stats.answers == 1


CALL_TEXT = "get_weather\n```python\ntool_call(city='Oslo')\n```"


async def test_chatglm_cpps_calls_come_back_as_calls(engine: FakeEngine, made: Make) -> None:
    wire = {"function": {"arguments": '{"city": "Oslo"}', "name": "get_weather"}, "type": "function"}
    engine.script(
        CHAT,
        by_stream(answer(200, chatglm_whole("", "function_call", [wire])), stream(*chatglm_stream(*CALL_TEXT))),
    )
    request = msgspec.structs.replace(REQUEST, tools=(WEATHER,))
    adapter = made("chatglm.cpp")
    (choice,) = (await adapter.chat(request, Call("id"))).choices
    assert choice.tool_calls == (ToolCall(None, "get_weather", '{"city": "Oslo"}'),)
    assert choice.finish_reason == "tool_calls"
    async with adapter.stream_chat(request, Call("id")) as batches:
        events = [event async for batch in settled(batches, AnswerRules(request)) for event in batch]
    (delta, finish) = events
    assert isinstance(delta, Delta) and delta.tool_calls[0].arguments == '{"city":"Oslo"}'
    assert isinstance(finish, Finish) and finish.reason == "tool_calls"


async def test_chatglm_cpps_limit_is_found_out(engine: FakeEngine, made: Make) -> None:
    # The prompt of "Hi" is estimated at 5 tokens: 14 are sent, of which 9 were wanted.
    engine.script(CHAT, answer(200, chatglm_whole("Hello", prompt_tokens=8, completion_tokens=6)))
    (choice,) = (await made("chatglm.cpp").chat(REQUEST, Call("id"))).choices
    assert engine.requests[0].json["max_tokens"] == 14 and choice.finish_reason == "length"


async def test_stops_that_an_engine_does_not_know_are_cut(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, stream(*chatglm_stream("Hello", " EN", "D there")))
    request = msgspec.structs.replace(REQUEST, stop=("END",))
    call = Call("id")
    async with made("chatglm.cpp").stream_chat(request, call) as batches:
        events = [event async for batch in settled(batches, AnswerRules(request)) for event in batch]
    assert text_of(events) == "Hello " and list(map(str, call.changes)) == ["stop=emulated"]
    assert "stop" not in engine.requests[0].json


# ---------------------------------------------------------------- what goes wrong

Ask = Callable[[OpenAICompatible], Awaitable[object]]
ASKS: dict[str, Ask] = {
    "whole": lambda adapter: adapter.chat(REQUEST, Call("id")),
    "streamed": events_of,
    "embeddings": lambda adapter: adapter.embed(EmbeddingRequest(model="alias", texts=("a",)), Call("id")),
}
ASKED = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)

REFUSALS: dict[str, tuple[Script, Fault, float | None]] = {
    "loading": (answer(503, {"error": {"message": "Loading model"}}), Fault.UPSTREAM_UNREACHABLE, None),
    "a limit": (answer(429, {"detail": "slow"}, headers={"retry-after": "7"}), Fault.RATE_LIMITED, 7.0),
    "an overload": (answer(503, b"", headers={"retry-after": "99"}), Fault.OVERLOADED, 30.0),
    "a crash": (answer(500, {"error": "CUDA error"}), Fault.UPSTREAM_ERROR, None),
    "a wrong key": (answer(401, {"error": "no"}), Fault.UPSTREAM_AUTH, None),
    "garbage": (answer(200, b"\x00\xff"), Fault.UPSTREAM_ERROR, None),
    "nothing": (answer(200, b""), Fault.UPSTREAM_ERROR, None),
    "a cut": (stream(b"", cut=True), Fault.UPSTREAM_ERROR, None),
}


@ASKED
@pytest.mark.parametrize(("script", "fault", "seconds"), REFUSALS.values(), ids=REFUSALS)
async def test_an_engine_that_fails_is_told_of_and_remembered(
    engine: FakeEngine, made: Make, ask: Ask, script: Script, fault: Fault, seconds: float | None
) -> None:
    engine.script(CHAT, script)
    engine.script(EMBEDDINGS, script)
    heard: list[RelayError] = []
    adapter = OpenAICompatible(made().calls, on_failure=heard.append)
    with pytest.raises(RelayError) as caught:
        await ask(adapter)
    assert (caught.value.fault, caught.value.retry_after) == (fault, seconds)
    assert heard == [caught.value]
    assert (adapter.stats.failures, adapter.stats.last_error, adapter.open) == (1, fault, 0)
    assert (adapter.stats.rests_until > time.monotonic() + 1) is (seconds is not None)


@ASKED
async def test_a_clients_mistake_is_no_failure_of_the_engine(engine: FakeEngine, made: Make, ask: Ask) -> None:
    for path in (CHAT, EMBEDDINGS):
        engine.script(path, answer(400, {"error": {"message": f"bad, {KEY}", "param": "seed"}}))
    adapter = made()
    with pytest.raises(RelayError) as caught:
        await ask(adapter)
    assert caught.value.fault is Fault.INVALID_VALUE and adapter.stats.failures == 0


ECHOES = {
    "in the words": {"message": f"bad, {KEY}, really"},
    "in the name of a field": {"message": "bad", "param": f"headers.{KEY}"},
    "cut in the words": {"message": f"{'x' * 290}{KEY}"},
    "cut in the name of a field": {"message": "bad", "param": f"{'x' * 90}{KEY}"},
}


@ASKED
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
async def test_an_engine_may_echo_anything_but_nobody_hears_its_key(
    engine: FakeEngine, made: Make, ask: Ask, echo: dict[str, str]
) -> None:
    for path in (CHAT, EMBEDDINGS):
        engine.script(path, answer(400, {"error": echo}))
    with pytest.raises(RelayError) as caught:
        await ask(made())
    told = f"{caught.value.message} {caught.value.param} {caught.value}"
    assert "***" in told and KEY[:4] not in told


async def test_a_context_that_the_engine_does_not_name_is_the_endpoints(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, answer(400, {"error": {"message": "exceeds the available context size"}}))
    with pytest.raises(RelayError) as caught:
        await made(context_window=512).chat(REQUEST, Call("id"))
    assert "maximum context length is 512 tokens" in caught.value.message


CUTS: dict[str, tuple[str, Script]] = {
    "chatglm.cpp without a finish chunk": (
        "chatglm.cpp",
        stream(chatglm({"role": "assistant"}), chatglm({"content": "Hel"})),
    ),
    "the end of a connection": ("vllm", stream(*STREAMS["vllm"][:2])),
    "a reset": ("vllm", stream(*STREAMS["vllm"][:2], cut=True)),
    "an error frame": ("llama-server", stream(*STREAMS["llama-server"][:2], frames({"error": {"code": 500}}))),
}


@pytest.mark.parametrize(("profile", "script"), CUTS.values(), ids=CUTS)
async def test_a_stream_that_breaks_off_is_an_error_and_remembered(
    engine: FakeEngine, made: Make, profile: str, script: Script
) -> None:
    engine.script(CHAT, script)
    adapter = made(profile)
    async with adapter.stream_chat(REQUEST, Call("id")) as batches:
        first = await anext(batches)
        with pytest.raises(RelayError) as caught:
            async for _ in batches:
                raise AssertionError
    assert isinstance(first[0], Delta) and caught.value.fault is Fault.UPSTREAM_ERROR
    assert adapter.stats.failures == 1 and adapter.stats.answers == 0 and adapter.open == 0


async def test_a_reset_after_the_finish_chunk_has_broken_nothing(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, stream(*STREAMS["chatglm.cpp"], cut=True))
    adapter = made("chatglm.cpp")
    assert text_of(await events_of(adapter)) == "Hello there"
    assert adapter.stats.failures == 0


async def test_pings_after_the_finish_chunk_are_not_waited_for(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, pinging(*STREAMS["chatglm.cpp"]))
    assert text_of(await events_of(made("chatglm.cpp", timeouts=Timeouts(idle=3)))) == "Hello there"


async def test_nothing_but_pings_is_no_answer(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, stream(PING, PING))
    with pytest.raises(UpstreamTruncated):
        await events_of(made("chatglm.cpp"))


async def test_pings_alone_are_silence(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, pinging(*STREAMS["chatglm.cpp"][:3]))
    with pytest.raises(RelayError) as caught:
        await events_of(made("chatglm.cpp", timeouts=Timeouts(idle=0.1)))
    assert caught.value.fault is Fault.UPSTREAM_TIMEOUT


def pinging(*pieces: bytes) -> Script:
    """The pieces, then comments for ever."""

    async def play(asked: Asked, send: Send) -> None:
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        while not asked.gone.is_set():
            await send({"type": "http.response.body", "body": PING, "more_body": True})
            await asyncio.sleep(0)

    return play


@ASKED
async def test_an_engine_that_does_not_answer_has_its_time(engine: FakeEngine, made: Make, ask: Ask) -> None:
    never = asyncio.Event()
    for path in (CHAT, EMBEDDINGS):
        engine.script(path, held(never, HELLO))
    adapter = made(timeouts=Timeouts(first_byte=0.1))
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(RelayError) as caught:
            await ask(adapter)
    assert caught.value.fault is Fault.UPSTREAM_TIMEOUT and adapter.stats.failures == 1 and adapter.open == 0


async def test_nobody_at_the_address_is_told(made: Make) -> None:
    async with playing(FakeEngine()) as served:
        url = f"{served.url}/v1"
    with pytest.raises(RelayError) as caught:
        await made(base_url=url).chat(REQUEST, Call("id"))
    assert caught.value.fault is Fault.UPSTREAM_UNREACHABLE and "127.0.0.1" not in caught.value.message


def test_secrets_are_not_shown() -> None:
    assert KEY not in repr(Endpoint(name="e", base_url="http://secret/v1", profile=PROFILES["vllm"], api_key=KEY))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("5", 5.0), ("0", 1.0), ("99", 30.0), ("inf", 30.0), ("nan", None), ("soon", None), ("", None), (None, None)],
)
def test_the_wish_to_wait_is_kept_within_what_clients_obey(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


# ---------------------------------------------------------------- callers who leave


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_caller_who_leaves_before_the_answer_closes_the_connection(
    engine: FakeEngine, made: Make, streamed: bool
) -> None:
    engine.script(CHAT, held(asyncio.Event(), HELLO))
    adapter = made()
    ask = ASKS["streamed" if streamed else "whole"]
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        task = group.create_task(_quietly(ask(adapter)))
        await engine.arrived.wait()
        task.cancel()
        await engine.requests[0].gone.wait()
    assert adapter.open == 0 and adapter.stats.failures == 0


async def test_a_caller_who_leaves_in_the_middle_closes_the_connection(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, stream(*STREAMS["vllm"][:2], Step(b"", asyncio.Event())))
    adapter = made()
    async with asyncio.timeout(DEADLINE):
        async with adapter.stream_chat(REQUEST, Call("id")) as batches:
            await anext(batches)
            assert adapter.open == 1
        await engine.requests[0].gone.wait()
    assert adapter.open == 0 and adapter.stats.answers == 0


async def _quietly(work: Awaitable[object]) -> None:
    await work


# ---------------------------------------------------------------- the queue


async def test_requests_wait_for_their_turn_and_are_served_in_order(engine: FakeEngine, made: Make) -> None:
    go = asyncio.Event()
    engine.script(CHAT, held(go, answer(200, WHOLES["chatglm.cpp"])))
    adapter = made("chatglm.cpp")
    seen: list[int] = []

    async def ask(number: int) -> None:
        await adapter.chat(msgspec.structs.replace(REQUEST, temperature=number / 10), Call("id"))
        seen.append(number)

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(ask(number))
        await engine.arrived.wait()
        assert (adapter.open, adapter.waiting, len(engine.requests)) == (1, 3, 1)
        go.set()
    assert seen == [0, 1, 2, 3]
    assert [asked.json["temperature"] for asked in engine.requests] == [0, 0.1, 0.2, 0.3]


async def test_a_stream_keeps_its_place_until_it_is_left(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, stream(*STREAMS["chatglm.cpp"]))
    adapter = made("chatglm.cpp")
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        async with adapter.stream_chat(REQUEST, Call("id")) as batches:
            await anext(batches)
            group.create_task(_quietly(events_of(adapter)))
            await soon(lambda: adapter.waiting == 1)
            assert len(engine.requests) == 1
    assert len(engine.requests) == 2 and adapter.stats.answers == 1


async def test_a_full_queue_says_when_to_come_back(engine: FakeEngine, made: Make) -> None:
    go = asyncio.Event()
    engine.script(CHAT, held(go, HELLO))
    adapter = made(max_concurrency=1, queue=1)
    adapter.stats.duration = 4.0
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(_quietly(adapter.chat(REQUEST, Call("id"))))
        await engine.arrived.wait()
        with pytest.raises(RelayError) as caught:
            await adapter.chat(REQUEST, Call("id"))
        go.set()
    assert (caught.value.fault, caught.value.retry_after) == (Fault.OVERLOADED, 8.0)
    assert (b"retry-after", b"8") in of_relay_error(caught.value).headers
    assert adapter.stats.failures == 0, "the engine has done nothing wrong"


@ASKED
async def test_a_wait_has_an_end(engine: FakeEngine, made: Make, ask: Ask) -> None:
    adapter = made(max_concurrency=1, timeouts=Timeouts(first_byte=0.1))
    async with adapter.admission.place(0.0):
        with pytest.raises(RelayError) as caught:
            await ask(adapter)
    assert caught.value.fault is Fault.OVERLOADED and engine.requests == []


@pytest.mark.parametrize("profile", ["vllm", PROFILE], ids=["the relay's queue", "the engine's own queue"])
async def test_a_caller_who_will_not_wait_is_refused_at_once(engine: FakeEngine, made: Make, profile: str) -> None:
    engine.script(CHAT, HELLO)
    adapter = made(profile, max_concurrency=1)
    hasty = msgspec.structs.replace(REQUEST, reject_if_busy=True)
    await adapter.chat(hasty, Call("id"))
    async with adapter.admission.place(0.0):
        for ask in (adapter.chat(hasty, Call("id")), events_of(adapter, hasty)):
            with pytest.raises(RelayError) as caught:
                await ask
            assert caught.value.fault is Fault.OVERLOADED


async def test_a_caller_who_leaves_the_queue_never_reaches_the_engine(engine: FakeEngine, made: Make) -> None:
    go = asyncio.Event()
    engine.script(CHAT, held(go, HELLO))
    adapter = made(max_concurrency=1)
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        group.create_task(_quietly(adapter.chat(REQUEST, Call("id"))))
        await engine.arrived.wait()
        gone = group.create_task(_quietly(adapter.chat(REQUEST, Call("id"))))
        await soon(lambda: adapter.waiting == 1)
        gone.cancel()
        await soon(lambda: adapter.waiting == 0)
        go.set()
    assert len(engine.requests) == 1 and adapter.open == 0


async def test_a_deadline_that_has_passed_is_not_waited_beyond(engine: FakeEngine, made: Make) -> None:
    adapter = made(max_concurrency=1)
    async with adapter.admission.place(0.0):
        with pytest.raises(RelayError) as caught:
            await adapter.chat(REQUEST, Call("id", deadline=time.monotonic() - 1))
    assert caught.value.fault is Fault.OVERLOADED


# ---------------------------------------------------------------- the record, embeddings


async def test_the_record_has_times_and_speeds(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, HELLO)
    adapter = made()
    assert adapter.stats.first_token is None
    await events_of(adapter)
    stats = adapter.stats
    assert stats.first_token is not None and stats.duration is not None and stats.tokens_per_second is not None
    assert 0 < stats.first_token <= stats.duration < DEADLINE


async def test_embeddings_come_in_the_order_of_the_texts(engine: FakeEngine, made: Make) -> None:
    data = [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1, 0]}]
    engine.script(EMBEDDINGS, answer(200, {"object": "list", "data": data, "usage": {"prompt_tokens": 2}}))
    call = Call("id")
    adapter = made()
    result = await adapter.embed(EmbeddingRequest(model="alias", texts=("a", "b"), dimensions=1), call)
    assert result.vectors == [[1.0, 0.0], [0.0, 1.0]] and result.usage == Usage(prompt_tokens=2)
    assert json.loads(engine.requests[0].body)["model"] == "own-name"
    assert call.upstream == "mine" and list(map(str, call.changes)) == ["dimensions=emulated"]
    assert adapter.stats.answers == 1


async def test_vectors_for_other_texts_are_an_error(engine: FakeEngine, made: Make) -> None:
    engine.script(EMBEDDINGS, answer(200, {"data": [{"embedding": [1]}]}))
    adapter = made()
    with pytest.raises(RelayError, match="1 vectors for 2 texts"):
        await adapter.embed(EmbeddingRequest(model="alias", texts=("a", "b")), Call("id"))
    assert adapter.stats.failures == 1


@pytest.mark.parametrize("profile", ["chatglm.cpp", "transformers-serve"])
async def test_an_engine_without_embeddings_is_not_asked(engine: FakeEngine, made: Make, profile: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await made(profile).embed(EmbeddingRequest(model="alias", texts=("a",)), Call("id"))
    assert caught.value.code == "model_not_supported" and engine.requests == []


async def test_many_streams_at_once_come_back_whole(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, HELLO)
    adapter = made(max_concurrency=4)
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        tasks = [group.create_task(events_of(adapter)) for _ in range(30)]
    assert all(text_of(task.result()) == "Hello there" for task in tasks)
    assert (adapter.open, adapter.waiting, adapter.stats.answers) == (0, 0, 30)


async def test_an_engine_that_has_moved_is_called_where_it_is(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, answer(200, whole("Hello", usage=USAGE)))
    adapter = made(base_url="http://127.0.0.1:1/v1")
    adapter.calls = made().calls
    assert (await adapter.chat(REQUEST, Call("id"))).choices[0].text == "Hello"


async def test_an_engine_is_reached_through_a_unix_socket(tmp_path: Path) -> None:
    wire = STREAM_HEAD + b"".join(map(raw_chunk, STREAMS["chatglm.cpp"])) + b"0\r\n\r\n"
    peer = Peer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted(peer, [wire])(reader, writer)
        writer.close()
        await writer.wait_closed()
        peer.left.set()

    socket = tmp_path / "engine.sock"
    transport = open_transport(connect_timeout=5, uds=str(socket))
    endpoint = Endpoint(name="near", base_url="http://localhost/v1", profile=PROFILES["chatglm.cpp"])
    async with asyncio.timeout(DEADLINE), await asyncio.start_unix_server(serve, socket):
        assert text_of(await events_of(OpenAICompatible(EngineCalls(transport, endpoint)))) == "Hello there"
        await peer.left.wait()
        await transport.aclose()
    assert peer.requests[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


async def test_a_transport_without_a_clock_of_its_own_will_do() -> None:
    body = b"".join(STREAMS["ollama"])
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=headers, content=body))
    endpoint = Endpoint(name="near", base_url="http://localhost/v1", profile=PROFILES["ollama"])
    assert text_of(await events_of(OpenAICompatible(EngineCalls(transport, endpoint)))) == "Hello there"


async def test_frames_that_came_in_one_read_are_one_batch(engine: FakeEngine, made: Make) -> None:
    engine.script(CHAT, stream(frames(chunk({"content": "a"}), chunk({"content": "b"})), frames(chunk({}, "stop"))))
    async with made("openai").stream_chat(REQUEST, Call("id")) as batches:
        assert await anext(batches) == [Delta("a"), Delta("b")]
        assert await anext(batches) == [Finish("stop", None)]


async def test_an_engine_that_keeps_the_queue_itself_is_sent_everything(engine: FakeEngine, made: Make) -> None:
    go = asyncio.Event()
    engine.script(CHAT, held(go, answer(200, WHOLES["relay"])))
    adapter = made("relay", max_concurrency=1, queue=0)
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        asked = [group.create_task(adapter.chat(REQUEST, Call(str(i)))) for i in range(5)]
        while len(engine.requests) < 5:
            engine.arrived.clear()
            await engine.arrived.wait()
        go.set()
    assert len(asked) == 5 and adapter.open == 0
