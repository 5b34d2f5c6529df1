"""Streams over real sockets: the four cells, what ends a stream, and what may not look like an end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Send

from tests.support.cloudflare import (
    HELLO,
    HELLO_STREAM,
    USAGE,
    Asked,
    Script,
    Step,
    answer,
    failure,
    frames,
    hello,
    result,
    stream,
)
from tests.support.raw_http import STREAM_HEAD, chat_request, chunk, connected, dechunked, playing, reset
from tests.support.relay import MODEL, OPENAI_MODEL, Rig, asking, calling, relaying, relaying_to
from tests.support.servers import DEADLINE
from tests.support.simulated_time import simulated
from tests.support.streams import CHAT, broken, chunks, listening, payloads, reasons_of, text_of

pytestmark = pytest.mark.anyio

CLASSIC = "classic"
OPENAI = "openai"


def classic(text: str) -> bytes:
    return frames({"response": text, "p": "ab"})


def openai_chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
    return frames({"id": "x", "object": "chat.completion.chunk", "created": 1, "choices": [choice]})


PIECES: dict[str, Callable[[str], bytes]] = {CLASSIC: classic, OPENAI: lambda text: openai_chunk({"content": text})}
TAIL = frames({"response": "", "usage": USAGE})
END = frames("[DONE]")
WHOLE = {
    CLASSIC: stream(classic("Hello"), classic(" there"), TAIL + END),
    OPENAI: stream(
        openai_chunk({"role": "assistant", "content": ""}),
        openai_chunk({"content": "Hello"}),
        openai_chunk({"content": " there"}),
        openai_chunk({}, "stop"),
        TAIL + END,
    ),
}
MODELS = {CLASSIC: MODEL, OPENAI: OPENAI_MODEL}
SHAPES = pytest.mark.parametrize("shape", [CLASSIC, OPENAI])


@pytest.fixture(scope="module")
async def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with relaying(tmp_path_factory.mktemp("state")) as rig:
        yield rig


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    shared_rig.cloudflare.reset()
    return shared_rig


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(rig.url) as client:
        yield client


def asked_to_stream(rig: Rig) -> list[bool]:
    return [asked.json["stream"] for asked in rig.cloudflare.runs]


# ---------------------------------------------------------------- the four cells


async def test_json_from_json(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, HELLO)
    response = await client.post(CHAT, json=asking())
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "Hello there"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == 11 and body["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    assert asked_to_stream(rig) == [False]


@SHAPES
async def test_a_native_stream_is_transcoded_chunk_by_chunk(rig: Rig, client: httpx.AsyncClient, shape: str) -> None:
    rig.cloudflare.script(MODELS[shape], WHOLE[shape])
    async with listening(client, model=MODELS[shape], stream_options={"include_usage": True}) as listener:
        parts = chunks(await listener.rest())
    headers = listener.response.headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-accel-buffering"] == "no" and headers["cache-control"] == "no-cache"
    assert "content-encoding" not in headers
    assert [chunk["choices"][0]["delta"] for chunk in parts if chunk["choices"]] == [
        {"role": "assistant", "content": ""},
        {"content": "Hello"},
        {"content": " there"},
        {},
    ]
    assert reasons_of(parts) == ["stop"]
    assert parts[-1]["choices"] == [] and parts[-1]["usage"]["total_tokens"] == 11
    assert asked_to_stream(rig) == [True]


@pytest.mark.parametrize("with_usage", [False, True])
async def test_a_synthetic_stream_is_three_chunks(rig: Rig, client: httpx.AsyncClient, with_usage: bool) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Oslo"}}
    rig.cloudflare.script(MODEL, result({"response": "<think>Hm.</think>Yes", "tool_calls": [call], "usage": USAGE}))
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if with_usage else {}
    async with listening(client, headers={"x-relay-stream": "synthetic"}, **options) as listener:
        parts = chunks(await listener.rest())
    role, content, stop, *usage = parts
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    delta = content["choices"][0]["delta"]
    assert delta["content"] == "Yes" and delta["reasoning_content"] == "Hm."
    assert delta["tool_calls"][0]["function"]["name"] == "get_weather"
    assert stop["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}
    assert [chunk["choices"] for chunk in usage] == ([[]] if with_usage else [])
    assert asked_to_stream(rig) == [False]
    assert "x-relay-changes" not in listener.response.headers


async def test_a_long_synthetic_content_is_split_into_lines_that_every_reader_takes(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    text = "ä€😀 \u2028" * 30_000
    rig.cloudflare.script(MODEL, result({"response": text, "usage": USAGE}))
    async with listening(client, headers={"x-relay-stream": "synthetic"}) as listener:
        body = await listener.rest()
    assert text_of(chunks(body)) == text
    assert max(map(len, body.split(b"\n"))) < 64 * 1024


@SHAPES
async def test_json_is_aggregated_from_a_model_that_streams_regardless(
    rig: Rig, client: httpx.AsyncClient, shape: str
) -> None:
    rig.cloudflare.script(MODELS[shape], WHOLE[shape])
    body = (await client.post(CHAT, json=asking(model=MODELS[shape]))).json()
    assert body["choices"][0]["message"]["content"] == "Hello there"
    assert body["choices"][0]["finish_reason"] == "stop" and body["usage"]["total_tokens"] == 11
    assert asked_to_stream(rig) == [False]


async def test_json_is_aggregated_after_cloudflare_gave_up_waiting_for_a_whole_answer(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    rig.cloudflare.script(MODEL, failure(408, 3046, "AiError: Request timeout"), HELLO_STREAM)
    response = await client.post(CHAT, json=asking())
    assert response.json()["choices"][0]["message"]["content"] == "Hello there"
    assert asked_to_stream(rig) == [False, True]


async def test_an_aggregated_stream_that_breaks_is_no_answer(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, stream(classic("Hel")))
    response = await client.post(CHAT, json=asking())
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_error")


# ---------------------------------------------------------------- models that cannot stream


async def test_json_in_answer_to_a_stream_request_becomes_a_stream(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, HELLO)
    async with listening(client) as listener:
        parts = chunks(await listener.rest())
    assert (text_of(parts), reasons_of(parts)) == ("Hello there", ["stop"])
    assert asked_to_stream(rig) == [True]


@pytest.mark.parametrize(
    "empty", [result({}), result(None), result({"response": None}), result("")], ids=["{}", "null", "no text", "''"]
)
async def test_an_empty_result_to_a_stream_request_is_asked_again_whole_and_remembered(
    tmp_path: Path, empty: Script
) -> None:
    async def play(asked: Asked, send: Send) -> None:
        await (empty if asked.json["stream"] else HELLO)(asked, send)

    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, play)
        for _ in range(2):
            async with listening(client) as listener:
                parts = chunks(await listener.rest())
            assert (text_of(parts), reasons_of(parts), len(parts)) == ("Hello there", ["stop"], 3)
        assert asked_to_stream(rig) == [True, False, False]


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
async def test_json_mode_with_a_stream_becomes_synthetic(rig: Rig, client: httpx.AsyncClient, kind: str) -> None:
    rig.cloudflare.script(MODEL, result({"response": {"city": "Oslo"}, "usage": USAGE}))
    wanted: dict[str, Any] = {"type": kind}
    if kind == "json_schema":
        wanted["json_schema"] = {"name": "place", "schema": {"type": "object"}}
    async with listening(client, response_format=wanted) as listener:
        parts = chunks(await listener.rest())
    assert json.loads(text_of(parts)) == {"city": "Oslo"} and len(parts) == 3
    assert asked_to_stream(rig) == [False]


async def test_5023_is_answered_by_a_synthetic_stream_and_not_remembered(rig: Rig, client: httpx.AsyncClient) -> None:
    async def play(asked: Asked, send: Send) -> None:
        await (
            failure(400, 5023, "JSON Schema mode is not supported with stream mode.") if asked.json["stream"] else HELLO
        )(asked, send)

    rig.cloudflare.script(MODEL, play)
    for _ in range(2):
        async with listening(client) as listener:
            assert text_of(chunks(await listener.rest())) == "Hello there"
    assert asked_to_stream(rig) == [True, False, True, False]


# ---------------------------------------------------------------- pace


@SHAPES
async def test_each_chunk_passes_at_once_while_the_upstream_holds_the_rest(
    rig: Rig, client: httpx.AsyncClient, shape: str
) -> None:
    second, end = asyncio.Event(), asyncio.Event()
    piece = PIECES[shape]
    tail = classic("") if shape == CLASSIC else openai_chunk({}, "stop")
    script = stream(piece("one"), Step(piece("two"), second), Step(tail + TAIL + END, end))
    rig.cloudflare.script(MODELS[shape], script)
    async with listening(client, model=MODELS[shape]) as listener:
        await listener.until(b'"one"')
        assert b"two" not in listener.body
        second.set()
        await listener.until(b'"two"')
        assert b'"stop"' not in listener.body
        end.set()
        assert reasons_of(chunks(await listener.rest())) == ["stop"]


async def test_the_end_passes_at_once_while_the_upstream_holds_its_connection(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    never = asyncio.Event()
    rig.cloudflare.script(MODEL, stream(classic("Hi") + TAIL + END, Step(b": more\n\n", never)))
    async with listening(client) as listener:
        assert text_of(chunks(await listener.rest())) == "Hi"
    assert not never.is_set()


async def test_many_streams_at_once_do_not_mix(rig: Rig, client: httpx.AsyncClient) -> None:
    everyone = asyncio.Barrier(50)

    async def echo(asked: Asked, send: Send) -> None:
        word = asked.json["messages"][0]["content"]
        here = asyncio.Event()

        async def wait_for_all() -> None:
            await everyone.wait()
            here.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(wait_for_all())
            pieces = [classic(f"{word}:{i} ") for i in range(20)]
            await stream(pieces[0], Step(pieces[1], here), *pieces[2:], TAIL + END)(asked, send)

    rig.cloudflare.script(MODEL, echo)
    answers: dict[str, list[dict[str, Any]]] = {}

    async def one(word: str) -> None:
        async with listening(client, word) as listener:
            answers[word] = chunks(await listener.rest())

    async with asyncio.TaskGroup() as group:
        for n in range(50):
            group.create_task(one(f"w{n}"))
    assert {word: text_of(parts) for word, parts in answers.items()} == {
        f"w{n}": "".join(f"w{n}:{i} " for i in range(20)) for n in range(50)
    }
    assert len({chunk["id"] for parts in answers.values() for chunk in parts}) == 50


# ---------------------------------------------------------------- what goes wrong before the first event

EARLY: dict[str, tuple[Script, int, str]] = {
    "an error": (failure(403, 5035), 403, "plan_required"),
    "a stream without a frame": (stream(b""), 502, "upstream_error"),
    "a stream of comments alone": (stream(b": hello\n\n"), 502, "upstream_error"),
    "a stream that only ends": (stream(END), 502, "upstream_error"),
    "a first frame that is an error": (
        stream(frames({"errors": [{"code": 3040, "message": "x"}]})),
        429,
        "rate_limit_exceeded",
    ),
    "a first frame that cannot be read": (stream(b"data: {oops\n\n"), 502, "upstream_error"),
    "a page of a proxy": (answer(200, b"<html>", media_type="text/html"), 502, "upstream_error"),
    "a failure that calls itself a success": (answer(200, {"success": False, "errors": []}), 502, "upstream_error"),
    "a cut before the first frame": (stream(b"data: {", cut=True), 502, "upstream_error"),
}


@pytest.mark.parametrize(("script", "status", "code"), EARLY.values(), ids=EARLY)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_errors_before_the_first_event_are_statuses(
    rig: Rig, client: httpx.AsyncClient, script: Script, status: int, code: str, streamed: bool
) -> None:
    model = f"@cf/early/m{status}-{code}"  # what one test teaches of a model is not for the next
    rig.cloudflare.script(model, script)
    response = await client.post(CHAT, json=asking(model=model, stream=streamed))
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers["content-type"] == "application/json"


async def test_silence_before_the_first_event_is_a_timeout(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with relaying(tmp_path, first_byte_timeout=0.1, retries=0) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, stream(Step(b"", never), Step(classic("late"), never)))
        for streamed in (False, True):
            response = await client.post(CHAT, json=asking(stream=streamed))
            assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")


# ---------------------------------------------------------------- what goes wrong later

LATE: dict[str, tuple[bytes, bool, str]] = {
    "the body ends without a terminator": (b"", False, "upstream_error"),
    "the body ends in the middle of a frame": (b'data: {"resp', False, "upstream_error"),
    "a frame cannot be decoded": (b"data: {oops}\n\n" + TAIL + END, False, "upstream_error"),
    "a frame is an error": (frames({"error": {"message": "it broke"}}, "[DONE]"), False, "upstream_error"),
    "a frame is one of Cloudflare's errors": (
        frames({"errors": [{"code": 3040, "message": "AiError: no capacity"}]}),
        False,
        "rate_limit_exceeded",
    ),
    "generation failed in OpenAI's words": (openai_chunk({}, "error") + END, False, "upstream_error"),
    "the connection is cut": (b"", True, "upstream_error"),
    "the connection is cut in the middle of a frame": (b'data: {"resp', True, "upstream_error"),
}


async def sent_in_band(rig: Rig, seen: asyncio.Event) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What a client gets that sets `seen` once the first text is there, then reads until the relay closes."""
    async with connected(rig.relay.port) as connection:
        await connection.send(chat_request(asking(stream=True, stream_options={"include_usage": True})))
        assert (await connection.head()).status == 200
        begun = await connection.until(b"Hel")
        seen.set()
        body, _ = dechunked(begun + await connection.to_end())
    return broken(body)


@pytest.mark.parametrize(("fault", "cut", "code"), LATE.values(), ids=LATE)
async def test_errors_after_the_first_event_are_one_frame_and_a_closed_connection(
    rig: Rig, fault: bytes, cut: bool, code: str
) -> None:
    seen = asyncio.Event()
    rig.cloudflare.script(MODEL, stream(classic("Hel"), Step(fault, seen), cut=cut))
    parts, error = await sent_in_band(rig, seen)
    assert text_of(parts) == "Hel"
    assert error["code"] == code and error["type"] in ("server_error", "rate_limit_error")
    assert len(rig.cloudflare.runs) == 1, "nothing may be tried again once the client has seen a part"


@simulated
async def test_silence_past_the_idle_timeout_is_an_error_in_band(tmp_path: Path) -> None:
    clock = asyncio.get_running_loop().time
    async with relaying(tmp_path, idle_timeout=9) as rig:
        rig.cloudflare.script(MODEL, stream(classic("Hel"), Step(TAIL + END, asyncio.Event())))
        started = clock()
        _, error = await sent_in_band(rig, asyncio.Event())
        assert clock() - started == pytest.approx(9, abs=0.1)
    assert error["code"] == "upstream_timeout"


async def test_a_reset_by_the_upstream_is_an_error_in_band(tmp_path: Path) -> None:
    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(classic("Hel")))
        await writer.drain()
        await seen.wait()
        reset(writer)

    seen = asyncio.Event()
    async with playing(play) as url, relaying_to(url, tmp_path) as (relay, _), connected(relay.port) as connection:
        await connection.send(chat_request(asking(stream=True)))
        await connection.head()
        begun = await connection.until(b"Hel")
        seen.set()
        body, _ = dechunked(begun + await connection.to_end())
    parts, error = broken(body)
    assert text_of(parts) == "Hel" and error["code"] == "upstream_error"


HARMLESS: dict[str, Callable[[], Script]] = {
    "the body ends": lambda: stream(openai_chunk({"content": "Hi"}), openai_chunk({}, "stop")),
    "the connection is cut": lambda: stream(openai_chunk({"content": "Hi"}), openai_chunk({}, "stop"), cut=True),
    "silence": lambda: stream(openai_chunk({"content": "Hi"}), openai_chunk({}, "stop"), Step(TAIL, asyncio.Event())),
    "the body ends inside the usage": lambda: stream(
        openai_chunk({"content": "Hi"}), openai_chunk({}, "stop"), b'data: {"usage":'
    ),
    "a frame that cannot be read": lambda: stream(
        openai_chunk({"content": "Hi"}), openai_chunk({}, "stop") + b"data: {oops\n\n", END
    ),
    "the usage tail is the end": lambda: stream(classic("Hi"), TAIL),
    "the usage tail is the end, and cut": lambda: stream(classic("Hi"), TAIL, cut=True),
}


@pytest.mark.parametrize("script", HARMLESS.values(), ids=HARMLESS)
@simulated
async def test_nothing_that_happens_after_the_answer_was_whole_is_an_error(
    tmp_path: Path, script: Callable[[], Script]
) -> None:
    async with relaying(tmp_path, idle_timeout=9) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, script())
        async with listening(client) as listener:
            parts = chunks(await listener.rest())
    assert (text_of(parts), reasons_of(parts)) == ("Hi", ["stop"])


async def test_what_came_in_one_read_with_a_bad_frame_reaches_the_client(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, stream(classic("Hi") + b"data: {oops\n\n"))
    async with listening(client) as listener:
        parts = [json.loads(data) for data in payloads(await listener.rest())]
    assert [part["choices"][0]["delta"] for part in parts[:-1]] == [
        {"role": "assistant", "content": ""},
        {"content": "Hi"},
    ]
    assert parts[-1]["error"]["code"] == "upstream_error"


async def test_a_connection_serves_on_after_a_whole_stream(rig: Rig) -> None:
    rig.cloudflare.script(MODEL, hello)
    async with connected(rig.relay.port) as connection:
        for _ in range(2):
            await connection.send(chat_request(asking(stream=True)))
            assert (await connection.head()).headers["transfer-encoding"] == "chunked"
            body, ended = dechunked(await connection.until(b"0\r\n\r\n"))
            assert ended and text_of(chunks(body)) == "Hello there"


# ---------------------------------------------------------------- ends that the relay decides on


async def test_a_stop_sequence_cuts_the_stream_and_the_usage_tail_is_still_read(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    rig.cloudflare.script(MODEL, stream(classic("one E"), classic("ND two"), classic(" three"), TAIL + END))
    async with listening(client, stop=["END"], stream_options={"include_usage": True}) as listener:
        parts = chunks(await listener.rest())
    assert (text_of(parts), reasons_of(parts)) == ("one ", ["stop"])
    assert parts[-1]["usage"]["total_tokens"] == 11 and "estimated" not in parts[-1]["usage"]
    assert listener.response.headers["x-relay-changes"] == "stop=emulated"


@simulated
async def test_a_cut_answer_waits_two_seconds_for_its_usage_and_no_longer(tmp_path: Path) -> None:
    script = stream(classic("one END"), Step(TAIL + END, asyncio.Event()))
    clock = asyncio.get_running_loop().time
    async with relaying(tmp_path, keepalive_form="off") as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, script)
        async with listening(client, stop="END", stream_options={"include_usage": True}) as listener:
            await listener.until(b"one ")
            started = clock()
            parts = chunks(await listener.rest())
        assert clock() - started == pytest.approx(2, abs=0.1)
        assert (text_of(parts), reasons_of(parts)) == ("one ", ["stop"])
        assert parts[-1]["usage"]["estimated"] is True
        async with asyncio.timeout(DEADLINE):
            await rig.cloudflare.runs[0].gone.wait()


REASONS: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "none told": (classic("Hi"), {}, "stop"),
    "none told, and the tokens reached the limit": (classic("Hi"), {"max_tokens": 2}, "length"),
    "length told": (classic("Hi") + frames({"finish_reason": "length"}), {}, "length"),
    "calls without a reason": (
        frames({"tool_calls": [{"id": "c", "index": 0, "function": {"name": "f", "arguments": "{}"}}]}),
        {},
        "tool_calls",
    ),
}


@pytest.mark.parametrize(("piece", "fields", "reason"), REASONS.values(), ids=REASONS)
@pytest.mark.parametrize("streamed", [False, True], ids=["aggregated", "streamed"])
async def test_there_is_one_truthful_finish_reason(
    rig: Rig, client: httpx.AsyncClient, piece: bytes, fields: dict[str, Any], reason: str, streamed: bool
) -> None:
    rig.cloudflare.script(MODEL, stream(piece, TAIL + END))
    response = await client.post(CHAT, json=asking(stream=streamed, **fields))
    if streamed:
        assert reasons_of(chunks(response.content)) == [reason]
    else:
        assert response.json()["choices"][0]["finish_reason"] == reason


async def test_usage_that_nobody_reported_is_estimated_and_says_so(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, stream(classic("Hello there"), END))
    async with listening(client, stream_options={"include_usage": True}) as listener:
        usage = chunks(await listener.rest())[-1]["usage"]
    assert usage["estimated"] is True and usage["prompt_tokens"] > 0 and usage["completion_tokens"] > 0


async def test_explicit_zeros_are_kept(rig: Rig, client: httpx.AsyncClient) -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    rig.cloudflare.script(MODEL, stream(classic("Hi"), frames({"response": "", "usage": zeros}, "[DONE]")))
    async with listening(client, stream_options={"include_usage": True}) as listener:
        usage = chunks(await listener.rest())[-1]["usage"]
    assert usage["total_tokens"] == 0 and "estimated" not in usage


async def test_without_include_usage_no_chunk_is_without_a_choice(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, hello)
    async with listening(client) as listener:
        parts = chunks(await listener.rest())
    assert all(len(chunk["choices"]) == 1 and "usage" not in chunk for chunk in parts)


async def test_text_with_lone_surrogates_passes_both_ways(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, stream(b'data: {"response":"a\\ud83d"}\n\n', TAIL + END))
    body = json.dumps(asking("x\ud800y", stream=True)).encode()
    response = await client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert text_of(chunks(response.content)) == "a\ufffd"
    assert rig.cloudflare.runs[0].json["messages"][0]["content"] == "x\ufffdy"


async def test_a_stream_frame_is_data_and_nothing_else(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, stream(classic("a\u2028b\r\nc\u0085"), TAIL + END))
    async with listening(client) as listener:
        body = await listener.rest()
    assert text_of(chunks(body)) == "a\u2028b\r\nc\u0085"
    assert payloads(body)[-1] == "[DONE]" and b"\r" not in body
