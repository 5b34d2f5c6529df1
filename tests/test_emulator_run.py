"""The one function behind the entrances, and lists of calls, with a backend that the test holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapters.base import Call, EventStream
from adapters.canonical import (
    ChatEvent,
    ChatRequest,
    ChatResult,
    Choice,
    Delta,
    EmbeddingRequest,
    EmbeddingResult,
    Finish,
    NativeResult,
    Usage,
)
from adapters.catalogue import Catalogue, Model
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.wire.native.payload import Payload
from wrangler_compat.answers import Answer, Binary, Json, Stream, Through, Whole
from wrangler_compat.problems import REST
from wrangler_compat.run import Ask, Runner
from wrangler_compat.universal import Step, patience, read_entries, run_first, within

pytestmark = pytest.mark.anyio

CHAT = "Text Generation"
MODELS = [
    Model(id="@cf/one/chat", task=CHAT, status="listed", native_result="response"),
    Model(id="@cf/two/chat", task=CHAT, status="listed", native_result="openai_chat"),
    Model(id="@cf/one/bad", task=CHAT, status="listed", native_result="response"),
    Model(id="@cf/one/worse", task=CHAT, status="listed", native_result="response"),
    Model(id="@cf/one/mute", task=CHAT, status="listed", native_result="response"),
    Model(id="@cf/one/odd", task="Fortune Telling", status="listed"),
    Model(id="@cf/one/bge", task="Text Embeddings", status="listed", native_result="data_shape"),
    Model(id="@cf/one/far", task=CHAT, status="listed", native_result="response"),
    Model(id="@cf/two/far", task=CHAT, status="listed", native_result="response"),
]


class Backend:
    """Answers a chat with the model's name; those called bad and worse fail, the mute one never says a word."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        await self._fate(request.model)
        return ChatResult(choices=(Choice(text=request.model, finish_reason="stop"),))

    @asynccontextmanager
    async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        if request.model != "@cf/one/mute":
            await self._fate(request.model)
        try:
            yield self._events(request.model)
        finally:
            self.closed.append(request.model)

    async def _events(self, model: str) -> AsyncIterator[list[ChatEvent]]:
        if model == "@cf/one/mute":
            await asyncio.Event().wait()
        yield [Delta(model)]
        yield [Finish("stop", Usage(prompt_tokens=1, completion_tokens=1))]

    async def _fate(self, model: str) -> None:
        match model.rpartition("/")[2]:
            case "bad":
                raise RelayError(Fault.RATE_LIMITED, "bad")
            case "worse":
                raise RelayError(Fault.UPSTREAM_ERROR, "worse")
            case "mute":
                await asyncio.Event().wait()

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResult:
        return EmbeddingResult(vectors=[])

    async def run_task(self, model: Model, inputs: Any, call: Call) -> NativeResult:
        raise NotImplementedError


class Far:
    """A Cloudflare that has the models called far; the first refuses."""

    status = 200
    headers = ()

    def __init__(self, path: str) -> None:
        self.path = path
        self.status = 429 if "one" in path else 200

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        raise NotImplementedError


@pytest.fixture
def runner() -> Runner:
    catalogue = Catalogue(MODELS, "2026-10-09")

    @asynccontextmanager
    async def forward(
        method: str, path: str, query: bytes, headers: Any, body: bytes, call: Call
    ) -> AsyncIterator[Far]:
        if body == b"0":
            raise RelayError(Fault.UPSTREAM_UNREACHABLE, "Nobody there.")
        yield Far(path)

    return Runner(lambda: catalogue, Backend(), lambda model: forward if "far" in model.id else None)


CALL = Call("req_test")


def ask(model: str, body: bytes = b'{"prompt":"a"}') -> Ask:
    return Ask(model=model, payload=Payload(body))


async def outcome(answer: Answer) -> bytes:
    """What an answer says in the end."""
    match answer:
        case Whole(work):
            done = await work()
            assert isinstance(done, Json)
            return done.body
        case Stream(encoder, events):
            async with events as batches:
                frames = b"".join([encoder.encode(batch) async for batch in batches])
            assert encoder.media_type == b"text/event-stream" and encoder.keep_alive().startswith(b":")
            return encoder.start() + frames + encoder.error(REST.INTERNAL.body())
        case Through(upstream):
            async with upstream as forwarded:
                return str(forwarded.status).encode()
    raise AssertionError(answer)


# ---------------------------------------------------------------- run


UNKNOWN: dict[str, tuple[str, str]] = {
    "one that is like others": ("@cf/one/chot", "No such model @cf/one/chot or task. Did you mean @cf/one/chat"),
    "one that is like none": ("zzzzzzzz", "No such model zzzzzzzz or task"),
    "one without a task that is known": ("@cf/one/odd", "No such model @cf/one/odd or task"),
}


@pytest.mark.parametrize(("name", "words"), UNKNOWN.values(), ids=UNKNOWN)
async def test_an_unknown_model_is_named(runner: Runner, name: str, words: str) -> None:
    with pytest.raises(RelayError) as caught:
        runner.run(ask(name), CALL)
    assert caught.value.fault is Fault.MODEL_NOT_FOUND
    assert caught.value.message.startswith(words)


async def test_a_name_of_several_models_is_told_as_such(runner: Runner) -> None:
    with pytest.raises(InvalidRequest, match="more than one model"):
        runner.run(ask("chat"), CALL)


@pytest.mark.parametrize(("name", "known"), [("@cf/one/chat", True), ("chat", True), ("openai/gpt-5", False)])
async def test_a_name_is_known_if_it_fits_a_model_or_several(runner: Runner, name: str, known: bool) -> None:
    assert runner.knows(name) is known


async def test_no_texts_have_no_dimensions(runner: Runner) -> None:
    assert await outcome(runner.run(ask("@cf/one/bge", b'{"text":"a"}'), CALL)) == b'{"shape":[0,0],"data":[]}'


async def test_a_model_may_be_refused_before_its_input_is_read(runner: Runner) -> None:
    def check(model: Model) -> None:
        raise RelayError(Fault.MODEL_NOT_FOUND, "Gone.")

    strict = Runner(runner._catalogue, Backend(), lambda model: None, check)
    with pytest.raises(RelayError, match=r"Gone\."):
        strict.run(ask("@cf/one/chat", b"{"), CALL)


# ---------------------------------------------------------------- lists of calls


def entry(model: str, query: str = '{"prompt":"a"}') -> str:
    return f'{{"provider":"workers-ai","endpoint":"{model}","query":{query}}}'


STREAMED = '{"prompt":"a","stream":true}'
FIRST: dict[str, tuple[list[str], bytes, int]] = {
    "whole": ([entry("@cf/one/chat")], b"@cf/one/chat", 0),
    "whole past a failure": ([entry("@cf/one/bad"), entry("@cf/two/chat")], b"@cf/two/chat", 1),
    "whole past two": ([entry("@cf/one/bad"), entry("@cf/one/worse"), entry("@cf/one/chat")], b"@cf/one/chat", 2),
    "whole past a stream": (
        [entry("@cf/one/bad"), entry("@cf/one/chat", STREAMED), entry("@cf/two/chat")],
        b"@cf/two/chat",
        2,
    ),
    "streamed": ([entry("@cf/one/chat", STREAMED), entry("@cf/two/chat", STREAMED)], b'{"response":"@cf/one/chat"', 0),
    "streamed past a failure, in the other's shape": (
        [entry("@cf/one/bad", STREAMED), entry("@cf/two/chat", STREAMED)],
        b'"delta":{"content":"@cf/two/chat"',
        1,
    ),
    "passed on": ([entry("@cf/two/far")], b"200", 0),
    "passed on, the second never asked": ([entry("@cf/two/far"), entry("@cf/one/far")], b"200", 0),
    "passed on past a refusal": ([entry("@cf/one/far"), entry("@cf/two/far")], b"200", 1),
    "passed on past nobody": ([entry("@cf/two/far", "0"), entry("@cf/two/far")], b"200", 1),
    "the last refusal": ([entry("@cf/two/far", "0"), entry("@cf/one/far")], b"429", 1),
}


@pytest.mark.parametrize(("entries", "said", "index"), FIRST.values(), ids=FIRST)
async def test_the_first_that_answers_is_the_answer(
    runner: Runner, entries: list[str], said: bytes, index: int
) -> None:
    step = Step()
    read = read_entries(f"[{','.join(entries)}]".encode())
    assert said in await outcome(run_first(read, runner, CALL, step))
    assert list(step) == [(b"cf-aig-step", str(index).encode())]


LAST: dict[str, list[str]] = {
    "whole": [entry("@cf/one/bad"), entry("@cf/one/worse")],
    "streamed": [entry("@cf/one/bad", STREAMED), entry("@cf/one/worse", STREAMED)],
}


@pytest.mark.parametrize("entries", LAST.values(), ids=LAST)
async def test_the_last_failure_is_told(runner: Runner, entries: list[str]) -> None:
    read = read_entries(f"[{','.join(entries)}]".encode())
    with pytest.raises(RelayError, match="worse"):
        await outcome(run_first(read, runner, CALL, Step()))


# ---------------------------------------------------------------- timeouts


TIMEOUTS: dict[str, tuple[Any, float | None]] = {
    "text": ("1500", 1.5),
    "a number": (250, 0.25),
    "nothing": (None, None),
    "a truth": (True, None),
    "a list": ([1], None),
    "words": ("soon", None),
    "not a number": ("nan", None),
    "a huge one": (10**400, None),
    "none at all": (0, None),
    "less than none": (-1, None),
    "a day": ("86400000", None),
}


@pytest.mark.parametrize(("value", "seconds"), TIMEOUTS.values(), ids=TIMEOUTS)
def test_a_timeout_is_in_milliseconds(value: Any, seconds: float | None) -> None:
    assert patience(value) == seconds


MUTE: dict[str, bytes] = {"whole": b'{"prompt":"a"}', "streamed": STREAMED.encode()}


@pytest.mark.parametrize("body", MUTE.values(), ids=MUTE)
async def test_an_answer_that_does_not_begin_is_given_up(runner: Runner, body: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        await outcome(within(0.01, runner.run(ask("@cf/one/mute", body), CALL)))
    assert caught.value.fault is Fault.UPSTREAM_TIMEOUT


@pytest.mark.parametrize("body", MUTE.values(), ids=MUTE)
async def test_an_answer_that_begins_in_time_is_whole(runner: Runner, body: bytes) -> None:
    plain = await outcome(runner.run(ask("@cf/one/chat", body), CALL))
    timed = await outcome(within(60, runner.run(ask("@cf/one/chat", body), CALL)))
    assert (b'"response":"@cf/one/chat"' in plain) and (b"[DONE]" in plain) == (b"[DONE]" in timed)
    assert len(timed.split(b"\n\n")) == len(plain.split(b"\n\n"))


async def test_an_answer_that_is_passed_on_in_time_is_whole(runner: Runner) -> None:
    assert await outcome(within(60, runner.run(ask("@cf/two/far"), CALL))) == b"200"


async def test_a_timeout_that_is_not_ours_stays_what_it_is() -> None:
    async def work() -> Json | Binary:
        raise TimeoutError("another's")

    with pytest.raises(TimeoutError, match="another's"):
        await outcome(within(60, Whole(work)))


async def test_a_stream_without_an_event_stays_without_one() -> None:
    @asynccontextmanager
    async def nothing() -> AsyncIterator[EventStream]:
        async def events() -> EventStream:
            return
            yield

        yield events()

    timed = within(60, Stream(None, nothing()))  # type: ignore[arg-type]  # nothing to encode
    assert isinstance(timed, Stream)
    async with timed.events as batches:
        assert [batch async for batch in batches] == []
