"""The openai SDK for Python through the relay, with the two real engines behind it, which the relay starts itself.

    ENGINES=tests/engines/.built .venv/bin/python -m pytest tests/engines

`ENGINES` is the folder that `tests/engines/build` has filled.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from adapters.local.control import EngineClient
from adapters.local.folders import control_socket
from adapters.local.host import supervised
from adapters.local.look import look
from adapters.local.status import EngineStatus
from proxy.app import create_app
from tests.engines.asks import LONG, TOOLS
from tests.support.processes import until_gone
from tests.support.relay import KEY, settings_for
from tests.support.servers import serving

FOLDER = Path(os.environ["ENGINES"]).absolute() if "ENGINES" in os.environ else None

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(180),  # seconds: an engine has to start, and on a busy machine it takes its time
    pytest.mark.skipif(FOLDER is None, reason="needs ENGINES, the folder that tests/engines/build has filled"),
]

SENTENCE = "The weather in Oslo is mild, about seven degrees. \U0001f324"
CHATGLM = ("talker", "endless", "caller")
LLAMA = (*CHATGLM, "thinker")
MODELS = (*(f"glm-{name}" for name in CHATGLM), *(f"llama-{name}" for name in LLAMA))
BOTH = pytest.mark.parametrize("kind", ["glm", "llama"])
QUESTION: Any = [{"role": "user", "content": "How warm is it in Oslo?"}]
TOOL: Any = TOOLS["tools"]


class Place(BaseModel):
    """Bounded, for the model chooses at random among what the grammar allows."""

    city: Literal["Oslo", "Bergen"]
    warm: bool


class Rig(NamedTuple):
    client: AsyncOpenAI
    state_dir: Path

    async def status(self, engine: str) -> EngineStatus:
        async with EngineClient(control_socket(self.state_dir)) as client:
            return next(status for status in await client.status() if status.name == engine)

    async def ask(self, model: str, **more: Any) -> Any:
        asked: dict[str, Any] = {"messages": QUESTION, "temperature": 0, **more}
        return await self.client.chat.completions.create(model=model, **asked)

    async def stream(self, model: str, **more: Any) -> list[Any]:
        chunks = await self.ask(model, stream=True, stream_options={"include_usage": True}, **more)
        return [chunk async for chunk in chunks]


def tables(built: Path) -> str:
    """One engine a model; llama-server listens at a Unix socket."""
    python, server = built / "venv" / "bin" / "python", built / "llama-server" / "bin" / "llama-server"
    glm = ["-m", "uvicorn", "chatglm_cpp.openai_api:app", "--host", "127.0.0.1", "--port", "{port}"]
    entries = [_table(f"glm-{name}", "chatglm.cpp", [str(python), *glm], built, f"{name}.bin") for name in CHATGLM]
    for name in LLAMA:
        command = [str(server), "-m", f"{name}.gguf", "--host", "{socket}", "-c", "2048", "-np", "2", "-t", "1"]
        entries.append(_table(f"llama-{name}", "llama-server", command, built))
    return "\n".join(entries)


def _table(name: str, profile: str, command: list[str], built: Path, model: str | None = None) -> str:
    lines = {"name": name, "profile": profile, "command": command, "directory": str(built / "models"), "models": [name]}
    written = [f"{key} = {json.dumps(value)}" for key, value in lines.items()]
    if model is not None:
        written.append(f'environment = {{ MODEL = "{model}", MAX_LENGTH = "4096" }}')
    return "\n".join(["[[engines]]", *written, ""])


@pytest.fixture(scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    assert FOLDER is not None
    folder = tmp_path_factory.mktemp("relay")
    (folder / "relay.toml").write_text(tables(FOLDER))
    settings = settings_for(folder)
    app = create_app(settings, settings.tokens)
    with supervised(settings.engines, probe=look, state_dir=settings.state_dir, surroundings=dict(os.environ)):
        async with serving(app) as relay:
            async with AsyncOpenAI(base_url=f"{relay.url}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
                yield Rig(client, settings.state_dir)


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def reason_of(chunks: list[Any]) -> Any:
    return [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1]


@BOTH
async def test_chat(rig: Rig, kind: str) -> None:
    answer = await rig.ask(f"{kind}-talker")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (SENTENCE, "stop")
    assert answer.model == f"{kind}-talker"
    assert answer.usage.prompt_tokens == {"glm": 22, "llama": 34}[kind]


@BOTH
async def test_stream(rig: Rig, kind: str) -> None:
    chunks = await rig.stream(f"{kind}-talker")
    assert (text_of(chunks), reason_of(chunks)) == (SENTENCE, "stop")
    assert len(chunks) > 10
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[-1].usage.completion_tokens > 10
    assert bool(getattr(chunks[-1].usage, "estimated", False)) is (kind == "glm")


@BOTH
async def test_the_limit_of_an_answer(rig: Rig, kind: str) -> None:
    answer = await rig.ask(f"{kind}-endless", max_tokens=30)
    assert answer.choices[0].finish_reason == "length"
    chunks = await rig.stream(f"{kind}-endless", max_tokens=30)
    assert text_of(chunks).startswith("The weather")
    assert kind == "glm" or reason_of(chunks) == "length"  # the other does not say, and its count is an estimate


@BOTH
async def test_stop(rig: Rig, kind: str) -> None:
    answer = await rig.ask(f"{kind}-endless", stop=" mild", max_tokens=200)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("The weather in Oslo is", "stop")
    chunks = await rig.stream(f"{kind}-endless", stop=" mild", max_tokens=200)
    assert (text_of(chunks), reason_of(chunks)) == ("The weather in Oslo is", "stop")


@BOTH
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_loop(rig: Rig, kind: str, streamed: bool) -> None:
    asked: Any = {"model": f"{kind}-caller", "messages": QUESTION, "tools": TOOL, "temperature": 0}
    if streamed:
        async with rig.client.chat.completions.stream(**asked) as events:
            choice: Any = (await events.get_final_completion()).choices[0]
    else:
        choice = (await rig.client.chat.completions.create(**asked)).choices[0]
    assert choice.finish_reason == "tool_calls" and not choice.message.content
    (call,) = choice.message.tool_calls
    assert call.id and call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo", "days": 2}
    turns = [*QUESTION, choice.message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "7 degrees"}]
    answer = await rig.ask(f"{kind}-talker", messages=turns, tools=TOOL)
    assert answer.choices[0].message.content == SENTENCE


async def test_a_thought(rig: Rig) -> None:
    answer = await rig.ask("llama-thinker")
    assert answer.choices[0].message.reasoning_content.strip() == "Somebody asks for it."
    assert answer.choices[0].message.content.strip() == SENTENCE


async def test_a_schema(rig: Rig) -> None:
    answer = await rig.client.chat.completions.parse(
        model="llama-talker", messages=QUESTION, response_format=Place, max_tokens=900, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Place)


async def test_a_prompt_that_is_too_long(rig: Rig) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await rig.ask("llama-talker", messages=[{"role": "user", "content": LONG * 2}])
    assert caught.value.code == "context_length_exceeded"
    assert "maximum context length is 1024 tokens" in caught.value.message


@BOTH
async def test_whoever_leaves_makes_room(rig: Rig, kind: str) -> None:
    """Three who hang up, one after the other: were their answers computed to the end, the last would wait for them."""
    model = f"{kind}-endless"
    for _ in range(3):
        chunks = await rig.ask(model, stream=True, max_tokens=900)
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        await chunks.close()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await rig.stream(model, max_tokens=5)
    waited = loop.time() - began
    began = loop.time()
    await rig.stream(model, max_tokens=300)
    assert waited < loop.time() - began


@BOTH
async def test_four_at_once(rig: Rig, kind: str) -> None:
    """chatglm.cpp takes one at a time: the others wait in the relay."""
    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(rig.stream(f"{kind}-talker")) for _ in range(4)]
        wholes = [group.create_task(rig.ask(f"{kind}-talker")) for _ in range(4)]
    assert {text_of(task.result()) for task in streams} == {SENTENCE}
    assert {task.result().choices[0].message.content for task in wholes} == {SENTENCE}


@BOTH
async def test_an_engine_that_is_killed_comes_back(rig: Rig, kind: str) -> None:
    model = f"{kind}-endless"
    chunks = await rig.ask(model, stream=True, max_tokens=900)
    with pytest.raises(openai.APIError):
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                await _kill(rig, model)
    answer = await rig.ask(model, max_tokens=30)
    assert answer.choices[0].message.content.startswith("The weather")


async def _kill(rig: Rig, engine: str) -> None:
    pid = (await rig.status(engine)).pid
    if pid is not None:
        with suppress(ProcessLookupError):  # what was on its way when it died comes after the first kill
            os.kill(pid, signal.SIGKILL)
        await until_gone(pid)
