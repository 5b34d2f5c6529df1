"""A worker process's ear for what the operator drains: the supervisor tells it, and asks what is still under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from adapters.local import messages
from adapters.local.status import Place, Sighting
from adapters.replica import FRESH, ReplicaStatus, State

log = logging.getLogger("relay.engines")

_PAUSE = 1.0  # seconds between two attempts to reach a supervisor
_PATIENCE = 5.0  # seconds that a worker's start waits to hear what is drained


class Drainable(Protocol):
    """An engine, with one replica or several."""

    @property
    def name(self) -> str: ...

    def drain(self, names: Collection[str]) -> None:
        """Give the replicas of these names no new work, and all the others some again."""

    def status(self) -> Sequence[ReplicaStatus]: ...


class DrainWatch:
    """Keeps `engines` as the supervisor at `path` says, as far as there is one; what it said last holds beyond it."""

    def __init__(self, path: Path, engines: Sequence[Drainable]) -> None:
        self._path = path
        self._engines = engines
        self._settled = asyncio.Event()
        """What is drained is known, or nobody is there to tell."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within the block; entered when it is known what is drained, so that a new process takes no wrong request."""
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow())
            try:
                try:
                    async with asyncio.timeout(_PATIENCE):
                        await self._settled.wait()
                except TimeoutError:
                    log.warning("the supervisor of engines does not say what is drained; all engines take work")
                yield
            finally:
                following.cancel()

    async def _follow(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=messages.LIMIT)
            except OSError:
                self._settled.set()
            else:
                await self._listen(reader, writer)
            await asyncio.sleep(_PAUSE)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the connection ends, or makes no sense."""
        try:
            writer.write(messages.dump(messages.Watch()))
            while line := await reader.readline():
                match messages.parse_from_supervisor(line):
                    case messages.Drained(places):
                        self._drain(places)
                    case messages.Survey(number):
                        writer.write(messages.dump(messages.Seen(number, self._see())))
        except (OSError, ValueError):  # ValueError: a line beyond the limit, or no message
            pass  # the next connection tells it all anew
        finally:
            writer.close()

    def _drain(self, places: Sequence[Place]) -> None:
        for engine in self._engines:
            engine.drain({place.replica for place in places if place.engine == engine.name})
        self._settled.set()

    def _see(self) -> list[Sighting]:
        return [
            Sighting(
                place=Place(engine.name, status.name),
                state=_state(status),
                open=status.open,
                waiting=status.waiting,
                reason=status.reason,
            )
            for engine in self._engines
            for status in engine.status()
        ]


def _state(status: ReplicaStatus) -> Any:
    """As Sighting.state. Who has neither work nor been looked at lately passes for up, which nobody has seen."""
    unseen = status.looked is None or status.looked > FRESH
    return "unknown" if status.state is State.UP and unseen and not status.open else status.state.value
