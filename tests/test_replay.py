"""A finished answer as a stream over a memory channel."""

from __future__ import annotations

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream

from adapters.answer import collect, spread
from adapters.canonical import ChatEvent, ChatResult, Choice, Finish, ToolCall, Usage
from adapters.replay import replay

pytestmark = pytest.mark.anyio

RESULT = ChatResult(
    choices=(Choice(text="Hi", reasoning="r", tool_calls=(ToolCall("x", "f", "{}"),), finish_reason="tool_calls"),),
    usage=Usage(prompt_tokens=1, completion_tokens=2),
)


async def test_a_replay_brings_the_events_of_the_answer_and_ends() -> None:
    async with replay(RESULT) as stream:
        batches = [batch async for batch in stream]
    assert batches == [[event] for event in spread(RESULT)]
    events = [event for batch in batches for event in batch]
    assert isinstance(events[-1], Finish)
    assert collect(events) == RESULT


async def test_a_replay_is_ready_at_once() -> None:
    async with replay(RESULT) as stream:
        assert isinstance(stream, MemoryObjectReceiveStream)
        batches: list[list[ChatEvent]] = [stream.receive_nowait(), stream.receive_nowait()]
        with pytest.raises(anyio.EndOfStream):
            stream.receive_nowait()
    assert batches == [[event] for event in spread(RESULT)]


async def test_a_replay_can_be_left_at_any_point() -> None:
    """Nothing is orphaned: an unclosed channel would warn, and warnings are errors here."""
    async with replay(RESULT):
        pass
    async with replay(RESULT) as stream:
        await anext(stream)
    with pytest.raises(anyio.ClosedResourceError):
        await anext(stream)
