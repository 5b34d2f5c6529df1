"""`adapters.local.serving.app` and `chat`: OpenAI's interface over a played engine, on real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from adapters.canonical import Change
from adapters.engine_health import read_gauges
from adapters.local.inference.errors import (
    EngineClosed,
    EngineDead,
    InferenceError,
    InputTooLong,
    InvalidJob,
    JobFailed,
    PromptTooLong,
    QueueFull,
)
from adapters.local.inference.folder import EmbeddingCard
from adapters.local.inference.request import Finish, Step
from adapters.local.own import TENANT
from adapters.local.serving.app import Model, create_app
from adapters.local.serving.embeddings import EmbeddingService
from adapters.local.serving.http import Client
from adapters.profiles import PROFILES
from adapters.wire.changes import HEADER
from tests.serving.played import CONTEXT, END, PlayedEngine, PlayedWriter, chatting, steps
from tests.support.servers import DEADLINE, serving

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
HI = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}


@asynccontextmanager
async def calling(model: Model, deaths: list[str] | None = None) -> AsyncIterator[httpx.AsyncClient]:
    told = [] if deaths is None else deaths
    async with (
        serving(create_app(model, told.append)) as served,
        httpx.AsyncClient(base_url=served.url, timeout=DEADLINE) as client,
    ):
        yield client


def chunks(response: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [json.loads(line) if line != "[DONE]" else line for line in lines]


async def test_a_whole_answer_in_openais_form() -> None:
    engine = PlayedEngine(steps("Hi there"))
    async with calling(chatting(engine)) as client:
        response = await client.post(CHAT, json=HI)
    body = response.json()
    assert response.status_code == 200 and body["model"] == "tiny" and body["object"] == "chat.completion"
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hi there", "refusal": None}
    assert choice["finish_reason"] == "stop" and choice["logprobs"] is None
    assert body["usage"] == {
        **{"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16},
        **{"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 0}},
    }


async def test_a_job_has_what_the_request_says() -> None:
    engine = PlayedEngine(steps("x"), steps("x"))
    async with calling(chatting(engine, temperature=0.6)) as client:
        await client.post(CHAT, json=HI | {"max_tokens": 5, "seed": 3, "logprobs": True, "top_logprobs": 2})
        await client.post(CHAT, json=HI)
    job, silent = engine.jobs[0].job, engine.jobs[1].job
    assert job.prompt_ids == [ord(character) for character in "Hello"] and job.stop_ids == {END}
    assert (job.max_tokens, job.logprobs, job.sampling.seed, job.sampling.temperature) == (5, 2, 3, 0.6)
    assert (silent.max_tokens, silent.logprobs, silent.constraint) == (engine.context, None, None)


async def test_a_job_is_salted_with_the_tenant_that_the_relay_names() -> None:
    engine = PlayedEngine(*[steps("x")] * 4)
    async with calling(chatting(engine)) as client:
        await client.post(CHAT, json=HI | {"n": 2}, headers={TENANT: "key-1a2b3c4d"})
        await client.post(CHAT, json=HI, headers={TENANT: "key-99999999"})
        await client.post(CHAT, json=HI)
    assert [job.job.salt for job in engine.jobs] == ["key-1a2b3c4d", "key-1a2b3c4d", "key-99999999", ""]


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_the_model_has_no_use_for_is_told_in_a_header(streamed: bool) -> None:
    engine = PlayedEngine(*[steps("x")] * 2)
    changed = PlayedWriter()
    changed.changes = (Change("messages[].name", "dropped"),)
    odd = {"verbosity": "low", "odd, field": 1, "max_tokens": CONTEXT, "stream": streamed}
    async with calling(chatting(engine, changed)) as client:
        told = await client.post(CHAT, json=HI | odd)
    assert told.headers[HEADER] == (
        "verbosity=dropped, odd%2C%20field=ignored, max_tokens=clamped, messages[].name=dropped"
    )
    async with calling(chatting(engine)) as client:
        assert HEADER not in (await client.post(CHAT, json=HI | {"stream": streamed, "max_tokens": 1})).headers


async def test_a_stream_ends_with_its_reason_its_usage_and_done() -> None:
    engine = PlayedEngine(steps("[hm]Hi{1}"))
    async with calling(chatting(engine)) as client:
        response = await client.post(CHAT, json=HI | {"stream": True, "stream_options": {"include_usage": True}})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *parts, finish, usage, done = chunks(response)
    deltas = [part["choices"][0]["delta"] for part in parts]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "hm"
    assert "".join(delta.get("content", "") for delta in deltas) == "Hi"
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert calls[0]["function"]["name"] == "f" and calls[1]["function"]["arguments"] == "1"
    assert finish["choices"][0]["finish_reason"] == "tool_calls"
    assert usage["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3} and done == "[DONE]"


async def test_what_has_come_together_goes_out_in_one_write() -> None:
    engine = PlayedEngine()
    async with (
        calling(chatting(engine)) as client,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(_say_later(engine))
        async with client.stream("POST", CHAT, json=HI | {"stream": True}) as response:
            pieces = [piece async for piece in response.aiter_raw()]
    assert len(pieces) <= 3 and pieces[-1].endswith(b"data: [DONE]\n\n")
    assert sum(piece.count(b"data: ") for piece in pieces) == 20 + 3


async def _say_later(engine: PlayedEngine) -> None:
    (await engine.job()).say(*steps("x" * 20))


async def test_several_answers_to_one_prompt() -> None:
    engine = PlayedEngine(steps("one"), steps("two", "length"))
    writer = PlayedWriter()
    async with calling(chatting(engine, writer)) as client:
        asked = HI | {"n": 2, "seed": 5, "response_format": {"type": "json_object"}}
        body = (await client.post(CHAT, json=asked)).json()
    told = [(choice["message"]["content"], choice["finish_reason"]) for choice in body["choices"]]
    assert told == [("one", "stop"), ("two", "length")]
    assert [job.job.sampling.seed for job in engine.jobs] == [5, 6] and writer.constraints == 2
    assert engine.jobs[0].job.constraint is not engine.jobs[1].job.constraint
    assert body["usage"]["prompt_tokens"] == 7 and body["usage"]["completion_tokens"] == 7


async def test_of_several_answers_one_that_fails_fails_all_and_frees_their_places() -> None:
    failed = Step(None, Finish("error", 7, 0, 0, JobFailed("no numbers")))
    engine = PlayedEngine([failed], steps("on and on", None))
    async with calling(chatting(engine)) as client:
        response = await client.post(CHAT, json=HI | {"n": 2})
    assert response.status_code == 500 and response.json()["error"]["code"] == "generation_failed"
    assert engine.jobs[1].cancelled.is_set()


async def test_a_stream_that_fails_before_its_first_event_has_a_status_of_its_own() -> None:
    engine = PlayedEngine([Step(None, Finish("error", 7, 0, 0, JobFailed("no numbers")))])
    async with calling(chatting(engine)) as client:
        response = await client.post(CHAT, json=HI | {"stream": True})
    assert response.status_code == 500 and response.json()["error"]["code"] == "generation_failed"


async def test_who_has_left_by_the_time_that_work_begins_has_it_cancelled_at_once() -> None:
    messages = iter([{"type": "http.request"}, {"type": "http.disconnect"}])
    cancelled: list[str] = []

    async def receive() -> Any:
        return next(messages)

    client = Client()
    await client.leaves(receive)
    client.cares_for(lambda: cancelled.append("at once"))
    assert client.gone and cancelled == ["at once"]


async def test_a_long_prompt_is_written_beside_the_event_loop() -> None:
    engine = PlayedEngine(steps("ok"), steps("ok"))
    turns = [{"role": "user", "content": [{"type": "text", "text": "x" * 9000}]}]
    async with calling(chatting(engine)) as client:
        assert (await client.post(CHAT, json=HI | {"messages": turns})).status_code == 200
        turns[0]["content"] = [
            {"type": "text", "text": "x"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        ]
        assert (await client.post(CHAT, json=HI | {"messages": turns})).status_code == 200


async def test_a_stop_string_frees_the_place_and_ends_the_answer() -> None:
    engine = PlayedEngine(steps("one. two", None))
    async with calling(chatting(engine)) as client:
        body = (await client.post(CHAT, json=HI | {"stop": "."})).json()
    assert body["choices"][0]["message"]["content"] == "one" and body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 4 and engine.jobs[0].cancelled.is_set()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_frees_its_place_at_once(streamed: bool) -> None:
    engine = PlayedEngine()
    async with calling(chatting(engine)) as client:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(client.post(CHAT, json=HI | {"stream": streamed})) for _ in range(3)]
            jobs = [await engine.job(index) for index in range(3)]
            for job in jobs:
                job.say(*steps("begun", None))
            asked[1].cancel()
            async with asyncio.timeout(DEADLINE):
                done, _ = await asyncio.wait(
                    [group.create_task(job.cancelled.wait()) for job in jobs], return_when=asyncio.FIRST_COMPLETED
                )
            cancelled = [job.cancelled.is_set() for job in jobs]
            running = read_gauges((await client.get("/metrics")).content, PROFILES["relay"].gauges)  # type: ignore[arg-type]
            for job in jobs:
                job.cancelled.set()
                job.say(*steps(" and ended"))
        assert len(done) == 1 and sorted(cancelled) == [False, False, True]
        assert running is not None and running.running == 2
        answers = [task.result() for task in asked if not task.cancelled()]
        assert len(answers) == 2 and all("ended" in answer.text.replace('"}', "") or streamed for answer in answers)


async def test_who_leaves_before_the_whole_request_is_there_is_nobody() -> None:
    engine = PlayedEngine()
    async with serving(create_app(chatting(engine), lambda reason: None)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with httpx.AsyncClient(base_url=served.url) as client:
            assert (await client.get("/health")).status_code == 200
    assert engine.jobs == []


REFUSALS: dict[str, tuple[InferenceError, int, str, str | None, str]] = {
    "a long prompt": (
        PromptTooLong(300, 200),
        400,
        "context_length_exceeded",
        "messages",
        "This model's maximum context length is 200 tokens.",
    ),
    "a wrong value": (InvalidJob("min_p", "must be in 0..1"), 400, "invalid_value", "min_p", "must be in 0..1"),
    "a value with another name": (InvalidJob("logprobs", "too many"), 400, "invalid_value", "top_logprobs", "too many"),
    "a full queue": (QueueFull(7.2), 429, "rate_limit_exceeded", None, "Try again in 8 s."),
    "a stopped engine": (EngineClosed("the engine was stopped"), 503, "engine_stopped", None, "being stopped"),
    "a dead engine": (EngineDead("the engine failed: OutOfMemoryError"), 500, "engine_failed", None, "started anew"),
}  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("refusal", "status", "code", "param", "words"), REFUSALS.values(), ids=REFUSALS)
async def test_what_the_engine_refuses_is_told_in_openais_words(
    refusal: InferenceError, status: int, code: str, param: str | None, words: str, streamed: bool
) -> None:
    deaths: list[str] = []
    engine = PlayedEngine()
    engine.refusal = refusal
    async with calling(chatting(engine), deaths) as client:
        response = await client.post(CHAT, json=HI | {"stream": streamed})
        health = (await client.get("/health")).status_code
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param) and words in error["message"]
    assert response.headers.get("retry-after") == ("8" if status == 429 else None)
    dead = isinstance(refusal, EngineDead)
    assert health == (500 if dead else 200)
    assert deaths == (["the engine failed: OutOfMemoryError", "the engine failed"] if dead else [])


async def test_an_engine_that_dies_in_the_middle_of_a_stream_is_told_in_band_and_to_the_process() -> None:
    dead = EngineDead("the engine failed: AcceleratorError")
    deaths: list[str] = []
    engine = PlayedEngine([*steps("Hi", None)])
    async with calling(chatting(engine), deaths) as client, asyncio.TaskGroup() as group:
        asked = group.create_task(client.post(CHAT, json=HI | {"stream": True}))
        job = await engine.job()
        job.say(Step(None, Finish("error", 7, 0, 2, dead)))
    *parts, error = chunks(asked.result())
    assert error["error"]["code"] == "engine_failed" and "[DONE]" not in parts
    assert deaths == ["the engine failed: AcceleratorError"]


REQUESTS: dict[str, tuple[dict[str, Any], int, str, str | None]] = {
    "another model": ({"model": "gpt-4"}, 404, "model_not_found", "model"),
    "no turns": ({"messages": []}, 400, "empty_array", "messages"),
    "an adapter": ({"lora": "mine"}, 400, "unsupported_parameter", "lora"),
    "a bias for no token": ({"logit_bias": {"999": 1}}, 400, "invalid_value", "logit_bias"),
    "a temperature of water": ({"temperature": 100}, 400, "decimal_above_max_value", "temperature"),
}


@pytest.mark.parametrize(("fields", "status", "code", "param"), REQUESTS.values(), ids=REQUESTS)
async def test_a_wrong_request_is_refused_by_its_field(
    fields: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    engine = PlayedEngine()
    async with calling(chatting(engine)) as client:
        response = await client.post(CHAT, json=HI | fields)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert engine.jobs == []


async def test_other_names_and_the_other_model_list() -> None:
    async with calling(chatting(PlayedEngine(steps("x")))) as client:
        assert (await client.post(CHAT, json=HI | {"model": "small"})).json()["model"] == "small"
        rows = (await client.get("/v1/models")).json()["data"]
    assert [(row["id"], row["object"], row["context_window"]) for row in rows] == [
        ("tiny", "model", 200),
        ("small", "model", 200),
    ]


@pytest.mark.parametrize(
    ("path", "status", "code"), [("/v1/nothing", 404, "unknown_url"), (CHAT, 405, "method_not_allowed")]
)
async def test_errors_of_the_router_have_openais_form(path: str, status: int, code: str) -> None:
    async with calling(chatting(PlayedEngine())) as client:
        response = await client.get(path)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_a_bug_is_told_without_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(PlayedWriter):
        def draft(self, request: Any, tenant: str) -> Any:
            raise RuntimeError(request.messages[0].content)

    async with calling(chatting(PlayedEngine(), Broken())) as client:
        response = await client.post(CHAT, json=HI)
    assert response.status_code == 500 and response.json()["error"]["code"] == "internal_error"
    assert "Hello" not in response.text + caplog.text and "RuntimeError" in caplog.text


async def test_a_request_without_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.local.serving.http.LARGEST_BODY", 10)
    async with calling(chatting(PlayedEngine())) as client:
        response = await client.post(CHAT, json=HI)
    assert response.status_code == 413 and response.json()["error"]["code"] == "request_too_large"


async def test_gauges_are_those_that_the_relay_reads() -> None:
    gauges = PROFILES["relay"].gauges
    assert gauges is not None
    async with calling(chatting(PlayedEngine())) as client:
        response = await client.get("/metrics")
    load = read_gauges(response.content, gauges)
    assert load is not None and (load.running, load.waiting, load.cache) == (0, 2, 0.25)
    assert b"# TYPE relay_engine_generated_tokens_total counter\n" in response.content


# ---------------------------------------------------------------- embeddings


class Tokenizer:
    """A token a character."""

    def __call__(self, texts: list[str], verbose: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(character) for character in text] for text in texts]}


class Lengths:
    """Vectors of a text's length and first token."""

    dead = False
    max_tokens = 12

    def __init__(self, card: EmbeddingCard | None = None) -> None:
        self.card = card or EmbeddingCard()
        self.held: asyncio.Event | None = None
        self.given_up = asyncio.Event()
        self.asked = asyncio.Event()

    async def embed(self, texts: Sequence[Sequence[int]], dimensions: int | None = None) -> list[list[float]]:
        self.asked.set()
        if self.held is not None:
            try:
                await self.held.wait()
            finally:
                self.given_up.set()
        for text in texts:
            if len(text) > self.max_tokens:
                raise InputTooLong(len(text), self.max_tokens)
        return [[float(len(text)), float(text[0])][:dimensions] for text in texts]


def embedding(vectors: Lengths) -> Model:
    return Model(("vec",), embedder=EmbeddingService(vectors, Tokenizer()))


async def test_texts_become_vectors() -> None:
    async with calling(embedding(Lengths())) as client:
        body = (await client.post("/v1/embeddings", json={"model": "vec", "input": ["abc", "B"]})).json()
        coded = await client.post(
            "/v1/embeddings", json={"model": "vec", "input": "a", "encoding_format": "base64", "dimensions": 1}
        )
        rows = (await client.get("/v1/models")).json()["data"]
        metrics = (await client.get("/metrics")).text
        assert (await client.get("/health")).status_code == 200
    assert [row["embedding"] for row in body["data"]] == [[3.0, 97.0], [1.0, 66.0]]
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert base64.b64decode(coded.json()["data"][0]["embedding"]) == b"\x00\x00\x80?"
    assert rows[0]["context_window"] == 12 and "relay_engine_prompt_tokens_total 5\n" in metrics


async def test_texts_are_prepared_as_the_models_card_says() -> None:
    card = EmbeddingCard(prompts={"document": "d: "}, default_prompt="document", lower_case=True)
    async with calling(embedding(Lengths(card))) as client:
        body = (await client.post("/v1/embeddings", json={"model": "vec", "input": "ABC"})).json()
    assert body["data"][0]["embedding"] == [6.0, 100.0]


async def test_a_text_that_is_too_long_is_refused_by_its_length() -> None:
    async with calling(embedding(Lengths())) as client:
        response = await client.post("/v1/embeddings", json={"model": "vec", "input": "x" * 13})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "input")
    assert "maximum context length is 12 tokens" in error["message"]


async def test_a_client_that_leaves_gives_up_its_vectors() -> None:
    vectors = Lengths()
    vectors.held = asyncio.Event()
    async with calling(embedding(vectors)) as client, asyncio.TaskGroup() as group:
        asked = group.create_task(client.post("/v1/embeddings", json={"model": "vec", "input": "x"}))
        await vectors.asked.wait()
        asked.cancel()
        async with asyncio.timeout(DEADLINE):
            await vectors.given_up.wait()


async def test_each_model_says_what_it_does_not_do() -> None:
    async with calling(embedding(Lengths())) as client:
        chat = await client.post(CHAT, json=HI | {"model": "vec"})
    async with calling(chatting(PlayedEngine())) as client:
        vectors = await client.post("/v1/embeddings", json={"model": "tiny", "input": "x"})
    for response, words in ((chat, "makes vectors of texts"), (vectors, "makes no vectors")):
        error = response.json()["error"]
        assert response.status_code == 400 and error["code"] == "model_not_supported" and words in error["message"]
