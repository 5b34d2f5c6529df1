"""The official openai SDK for Python as a client, over real sockets, in both of Cloudflare's shapes."""

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

from tests.support.cloudflare import Step, failure, frames, stream
from tests.support.playbook import SENTENCE, WEATHER, classic, openai_shaped
from tests.support.relay import KEY, MODEL, OPENAI_MODEL, Rig, relaying
from tests.support.servers import DEADLINE

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("model", [MODEL, OPENAI_MODEL], ids=["classic", "openai-shaped"])
QUESTION: Any = [{"role": "user", "content": "How warm is it in Oslo?"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Weather(BaseModel):
    city: str
    degrees: int


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with relaying(tmp_path) as rig:
        rig.cloudflare.script(MODEL, classic)
        rig.cloudflare.script(OPENAI_MODEL, openai_shaped)
        yield rig


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=rig.url + "/v1", api_key=KEY) as client:
        yield client


@BOTH
async def test_chat(client: AsyncOpenAI, model: str) -> None:
    answer = await client.chat.completions.create(model=model, messages=QUESTION)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (9, 2, 11)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert answer._request_id is not None


@BOTH
async def test_stream_with_usage(client: AsyncOpenAI, model: str) -> None:
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model=model, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello there"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 11
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


@BOTH
async def test_accumulated_stream(client: AsyncOpenAI, model: str) -> None:
    async with client.chat.completions.stream(model=model, messages=QUESTION) as streamed:
        completion = await streamed.get_final_completion()
    assert completion.choices[0].message.content == "Hello there"
    assert completion.choices[0].message.role == "assistant"


@BOTH
@pytest.mark.parametrize("streamed", [False, True])
async def test_tool_loop(client: AsyncOpenAI, model: str, streamed: bool) -> None:
    messages = list(QUESTION)
    for _ in range(2):
        if streamed:
            async with client.chat.completions.stream(model=model, messages=messages, tools=[TOOL]) as events:
                choice: Any = (await events.get_final_completion()).choices[0]
        else:
            completion = await client.chat.completions.create(model=model, messages=messages, tools=[TOOL])
            choice = completion.choices[0]
        if choice.finish_reason != "tool_calls":
            break
        call = choice.message.tool_calls[0]
        assert call.function.name == "get_weather"
        assert json.loads(call.function.arguments) == {"city": "Oslo"}
        messages += [choice.message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "7 degrees"}]
    assert choice.message.content == SENTENCE


@BOTH
async def test_json_schema(client: AsyncOpenAI, model: str) -> None:
    completion = await client.chat.completions.parse(model=model, messages=QUESTION, response_format=Weather)
    assert completion.choices[0].message.parsed == Weather(**WEATHER)


@BOTH
async def test_json_schema_streamed(client: AsyncOpenAI, model: str) -> None:
    async with client.chat.completions.stream(model=model, messages=QUESTION, response_format=Weather) as streamed:
        completion = await streamed.get_final_completion()
    assert completion.choices[0].message.parsed == Weather(**WEATHER)


ERRORS: dict[str, tuple[Any, type[openai.APIStatusError], str]] = {
    "no such model": (failure(400, 5007), openai.NotFoundError, "model_not_found"),
    "a retired model": (failure(410, 5028), openai.NotFoundError, "model_not_found"),
    "a prompt that is too long": (failure(400, 5021), openai.BadRequestError, "context_length_exceeded"),
    "a bad value": (failure(400, 5006), openai.BadRequestError, "invalid_value"),
    "the day's allocation": (failure(429, 3036), openai.RateLimitError, "insufficient_quota"),
    "the relay's own credentials": (failure(401, 10000), openai.InternalServerError, "upstream_auth"),
    "a failure": (failure(500, 3043), openai.InternalServerError, "upstream_error"),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("script", "kind", "code"), ERRORS.values(), ids=ERRORS)
async def test_errors(
    rig: Rig, client: AsyncOpenAI, script: Any, kind: type[openai.APIStatusError], code: str, streamed: bool
) -> None:
    rig.cloudflare.script(MODEL, script)
    with pytest.raises(kind) as caught:
        await client.with_options(max_retries=0).chat.completions.create(
            model=MODEL, messages=QUESTION, stream=streamed
        )
    assert caught.value.code == code


async def test_a_used_up_allocation_is_not_tried_again(rig: Rig, client: AsyncOpenAI) -> None:
    rig.cloudflare.script(MODEL, failure(429, 3036))
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert len(rig.cloudflare.runs) == 1


async def test_a_wrong_token(rig: Rig) -> None:
    async with AsyncOpenAI(base_url=rig.url + "/v1", api_key="sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
    assert caught.value.code == "invalid_api_key"


async def test_a_stream_that_breaks_is_an_error(rig: Rig, client: AsyncOpenAI) -> None:
    rig.cloudflare.script(MODEL, stream(frames({"response": "Hel"})))
    text = ""
    with pytest.raises(openai.APIError):
        async for chunk in await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text == "Hel"


async def test_leaving_a_stream_cancels_the_upstream_call(rig: Rig, client: AsyncOpenAI) -> None:
    rig.cloudflare.script(MODEL, stream(frames({"response": "Hel"}), Step(frames("[DONE]"), after=asyncio.Event())))
    streamed = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    async for chunk in streamed:
        if chunk.choices[0].delta.content:
            break
    await streamed.close()
    async with asyncio.timeout(DEADLINE):
        await rig.cloudflare.runs[0].gone.wait()


async def test_models(client: AsyncOpenAI) -> None:
    ids = [model.id async for model in client.models.list()]
    assert MODEL in ids
    assert (await client.models.retrieve(MODEL)).id == MODEL  # with its slashes escaped in the path
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("no-such-model")
