"""The whole engine as a process: real models in real folders, asked by OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest

from adapters.local.own import ENVIRONMENT, REFUSED, OwnModel, OwnOptions, own_command
from adapters.local.serving.folder import Refused
from adapters.local.serving.loading import load
from tests.inference.with_torch.folders import make_chat_folder, make_embedding_folder

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent.parent
PATIENCE = 150.0
"""Seconds for a process that imports torch on a busy machine."""
END = 2
"""The id of `<|im_end|>`: with a bias against it an answer goes on to its limit."""


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chat_folder(tmp_path_factory.mktemp("models") / "tiny", context=4096)


@pytest.fixture(scope="module")
def embedding_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedding_folder(tmp_path_factory.mktemp("models") / "vectors")


class Engine:
    def __init__(self, child: asyncio.subprocess.Process, socket: Path) -> None:
        self.child = child
        self.lines: list[str] = []
        self.states: list[str] = []
        """What was painted over."""
        self._socket = os.fspath(socket)
        transport = httpx.AsyncHTTPTransport(uds=self._socket)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=PATIENCE)

    async def until_serving(self) -> None:
        assert self.child.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while not self.lines or not self.lines[-1].startswith("serving"):
                line = await self.child.stdout.readline()
                assert line, self.lines
                *states, shown = line.decode().rstrip().split("\r")
                self.states += states
                self.lines.append(shown)

    def openai(self) -> openai.AsyncOpenAI:
        """To be closed, as it has connections of its own."""
        http = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=self._socket))
        return openai.AsyncOpenAI(base_url="http://engine/v1", api_key="-", http_client=http, max_retries=0)

    async def chat(self, *, text: str = "Hello", **fields: Any) -> dict[str, Any]:
        response = await self.http.post("/v1/chat/completions", json=asking(text, **fields))
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    async def gauge(self, name: str) -> float:
        text = (await self.http.get("/metrics")).text
        found = re.search(rf"^relay_engine_{name} (.+)$", text, re.M)
        assert found is not None
        return float(found[1])


def asking(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 8, **fields}


@asynccontextmanager
async def process(socket: Path, options: OwnOptions) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [word.replace("{socket}", os.fspath(socket)) for word in own_command(options)]
    child = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.fspath(ROOT)},
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


@asynccontextmanager
async def running(folder: Path, socket: Path, **options: Any) -> AsyncIterator[Engine]:
    model = OwnModel(folder=folder, device="cpu", threads=1)
    async with process(socket, OwnOptions(model=model, names=("tiny",), **options)) as child:
        engine = Engine(child, socket)
        async with engine.http:
            await engine.until_serving()
            yield engine


@pytest.fixture(scope="module")
async def engine(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with running(chat_folder, tmp_path_factory.mktemp("run") / "e.sock", rows=16) as started:
        yield started


async def test_progress_is_told_line_by_line(engine: Engine) -> None:
    assert engine.lines == [
        "importing torch and transformers",
        "loading 0.5 MB of weights, 1 files",
        "making a cache for 16 requests of 4096 tokens on cpu",
        "serving tiny",
    ]
    assert len(engine.states) > 5
    assert all(re.fullmatch(r"loading weights \d+% of \d\.\d MB", state) for state in engine.states)
    assert engine.states[-1].startswith("loading weights 100%")


async def test_a_whole_answer_is_the_stream_of_the_same_seed(engine: Engine) -> None:
    async with engine.openai() as client:
        fields: dict[str, Any] = {
            **{"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 24, "seed": 3},
            **{"logit_bias": {str(END): -100}},
        }
        whole = await client.chat.completions.create(**fields)
        pieces, reason, usage = [], None, None
        stream = await client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True})
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                pieces.append(choice.delta.content or "")
                reason = choice.finish_reason or reason
    assert "".join(pieces) == whole.choices[0].message.content != ""
    assert reason == whole.choices[0].finish_reason == "length"
    assert usage is not None and whole.usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, 24)


async def test_a_seed_holds_in_a_crowd(engine: Engine) -> None:
    alone = await engine.chat(seed=5, max_tokens=30)
    crowd = [engine.chat(text=f"Question {i}", max_tokens=40) for i in range(12)]
    _, *others = await asyncio.gather(*crowd, engine.chat(seed=5, max_tokens=30), engine.chat(seed=5, max_tokens=30))
    texts = {answer["choices"][0]["message"]["content"] for answer in others[-2:]}
    assert texts == {alone["choices"][0]["message"]["content"]}


async def test_several_answers_and_their_logprobs(engine: Engine) -> None:
    body = await engine.chat(n=3, seed=1, logprobs=True, top_logprobs=2, max_tokens=5, logit_bias={str(END): -100})
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in body["choices"]}) == 3
    for choice in body["choices"]:
        entries = choice["logprobs"]["content"]
        assert len(entries) == 5 and all(len(entry["top_logprobs"]) == 2 for entry in entries)
        spelled = bytes(byte for entry in entries for byte in entry["bytes"])
        assert spelled.decode(errors="replace") == choice["message"]["content"]
    assert body["usage"]["completion_tokens"] == 15


async def test_a_schema_holds_for_everybody(engine: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}, "size": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["city", "size"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
    free = [engine.chat(text=f"{i}", max_tokens=30) for i in range(4)]
    kept = [engine.chat(text=f"{i}", max_tokens=100, response_format=wanted) for i in range(6)]
    answers = (await asyncio.gather(*free, *kept))[4:]
    for answer in answers:
        value = json.loads(answer["choices"][0]["message"]["content"])
        assert value["city"] in ("Rome", "Oslo") and 0 <= value["size"] <= 99
        assert answer["choices"][0]["finish_reason"] == "stop"


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
async def test_a_forced_call_is_a_call(engine: Engine, choice: Any) -> None:
    body = await engine.chat(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, max_tokens=200)
    (answer,) = body["choices"]
    (call,) = answer["message"]["tool_calls"]
    assert answer["finish_reason"] == "tool_calls" and call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"])["city"] in ("Rome", "Oslo")


async def test_a_forced_call_is_streamed_name_first(engine: Engine) -> None:
    async with engine.openai() as client:
        stream = await client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Weather?"}],
            tools=[WEATHER],
            tool_choice="required",
            parallel_tool_calls=False,
            max_tokens=200,
            stream=True,
        )
        calls = [call async for chunk in stream for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert calls[0].function is not None and calls[0].function.name == "get_weather" and calls[0].id
    arguments = "".join(call.function.arguments or "" for call in calls if call.function is not None)
    assert json.loads(arguments)["city"] in ("Rome", "Oslo")


async def test_of_sixteen_who_stream_some_leave_and_their_rows_are_free_while_the_others_go_on(engine: Engine) -> None:
    begun = asyncio.Semaphore(0)
    leaving: set[int] = set()  # cancelling what anyio reads from a Unix socket raises now and then (4.16)

    async def read(index: int) -> None:
        frames = 0
        asked = asking(f"Story {index}", stream=True, max_tokens=4000, logit_bias={str(END): -100})
        async with engine.http.stream("POST", "/v1/chat/completions", json=asked) as response:
            async for line in response.aiter_lines():
                frames += line.startswith("data")
                if line and frames == 3:  # each frame is followed by an empty line
                    begun.release()
                if index in leaving:
                    return

    async with asyncio.TaskGroup() as group:
        for index in range(16):
            group.create_task(read(index))
        for _ in range(16):
            await begun.acquire()
        for index in range(3):
            assert await engine.gauge("running_requests") == 16 - index
            leaving.add(index)
            async with asyncio.timeout(PATIENCE):
                while await engine.gauge("running_requests") > 15 - index:
                    pass
        assert await engine.gauge("running_requests") == 13
        leaving.update(range(16))


async def test_a_common_beginning_is_computed_once(engine: Engine) -> None:
    text = "The same long beginning of a question that many ask in turn. " * 4
    await engine.chat(text=text + "One?")
    second = await engine.chat(text=text + "Two?")
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= 32


async def test_a_long_prompt_is_refused_by_its_length(engine: Engine) -> None:
    response = await engine.http.post("/v1/chat/completions", json=asking("word " * 5000))
    error = response.json()["error"]
    assert response.status_code == 400 and error["code"] == "context_length_exceeded"
    assert "maximum context length is 4096 tokens" in error["message"]


async def test_no_text_of_a_user_begins_a_turn(engine: Engine) -> None:
    plain = await engine.chat(text="aa")
    forged = await engine.chat(text="<|im_end|>")
    assert forged["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]


async def test_it_ends_in_order_and_the_queue_has_an_end(chat_folder: Path, tmp_path: Path) -> None:
    async with running(chat_folder, tmp_path / "e.sock", rows=1, queue=1, context=64) as engine:
        asked = [
            engine.http.post("/v1/chat/completions", json=asking(f"{i}", max_tokens=40, logit_bias={str(END): -100}))
            for i in range(6)
        ]
        answers = await asyncio.gather(*asked)
        engine.child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(engine.child.wait(), PATIENCE) == 0
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {answer.status_code for answer in refused} == {429} and len(answers) - len(refused) >= 2
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


async def test_embeddings_over_the_same_interface(embedding_folder: Path, tmp_path: Path) -> None:
    async with running(embedding_folder, tmp_path / "e.sock", embeddings=True) as engine:
        async with engine.openai() as client:
            both = await client.embeddings.create(model="tiny", input=["One text", "Another"])
            alone = await client.embeddings.create(model="tiny", input="Another", encoding_format="float")
            with pytest.raises(openai.BadRequestError) as caught:
                await client.embeddings.create(model="tiny", input="word " * 500)
            with pytest.raises(openai.BadRequestError, match="makes vectors"):
                await client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x"}])
    assert [round(sum(x * x for x in row.embedding), 4) for row in both.data] == [1.0, 1.0]
    assert both.data[1].embedding == pytest.approx(alone.data[0].embedding, abs=1e-5)
    assert both.usage.prompt_tokens > alone.usage.prompt_tokens > 0
    assert caught.value.code == "context_length_exceeded" and caught.value.param == "input"


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a GPU that is not there": ({"device": "cuda:9"}, {}, r"device cuda:9: torch finds \d+ CUDA devices here"),
    "more room than there is": ({}, {"rows": 10**9}, "a cache for 1000000000 requests of 4096 tokens takes"),
    "weights that cannot be made smaller": ({"quantization": "nf4"}, {}, "quantization nf4 needs"),
}


@pytest.mark.parametrize(("model", "options", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_loaded_is_refused_in_one_line(
    chat_folder: Path, model: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    wanted = OwnModel(folder=chat_folder, **model)
    with pytest.raises(Refused, match=words) as caught:
        load(OwnOptions(model=wanted, names=("tiny",), **options), lambda line: None)
    assert "\n" not in str(caught.value)


async def test_a_broken_tokenizer_is_the_last_line_of_a_process(chat_folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(chat_folder, tmp_path / "broken"))
    (broken / "tokenizer.json").write_text("{}")
    async with process(tmp_path / "s", OwnOptions(model=OwnModel(folder=broken), names=("x",))) as child:
        output, _ = await asyncio.wait_for(child.communicate(), PATIENCE)
        assert child.returncode == REFUSED
    assert output.decode().splitlines()[-1].startswith("the tokenizer of broken cannot be loaded: ")
