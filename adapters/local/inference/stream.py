"""From the engine's thread to those who wait in an event loop: one wake-up a step, however many jobs it served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from adapters.local.inference.request import Step


class JobStream:
    """The steps of one job, to be iterated in the event loop in which it was submitted.

    Iteration ends after the step with the finish. A stream that is not read to the end has to be cancelled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, cancel: Callable[[], None]) -> None:
        self.loop = loop
        self._cancel = cancel
        self._steps: asyncio.Queue[Step] = asyncio.Queue()
        self._finished = False

    def __aiter__(self) -> JobStream:
        return self

    async def __anext__(self) -> Step:
        if self._finished:
            raise StopAsyncIteration
        step = await self._steps.get()
        self._finished = step.finish is not None
        return step

    def arrived(self) -> list[Step]:
        """What has come beside the step that was read last; it does not wait."""
        steps: list[Step] = []
        while not self._finished and not self._steps.empty():
            steps.append(self._steps.get_nowait())
            self._finished = steps[-1].finish is not None
        return steps

    def cancel(self) -> None:
        """Free its row with the next step; a finish comes nevertheless, if none has. From any thread, at any time."""
        self._cancel()

    def put(self, step: Step) -> None:
        self._steps.put_nowait(step)


class Outbox:
    """Collects the steps of one round and hands them over, a call for each event loop."""

    def __init__(self) -> None:
        self._steps: dict[asyncio.AbstractEventLoop, list[tuple[JobStream, Step]]] = {}

    def put(self, stream: JobStream, step: Step) -> None:
        self._steps.setdefault(stream.loop, []).append((stream, step))

    def send(self) -> None:
        steps, self._steps = self._steps, {}
        for loop, deliveries in steps.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_deliver, deliveries)


def _deliver(deliveries: list[tuple[JobStream, Step]]) -> None:
    for stream, step in deliveries:
        stream.put(step)
