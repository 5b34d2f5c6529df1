"""How the operator's engines are at this moment, for the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from adapters.errors import RelayError
from adapters.local.status import EngineStatus
from adapters.replicas import Replicas
from proxy.metrics import EngineReading

_PATIENCE = 1.0  # seconds; the supervisor is in this machine, and answers from memory

LocalStatus = Callable[[], Awaitable[Sequence[EngineStatus]]]


class EngineReadings:
    """An EngineSource: replicas as this process sees them, local engines (if any) as their supervisor does."""

    def __init__(self, replicas: Sequence[Replicas], local: LocalStatus | None) -> None:
        self._replicas = replicas
        self._local = local

    async def __call__(self) -> list[EngineReading]:
        local = [] if self._local is None else [_reading(status) for status in await self._ask(self._local)]
        return [*local, *self._of_replicas()]

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


def _reading(status: EngineStatus) -> EngineReading:
    return EngineReading(engine=status.name, state=status.state.value)
