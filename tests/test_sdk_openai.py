"""The official openai SDK for Python as a client, over real sockets: the same checks whoever answers.

Cloudflare does in both of its shapes, an engine in the wire of chatglm.cpp that was recorded
(tests/transcripts/engines); tests/engines has the server itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.support.cloudflare import Asked, FakeCloudflare, Script, Step, answer, failure, frames, stream
from tests.support.engine_wires import CHAT, FakeEngine, chatglm, playing
from tests.support.playbook import ARGUMENTS, SENTENCE, WEATHER, chatglm_cpp, classic, openai_shaped
from tests.support.relay import KEY, MODEL, OPENAI_MODEL, relaying_to
from tests.support.servers import DEADLINE, serving

pytestmark = pytest.mark.anyio

GLM = "chatglm3-6b"
EACH = pytest.mark.parametrize("model", [MODEL, OPENAI_MODEL, GLM], ids=["classic", "openai-shaped", "chatglm.cpp"])
ONE_OF_EACH = pytest.mark.parametrize("model", [MODEL, GLM], ids=["cloudflare", "engine"])
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


class Rig(NamedTuple):
    """A relay with both kinds of upstream behind it."""

    url: str
    cloudflare: FakeCloudflare
    engine: FakeEngine

    def script(self, model: str, *scripts: Script) -> None:
        if model == GLM:
            self.engine.script(CHAT, *scripts)
        else:
            self.cloudflare.script(model, *scripts)

    def asked(self, model: str) -> list[Asked]:
        if model == GLM:
            return [asked for asked in self.engine.requests if asked.path == CHAT]
        return self.cloudflare.runs


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    cloudflare, engine = FakeCloudflare(), FakeEngine()
    async with serving(cloudflare) as upstream, playing(engine) as played:
        (tmp_path / "relay.toml").write_text(
            f'[[engines]]\nname = "glm"\nurl = "{played.url}"\nprofile = "chatglm.cpp"\nmodels = ["{GLM}"]\n'
            "context_window = 4096\n"
        )
        async with relaying_to(upstream.url, tmp_path) as (relay, _):
            rig = Rig(relay.url, cloudflare, engine)
            for model, script in ((MODEL, classic), (OPENAI_MODEL, openai_shaped), (GLM, chatglm_cpp)):
                rig.script(model, script)
            yield rig


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=rig.url + "/v1", api_key=KEY) as client:
        yield client


@EACH
async def test_chat(client: AsyncOpenAI, model: str) -> None:
    completion = await client.chat.completions.create(model=model, messages=QUESTION)
    assert completion.choices[0].message.content == "Hello there"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens, completion.usage.total_tokens) == (
        9,
        2,
        11,
    )
    if model != GLM:  # which counts no such thing
        assert completion.usage.prompt_tokens_details is not None
        assert completion.usage.prompt_tokens_details.cached_tokens == 4
    assert completion.model == model and completion.id.startswith("chatcmpl-")
    assert completion._request_id is not None


@EACH
async def test_stream_with_usage(client: AsyncOpenAI, model: str) -> None:
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model=model, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello there"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    if model == GLM:  # nothing in its streams counts
        assert chunks[-1].usage.total_tokens > 0 and chunks[-1].usage.model_dump()["estimated"] is True
    else:
        assert chunks[-1].usage.total_tokens == 11
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


@EACH
async def test_accumulated_stream(client: AsyncOpenAI, model: str) -> None:
    async with client.chat.completions.stream(model=model, messages=QUESTION) as streamed:
        completion = await streamed.get_final_completion()
    assert completion.choices[0].message.content == "Hello there"
    assert completion.choices[0].message.role == "assistant"


@EACH
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
        assert json.loads(call.function.arguments) == ARGUMENTS
        messages += [choice.message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "7 degrees"}]
    assert choice.message.content == SENTENCE


@EACH
@pytest.mark.parametrize("streamed", [False, True])
async def test_json_schema(client: AsyncOpenAI, model: str, streamed: bool) -> None:
    if streamed:
        async with client.chat.completions.stream(model=model, messages=QUESTION, response_format=Weather) as events:
            completion = await events.get_final_completion()
    else:
        completion = await client.chat.completions.parse(model=model, messages=QUESTION, response_format=Weather)
    assert completion.choices[0].message.parsed == Weather(**WEATHER)


ERRORS: dict[str, tuple[str, Script, type[openai.APIStatusError], str]] = {
    "no such model": (MODEL, failure(400, 5007), openai.NotFoundError, "model_not_found"),
    "a retired model": (MODEL, failure(410, 5028), openai.NotFoundError, "model_not_found"),
    "a prompt that is too long": (MODEL, failure(400, 5021), openai.BadRequestError, "context_length_exceeded"),
    "a bad value": (MODEL, failure(400, 5006), openai.BadRequestError, "invalid_value"),
    "the day's allocation": (MODEL, failure(429, 3036), openai.RateLimitError, "insufficient_quota"),
    "the relay's own credentials": (MODEL, failure(401, 10000), openai.InternalServerError, "upstream_auth"),
    "a failure": (MODEL, failure(500, 3043), openai.InternalServerError, "upstream_error"),
    "a bad value for an engine": (
        GLM,
        answer(422, {"detail": [{"msg": "no"}]}),
        openai.BadRequestError,
        "invalid_value",
    ),
    "no messages for an engine": (
        GLM,
        answer(400, {"detail": "invalid request"}),
        openai.BadRequestError,
        "invalid_value",
    ),
    "a failure of an engine": (
        GLM,
        answer(500, b"Internal Server Error"),
        openai.InternalServerError,
        "upstream_error",
    ),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("model", "script", "kind", "code"), ERRORS.values(), ids=ERRORS)
async def test_errors(
    rig: Rig,
    client: AsyncOpenAI,
    model: str,
    script: Script,
    kind: type[openai.APIStatusError],
    code: str,
    streamed: bool,
) -> None:
    rig.script(model, script)
    with pytest.raises(kind) as caught:
        await client.with_options(max_retries=0).chat.completions.create(
            model=model, messages=QUESTION, stream=streamed
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


def begun(model: str) -> bytes:
    """The first words of a stream, as this model's upstream says them."""
    return chatglm({"content": "Hel"}) if model == GLM else frames({"response": "Hel"})


@ONE_OF_EACH
async def test_a_stream_that_breaks_is_an_error(rig: Rig, client: AsyncOpenAI, model: str) -> None:
    rig.script(model, stream(begun(model)))
    text = ""
    with pytest.raises(openai.APIError):
        async for chunk in await client.chat.completions.create(model=model, messages=QUESTION, stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text == "Hel"


@ONE_OF_EACH
async def test_leaving_a_stream_cancels_the_upstream_call(rig: Rig, client: AsyncOpenAI, model: str) -> None:
    rig.script(model, stream(begun(model), Step(b"", after=asyncio.Event())))
    streamed = await client.chat.completions.create(model=model, messages=QUESTION, stream=True)
    async for chunk in streamed:
        if chunk.choices[0].delta.content:
            break
    await streamed.close()
    (asked,) = rig.asked(model)
    async with asyncio.timeout(DEADLINE):
        await asked.gone.wait()


async def test_models(client: AsyncOpenAI) -> None:
    owners = {model.id: model.owned_by async for model in client.models.list()}
    assert (owners[MODEL], owners[GLM]) == ("cloudflare", "glm")
    assert (await client.models.retrieve(MODEL)).id == MODEL  # with its slashes escaped in the path
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("no-such-model")
