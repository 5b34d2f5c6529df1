"""The official openai SDK with chatglm.cpp behind the relay: the same checks as with Cloudflare, in that server's wire.

The wire is the one that was recorded (tests/transcripts/engines); tests/engines does it with the server itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from starlette.types import Send

from proxy.app import create_app
from tests.support.cloudflare import Asked, Script, Step, answer, stream
from tests.support.engine_wires import (
    CHAT,
    FakeEngine,
    by_stream,
    chatglm,
    chatglm_stream,
    chatglm_whole,
    playing,
)
from tests.support.playbook import ARGUMENTS, SENTENCE, WEATHER
from tests.support.relay import KEY, settings_for
from tests.support.servers import DEADLINE, serving

pytestmark = pytest.mark.anyio

MODEL = "chatglm3-6b"
QUESTION: Any = [{"role": "user", "content": "How warm is it in Oslo?"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL_TEXT = ("get_weather\n", "```python\ntool_call(ci", "ty='Oslo')\n```")
CALL = {"function": {"arguments": json.dumps(ARGUMENTS), "name": "get_weather"}, "type": "function"}


class Weather(BaseModel):
    city: str
    degrees: int


async def playbook(asked: Asked, send: Send) -> None:
    """As `tests.support.playbook`, by a model that hears of results and of JSON in words alone."""
    body = asked.json
    heard = json.dumps(body["messages"])
    if body.get("tools") and "7 degrees" not in heard:
        script = by_stream(answer(200, chatglm_whole("", "function_call", [CALL])), stream(*chatglm_stream(*CALL_TEXT)))
    else:
        text = SENTENCE if "7 degrees" in heard else json.dumps(WEATHER) if "JSON" in heard else "Hello there"
        script = by_stream(answer(200, chatglm_whole(text)), stream(*chatglm_stream(text[:3], "", text[3:], "")))
    await script(asked, send)


@pytest.fixture
async def engine() -> FakeEngine:
    engine = FakeEngine()
    engine.script(CHAT, playbook)
    return engine


@pytest.fixture
async def client(tmp_path: Path, engine: FakeEngine) -> AsyncIterator[AsyncOpenAI]:
    async with playing(engine) as served:
        (tmp_path / "relay.toml").write_text(
            f'[[engines]]\nname = "glm"\nurl = "{served.url}"\nprofile = "chatglm.cpp"\nmodels = ["{MODEL}"]\n'
            "context_window = 4096\n"
        )
        settings = settings_for(tmp_path)
        async with serving(create_app(settings, settings.tokens)) as relay:
            async with AsyncOpenAI(base_url=f"{relay.url}/v1", api_key=KEY, max_retries=0) as client:
                yield client


async def test_chat(client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert completion.choices[0].message.content == "Hello there"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == MODEL and completion.id.startswith("chatcmpl-")
    assert completion.usage is not None and completion.usage.total_tokens == 11
    assert completion._request_id is not None


async def test_stream_with_usage(client: AsyncOpenAI) -> None:
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model=MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello there"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens > 0
    assert chunks[-1].usage.model_dump()["estimated"] is True
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


async def test_accumulated_stream(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model=MODEL, messages=QUESTION) as streamed:
        completion = await streamed.get_final_completion()
    assert completion.choices[0].message.content == "Hello there"
    assert completion.choices[0].message.role == "assistant"


@pytest.mark.parametrize("streamed", [False, True])
async def test_tool_loop(client: AsyncOpenAI, streamed: bool) -> None:
    messages = list(QUESTION)
    for _ in range(2):
        if streamed:
            async with client.chat.completions.stream(model=MODEL, messages=messages, tools=[TOOL]) as events:
                choice: Any = (await events.get_final_completion()).choices[0]
        else:
            completion = await client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
            choice = completion.choices[0]
        if choice.finish_reason != "tool_calls":
            break
        call = choice.message.tool_calls[0]
        assert call.function.name == "get_weather"
        assert json.loads(call.function.arguments) == ARGUMENTS
        messages += [choice.message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "7 degrees"}]
    assert choice.message.content == SENTENCE


@pytest.mark.parametrize("streamed", [False, True])
async def test_json_schema(client: AsyncOpenAI, streamed: bool) -> None:
    if streamed:
        async with client.chat.completions.stream(model=MODEL, messages=QUESTION, response_format=Weather) as events:
            completion = await events.get_final_completion()
    else:
        completion = await client.chat.completions.parse(model=MODEL, messages=QUESTION, response_format=Weather)
    assert completion.choices[0].message.parsed == Weather(**WEATHER)


ERRORS: dict[str, tuple[Script, type[openai.APIStatusError], str]] = {
    "a bad value": (answer(422, {"detail": [{"msg": "no"}]}), openai.BadRequestError, "invalid_value"),
    "no messages for it": (answer(400, {"detail": "invalid request"}), openai.BadRequestError, "invalid_value"),
    "a failure": (answer(500, b"Internal Server Error"), openai.InternalServerError, "upstream_error"),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("script", "kind", "code"), ERRORS.values(), ids=ERRORS)
async def test_errors(
    engine: FakeEngine,
    client: AsyncOpenAI,
    script: Script,
    kind: type[openai.APIStatusError],
    code: str,
    streamed: bool,
) -> None:
    engine.script(CHAT, script)
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=streamed)
    assert caught.value.code == code


async def test_a_stream_that_breaks_is_an_error(engine: FakeEngine, client: AsyncOpenAI) -> None:
    engine.script(CHAT, stream(chatglm({"role": "assistant"}), chatglm({"content": "Hel"})))
    text = ""
    with pytest.raises(openai.APIError):
        async for chunk in await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text == "Hel"


async def test_leaving_a_stream_cancels_the_engines_call(engine: FakeEngine, client: AsyncOpenAI) -> None:
    engine.script(CHAT, stream(chatglm({"content": "Hel"}), Step(b"", after=asyncio.Event())))
    streamed = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    async for chunk in streamed:
        if chunk.choices[0].delta.content:
            break
    await streamed.close()
    (asked,) = [asked for asked in engine.requests if asked.path == CHAT]
    async with asyncio.timeout(DEADLINE):
        await asked.gone.wait()


async def test_models(client: AsyncOpenAI) -> None:
    owners = {model.id: model.owned_by async for model in client.models.list()}
    assert owners[MODEL] == "glm"
