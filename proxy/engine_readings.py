"""How the operator's engines are at this moment, for the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from adapters.errors import RelayError
from adapters.local.status import EngineStatus, State
from adapters.replicas import Replicas
from proxy.metrics import EngineReading

_PATIENCE = 1.0  # seconds; the supervisor is in this machine, and answers from memory

LocalStatus = Callable[[], Awaitable[Sequence[EngineStatus]]]


class EngineReadings:
    """An EngineSource: replicas as this process sees them, local engines (if any) as their supervisor does.

    `alone` are those of the local engines that are nobody's replica, of which this process knows its requests.
    """

    def __init__(
        self, replicas: Sequence[Replicas], alone: Sequence[Replicas] = (), local: LocalStatus | None = None
    ) -> None:
        self._replicas = replicas
        self._alone = {engine.name: engine for engine in alone}
        self._local = local

    async def __call__(self) -> list[EngineReading]:
        local = [] if self._local is None else [self._of_local(status) for status in await self._ask(self._local)]
        return [*local, *self._of_replicas()]

    def _of_local(self, status: EngineStatus) -> EngineReading:
        engine = self._alone.get(status.name)
        if engine is None:
            return EngineReading(engine=status.name, state=status.state.value)
        state = State.DRAINING if engine.is_drained else status.state
        return EngineReading(engine=status.name, state=state.value, open=engine.status()[0].open)

    async def _ask(self, local: LocalStatus) -> Sequence[EngineStatus]:
        try:
            async with asyncio.timeout(_PATIENCE):
                return await local()
        except (RelayError, TimeoutError):
            return ()  # the supervisor's own trouble, which requests tell of

    def _of_replicas(self) -> Iterator[EngineReading]:
        for replicas in self._replicas:
            for status in replicas.status():
                yield EngineReading(
                    engine=replicas.name,
                    replica=status.name,
                    state=status.state.value,
                    open=status.open,
                    waiting=status.waiting,
                )
