"""Engines of the relay's own that run, as they are: what free memory has decided at their start."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import msgspec

from adapters.errors import RelayError
from adapters.local.address import EngineAddress
from adapters.local.control import EngineClient
from adapters.local.folders import control_socket
from adapters.local.leased import told_context
from adapters.local.spec import EngineSpec
from proxy.settings import Settings

_PATIENCE = 1.0  # seconds for a list of one model, on this machine


async def engines_as_they_run(settings: Settings) -> Sequence[EngineSpec]:
    """The engines of the settings; of those of our own that run, `context_window` is that of their cache."""
    if not any(engine.own for engine in settings.engines):
        return settings.engines
    try:
        async with EngineClient(control_socket(settings.state_dir)) as client:
            addresses = {status.name: status.address for status in await client.status()}
    except RelayError:  # no relay with engines runs on this state folder
        return settings.engines
    return [await _as_it_runs(engine, addresses.get(engine.name)) for engine in settings.engines]


async def _as_it_runs(engine: EngineSpec, address: EngineAddress | None) -> EngineSpec:
    if engine.own is None or address is None:
        return engine
    transport = httpx.AsyncHTTPTransport(uds=address.uds)
    async with httpx.AsyncClient(transport=transport, timeout=_PATIENCE) as client:
        try:
            response = await client.get(f"{address.url}/models")
        except httpx.HTTPError:  # it is being started, or gone in this moment
            return engine
    context = told_context(response.content)
    return engine if context is None else msgspec.structs.replace(engine, context_window=context)
