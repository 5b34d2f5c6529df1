"""LangChain and pydantic-ai as clients, over real sockets, with no setting beyond address, token and model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI
from pydantic import BaseModel, SecretStr
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.output import NativeOutput
from pydantic_ai.providers.openai import OpenAIProvider

from tests.support.cloudflare import failure
from tests.support.playbook import SENTENCE, WEATHER, classic, openai_shaped
from tests.support.relay import KEY, MODEL, OPENAI_MODEL, Rig, relaying

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("model", [MODEL, OPENAI_MODEL], ids=["classic", "openai-shaped"])
QUESTION = "How warm is it in Oslo?"


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with relaying(tmp_path) as rig:
        rig.cloudflare.script(MODEL, classic)
        rig.cloudflare.script(OPENAI_MODEL, openai_shaped)
        yield rig


class Clients:
    """Makes clients for a relay and closes their connections, which the frameworks leave open."""

    def __init__(self, rig: Rig, stack: AsyncExitStack) -> None:
        self.base_url = rig.url + "/v1"
        self.cloudflare = rig.cloudflare
        self._stack = stack

    def langchain(self, model: str, **options: Any) -> ChatOpenAI:
        chat = ChatOpenAI(model=model, base_url=self.base_url, api_key=SecretStr(KEY), **options)
        self._stack.push_async_callback(chat.root_async_client.close)
        return chat

    def pydantic_ai(self, model: str) -> OpenAIChatModel:
        client = AsyncOpenAI(base_url=self.base_url, api_key=KEY)
        self._stack.push_async_callback(client.close)
        return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client))


@pytest.fixture
async def clients(rig: Rig) -> AsyncIterator[Clients]:
    async with AsyncExitStack() as stack:
        yield Clients(rig, stack)


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"7 degrees in {city}"


@BOTH
async def test_langchain_chats(clients: Clients, model: str) -> None:
    message = await clients.langchain(model).ainvoke(QUESTION)
    assert message.content == "Hello there"
    assert message.usage_metadata is not None and message.usage_metadata["total_tokens"] == 11
    assert message.response_metadata["finish_reason"] == "stop"


@BOTH
async def test_langchain_streams(clients: Clients, model: str) -> None:
    chunks = [chunk async for chunk in clients.langchain(model, stream_usage=True).astream(QUESTION)]
    assert "".join(str(chunk.content) for chunk in chunks) == "Hello there"
    assert sum((chunk.usage_metadata or {"total_tokens": 0})["total_tokens"] for chunk in chunks) == 11


@BOTH
@pytest.mark.parametrize("streamed", [False, True])
async def test_langchain_loops_over_tools(clients: Clients, model: str, streamed: bool) -> None:
    chat = clients.langchain(model, streaming=streamed).bind_tools([get_weather])
    first = await chat.ainvoke(QUESTION)
    assert isinstance(first, AIMessage)
    call = first.tool_calls[0]
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Oslo"})
    result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    assert (await chat.ainvoke([HumanMessage(QUESTION), first, result])).content == SENTENCE


@BOTH
async def test_langchain_gets_structured_output(clients: Clients, model: str) -> None:
    chat = clients.langchain(model).with_structured_output(Weather, method="json_schema")
    assert await chat.ainvoke(QUESTION) == Weather(**WEATHER)


async def test_langchain_sees_that_the_context_is_exceeded(clients: Clients) -> None:
    clients.cloudflare.script(MODEL, failure(400, 5021))
    with pytest.raises(openai.BadRequestError, match="context_length_exceeded"):
        await clients.langchain(MODEL).ainvoke(QUESTION)


@BOTH
async def test_pydantic_ai_runs_a_tool(clients: Clients, model: str) -> None:
    agent = Agent(clients.pydantic_ai(model))
    called: list[str] = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        called.append(city)
        return "7 degrees"

    run = await agent.run(QUESTION)
    assert (run.output, called) == (SENTENCE, ["Oslo"])


@BOTH
async def test_pydantic_ai_streams(clients: Clients, model: str) -> None:
    async with Agent(clients.pydantic_ai(model)).run_stream(QUESTION) as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
    assert "".join(pieces) == "Hello there"


@BOTH
async def test_pydantic_ai_gets_structured_output(clients: Clients, model: str) -> None:
    agent = Agent(clients.pydantic_ai(model), output_type=NativeOutput(Weather))
    assert (await agent.run(QUESTION)).output == Weather(**WEATHER)


async def test_pydantic_ai_sees_the_status_of_an_error(clients: Clients) -> None:
    clients.cloudflare.script(MODEL, failure(400, 5007))
    with pytest.raises(ModelHTTPError) as caught:
        await Agent(clients.pydantic_ai(MODEL)).run(QUESTION)
    assert caught.value.status_code == 404
