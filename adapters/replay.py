"""A finished result as a stream, for clients that only work with streaming."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from adapters.answer import spread
from adapters.base import EventStream
from adapters.canonical import ChatEvent, ChatResult


@asynccontextmanager
async def replay(result: ChatResult) -> AsyncIterator[EventStream]:
    """The events of a whole answer, from a memory channel that already holds all of them.

    Filled and closed before it is handed over, so there is no producer that could be orphaned: the
    reader sees the delta, the finish, then the end.
    """
    events = spread(result)
    sender, receiver = anyio.create_memory_object_stream[list[ChatEvent]](len(events))
    for event in events:
        sender.send_nowait([event])
    sender.close()
    async with receiver:
        yield receiver
