"""`adapters.local.serving.chat`: where the work on a request is done, so that nobody's stream stands still for it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from adapters.canonical import ChatRequest, JsonFormat, Message, TextPart, Tool, ToolCall
from adapters.local.serving.chat import ChatService, Draft
from tests.serving.played import END, PlayedEngine, PlayedWriter, steps

pytestmark = pytest.mark.anyio

LONG = "x" * 9000
TOOL = Tool(name="f", parameters={})


class WatchedWriter(PlayedWriter):
    """Tells which thread it is used in; requests with grammars wait for `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []
        self.go = threading.Event()
        self.go.set()

    def draft(self, request: ChatRequest, tenant: str) -> Draft:
        self.threads.append(threading.current_thread())
        if request.tools:
            assert self.go.wait(30)
        return super().draft(ChatRequest(model="m", messages=(Message(role="user", content="Hi"),)), tenant)


def service(writer: WatchedWriter) -> ChatService:
    return ChatService(PlayedEngine(*[steps("x")] * 140), writer, defaults={}, stop_ids=frozenset({END}))


def asking(*turns: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=turns or (Message(role="user", content="Hi"),), **fields)


SMALL = {
    "a few words": asking(),
    "several turns": asking(*[Message(role="user", content="Hi")] * 9),
    "images, which are refused": asking(Message(role="user", content=(TextPart("Hi"),))),
}
LARGE = {
    "a long text": asking(Message(role="user", content=LONG)),
    "a long text in parts": asking(Message(role="user", content=(TextPart(LONG[:5000]), TextPart(LONG[:5000])))),
    "long arguments": asking(Message(role="assistant", tool_calls=(ToolCall("1", "f", LONG),))),
    "a long id": asking(Message(role="tool", content="", tool_call_id=LONG)),
    "a long name": asking(Message(role="user", content="", name=LONG)),
    "long reasoning": asking(Message(role="assistant", reasoning=LONG)),
    "many empty turns": asking(*[Message(role="user", content="")] * 100),
    "variables": asking(chat_template_kwargs={"documents": LONG}),
    "tools": asking(tools=(TOOL,)),
    "a form": asking(response_format=JsonFormat()),
}


@pytest.mark.parametrize("request_", SMALL.values(), ids=SMALL)
async def test_what_takes_no_time_is_done_at_once(request_: ChatRequest) -> None:
    writer = WatchedWriter()
    await service(writer).begin(request_)
    assert writer.threads == [threading.current_thread()]


@pytest.mark.parametrize("request_", LARGE.values(), ids=LARGE)
async def test_what_may_take_long_is_done_in_a_thread(request_: ChatRequest) -> None:
    writer = WatchedWriter()
    await service(writer).begin(request_)
    (thread,) = writer.threads
    assert thread is not threading.current_thread()


async def test_long_prompts_do_not_wait_for_grammars() -> None:
    writer = WatchedWriter()
    writer.go.clear()
    chat = service(writer)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(120):  # more than there are threads, in either pool
            group.create_task(chat.begin(asking(tools=(TOOL,))))
        await chat.begin(LARGE["a long text"])
        writer.go.set()
    assert len(writer.threads) == 121
