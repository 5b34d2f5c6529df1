"""Whether an engine can take work, and how much it has: what each kind tells of itself."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec

from adapters.engine_calls import EngineCalls
from adapters.errors import RelayError
from adapters.profiles import Gauges
from adapters.wire.json_text import NotJson, loads
from adapters.wire.prometheus import read_samples

_LIMIT = 3.0  # seconds for one look; an engine that takes longer is not ready or busy


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine says it has in work; `None` where it does not say."""

    running: int | None = None
    waiting: int | None = None
    slots: int | None = None
    """How many it can work on at once."""
    cache: float | None = None
    """The share of its cache that is in use, from 0 to 1."""
    context_window: int | None = None
    """Tokens that one request may have: the smallest slot's or model's."""
    models: tuple[str, ...] | None = None
    """The models that it has in memory, by its own names."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What one look has shown. `reason` says in words why it is not ready."""

    ready: bool
    busy: bool = False
    """More work would have to wait."""
    loading: bool = False
    load: Load | None = None
    reason: str = ""


async def probe(calls: EngineCalls, *, open_requests: int = 0, limit: float = _LIMIT) -> Health:
    """One look at an engine, of at most about `limit` seconds for each thing looked at. Raises nothing.

    `open_requests` are the relay's own: with any of them open, an engine that is deaf while it works is taken for busy
    rather than dead.
    """
    profile = calls.endpoint.profile
    try:
        async with asyncio.timeout(limit):
            status, body = await calls.get(profile.ready, limit)
    except TimeoutError:
        if profile.deaf_while_busy and open_requests:
            return Health(ready=True, busy=True)
        return Health(ready=False, reason=f"no answer within {limit:g} seconds")
    except RelayError as exc:
        return Health(ready=False, reason=exc.message)
    if status != 200:
        return _not_ready(status, body, lives_without=profile.name == "openai")
    load = await _load(calls, limit)
    return Health(ready=True, busy=_is_busy(load, open_requests, calls), load=load)


def _not_ready(status: int, body: bytes, *, lives_without: bool) -> Health:
    if status in (404, 405) and lives_without:
        return Health(ready=True)  # a server without a list of models is a server
    if status in (401, 403):
        return Health(ready=False, reason=f"it refuses the relay's key (status {status})")
    if status == 503 and b"oading" in body:
        return Health(ready=False, loading=True, reason="it is loading its model")
    return Health(ready=False, reason=f"it answers with status {status}")


def _is_busy(load: Load | None, open_requests: int, calls: EngineCalls) -> bool:
    if load is not None and load.waiting:
        return True
    if load is not None and load.slots is not None and load.running is not None:
        return load.running >= load.slots
    return open_requests >= (calls.endpoint.max_concurrency or calls.endpoint.profile.max_concurrency)


async def _load(calls: EngineCalls, limit: float) -> Load | None:
    """What the engine tells of its load; much of it is switched off by default, so nothing of it has to be there."""
    profile = calls.endpoint.profile
    load: Load | None = None
    if profile.gauges is not None and (text := await _text(calls, "/metrics", limit)) is not None:
        load = read_gauges(text, profile.gauges)
    if profile.slots is not None and (text := await _text(calls, profile.slots, limit)) is not None:
        load = _both(read_slots(text), load)
    if profile.loaded is not None and (text := await _text(calls, profile.loaded, limit)) is not None:
        load = read_loaded(text)
    return load


async def _text(calls: EngineCalls, path: str, limit: float) -> bytes | None:
    try:
        async with asyncio.timeout(limit):
            status, body = await calls.get(path, limit)
    except (TimeoutError, RelayError):
        return None
    return body if status == 200 else None


def _both(slots: Load | None, gauges: Load | None) -> Load | None:
    """The slots, with what waits before them."""
    if slots is None or gauges is None:
        return slots or gauges
    return msgspec.structs.replace(slots, waiting=gauges.waiting)


def read_gauges(text: bytes, gauges: Gauges) -> Load | None:
    """The load by an engine's metrics; counts of several models or processes are added up. `None` if none is there."""
    samples = read_samples(text, (gauges.running, gauges.waiting, *gauges.cache))
    caches = [value for name in gauges.cache for value in samples[name]]
    if not any(samples.values()):
        return None
    return Load(
        running=_count(samples[gauges.running]),
        waiting=_count(samples[gauges.waiting]),
        cache=min(max(0.0, *caches), 1.0) if caches else None,
    )


def _count(values: list[float]) -> int | None:
    return math.floor(min(max(0.0, sum(values)), 2.0**31)) if values else None


def read_slots(body: bytes) -> Load | None:
    """llama-server's `/slots`; `None` if it is something else."""
    slots = _json(body)
    if not isinstance(slots, list) or not slots or not all(isinstance(slot, dict) for slot in slots):
        return None
    windows = [slot["n_ctx"] for slot in slots if isinstance(slot.get("n_ctx"), int)]
    return Load(
        running=sum(slot.get("is_processing") is True for slot in slots),
        slots=len(slots),
        context_window=min(windows, default=None),
    )


def read_loaded(body: bytes) -> Load | None:
    """Ollama's `/api/ps`: the models in memory; `None` if it is something else."""
    value = _json(body)
    models = value.get("models") if isinstance(value, dict) else None
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        return None
    windows = [model["context_length"] for model in models if isinstance(model.get("context_length"), int)]
    names = tuple(model["model"] for model in models if isinstance(model.get("model"), str))
    return Load(models=names, context_window=min(windows, default=None))


def _json(body: bytes) -> Any:
    try:
        return loads(body)
    except NotJson:
        return None
