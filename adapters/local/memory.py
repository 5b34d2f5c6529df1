"""Which engines may run at once: those that fit into the memory budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from adapters.errors import Fault, RelayError
from adapters.local.bell import Bell

_GIB = 2**30


class Tenant(Protocol):
    """An engine, as far as its memory goes."""

    @property
    def name(self) -> str: ...

    @property
    def memory(self) -> int:
        """Bytes that it takes while it runs."""

    @property
    def idle_since(self) -> float | None:
        """Since when it runs without work, by the loop's clock; `None` while it must not be disturbed."""

    @property
    def leaving(self) -> bool:
        """Whether it is being stopped already."""

    def evict(self) -> None:
        """Ask it to stop if it is still without work."""


class MemoryBudget:
    """Admits engines in the order in which they ask; the least recently used idle ones make room."""

    def __init__(self, limit: int | None, patience: float) -> None:
        self._limit = limit
        self._patience = patience
        self._tenants: list[Tenant] = []
        self._turn = asyncio.Lock()
        self.bell = Bell()
        """To be rung when an engine has become idle or busy."""

    @asynccontextmanager
    async def room(self, tenant: Tenant) -> AsyncIterator[None]:
        """Memory for the tenant, which is free again when the block is left.

        Raises RelayError: UPSTREAM_MISCONFIGURED where it can never fit, OVERLOADED if none became free in time.
        """
        await self._make_room(tenant)
        try:
            yield
        finally:
            self._tenants.remove(tenant)
            self.bell.ring()

    async def _make_room(self, tenant: Tenant) -> None:
        if self._limit is None:
            self._tenants.append(tenant)
            return
        if tenant.memory > self._limit:
            raise RelayError(
                Fault.UPSTREAM_MISCONFIGURED,
                f"The engine {tenant.name!r} needs {_gib(tenant.memory)} and all engines together may have "
                f"{_gib(self._limit)}: it can never be started.",
            )
        try:
            async with asyncio.timeout(self._patience), self._turn:
                while (missing := self._missing(tenant, self._limit)) > 0:
                    for victim in self._victims(missing):
                        victim.evict()
                    await self.bell.heard()
                self._tenants.append(tenant)
        except TimeoutError:
            names = ", ".join(repr(other.name) for other in self._tenants if other.memory)
            raise RelayError(
                Fault.OVERLOADED,
                f"The engine {tenant.name!r} needs {_gib(tenant.memory)} of memory that is in use by engines at work: "
                f"{names}.",
                retry_after=self._patience,
            ) from None

    def _missing(self, tenant: Tenant, limit: int) -> int:
        return sum(other.memory for other in self._tenants) + tenant.memory - limit

    def _victims(self, missing: int) -> list[Tenant]:
        """Who is to go, beside those that already do; nobody as long as that would not be enough."""
        missing -= sum(other.memory for other in self._tenants if other.leaving)
        idle = [(since, other) for other in self._tenants if other.memory and (since := other.idle_since) is not None]
        victims: list[Tenant] = []
        for _, other in sorted(idle, key=lambda pair: pair[0]):
            if missing <= 0:
                break
            victims.append(other)
            missing -= other.memory
        for other in victims[::-1]:  # what the last one has made unnecessary
            if missing + other.memory <= 0:
                victims.remove(other)
                missing += other.memory
        return victims if missing <= 0 else []


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
