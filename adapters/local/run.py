"""A started process of an engine, whoever started it, and work that makes sense only as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from adapters.local.address import EngineAddress
from adapters.local.spec import EngineSpec

T = TypeVar("T")


class Run(Protocol):
    """A started process of the engine."""

    @property
    def address(self) -> EngineAddress: ...

    @property
    def pid(self) -> int | None: ...

    @property
    def last_line(self) -> str:
        """What it wrote last, as one can show it."""

    async def wait(self) -> str:
        """How it ended, in words, once it has."""


Launch = Callable[[EngineSpec], AbstractAsyncContextManager[Run]]
"""Starts the process, or raises LaunchFailed; it is gone when the block is left."""


class Ended(Exception):
    """The process ended, or had to be given up."""


async def alongside(run: Run, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Raises Ended, and ends the work, if the process ends meanwhile."""
    async with asyncio.TaskGroup() as group:
        end = group.create_task(run.wait())
        task = group.create_task(work)
        await asyncio.wait((end, task), return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        task.cancel()
    if not end.cancelled():  # also if both are done: what answered in a dead engine's place was another
        raise Ended(end.result())
    return task.result()
