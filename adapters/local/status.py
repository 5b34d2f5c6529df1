"""What the supervisor tells of engines and their replicas, and what it hears of them."""

from __future__ import annotations

from enum import Enum
from typing import Literal, NamedTuple

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


class Place(NamedTuple):
    """Where work is done: an engine by what candidates call it, and the name of one of its replicas.

    A remote engine's replicas are `1`, `2`, ... in the order of its URLs, those of an engine of our own on several
    devices have the names of their processes; any other local engine has one, whose name is empty.
    """

    engine: str
    replica: str

    def __str__(self) -> str:
        return f"{self.engine}/{self.replica}" if self.replica else self.engine


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A replica as one worker process sees it. `state` is the value of an `adapters.replica.State`, or `unknown` where
    nothing was seen of it lately, `open` are the process's requests there, `waiting` those that the engine says it has
    waiting."""

    place: Place
    state: Literal["unknown", "up", "busy", "resting", "draining", "down"]
    open: int
    waiting: int
    reason: str


class PlaceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A replica as the whole relay sees it, for the operator.

    `state` is the worst that any process sees; of one that is drained it is `draining` as
    long as requests are open there, or may be, and then `drained`. `reason` says in words why it takes no work.
    """

    place: Place
    address: str | None
    state: str
    open: int
    waiting: int
    reason: str
