"""What the supervisor tells of an engine."""

from __future__ import annotations

from enum import Enum

import msgspec

from adapters.local.address import EngineAddress


class State(Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    FAILED = "failed"


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """For the operator. `seconds`: since when it is in its state; `starts`, `failures`: how often since the relay
    started, and in a row; `waiting`: requests (of several processes, each once) that wait for it to be ready."""

    name: str
    state: State
    seconds: float
    pid: int | None
    address: EngineAddress | None
    waiting: int
    busy: bool
    idle_for: float | None
    starts: int
    failures: int
    retry_in: float | None
    progress: str
    error: str | None
    memory: int | None
