"""What passes through the control socket: JSON, one message a line.

A worker process asks for an engine once and may then use it as long as the supervisor does not recall it: it tells when
its first request begins (`Use`, busy) and its last one ends, and nobody waits for that. `id` is the worker's choice,
unique on its connection; one that is unknown, since messages have crossed, is left alone.

On a connection of its own a worker hears which replicas the operator has drained (`Watch`, `Drained`), and is asked how
its replicas are (`Survey`, whose `id` is the supervisor's choice, and `Seen`).
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from adapters.local.address import EngineAddress
from adapters.local.status import EngineStatus, Place, PlaceStatus, Sighting

Do = Literal["status", "start", "stop", "replicas", "drain", "resume"]

# ---------------------------------------------------------------- to the supervisor


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """For a lease of the engine. Answered by Progress, any number of times, and Ready or Refused."""

    id: int
    name: str


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Nobody waits for the answer to `id` any more."""

    id: int


class Use(msgspec.Struct, frozen=True, tag="use"):
    """The first request under the lease `id` begins, or the last one has ended. A new lease is busy."""

    id: int
    busy: bool


class Return(msgspec.Struct, frozen=True, tag="return"):
    """The lease is over."""

    id: int


class Report(msgspec.Struct, frozen=True, tag="report"):
    """A request could not reach the engine, or was not answered."""

    id: int


class Command(msgspec.Struct, frozen=True, tag="command"):
    """From the operator. Answered by Progress, any number of times, and Done or Refused.

    `replica` is one of the engine's by its place in the settings, its URL or its name; without it all are meant.
    `wait` counts for `drain`: until nothing is under way there.
    """

    id: int
    do: Do
    name: str = ""
    replica: str = ""
    wait: bool = True


class Watch(msgspec.Struct, frozen=True, tag="watch"):
    """To hear at once, and whenever it changes, what is drained; this connection answers each Survey."""


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """The answer to the Survey `id`."""

    id: int
    replicas: list[Sighting]


FromClient = Ask | Cancel | Use | Return | Report | Command | Watch | Seen

# ---------------------------------------------------------------- from the supervisor


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    id: int
    text: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    id: int
    address: EngineAddress


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """`fault` is the name of an `adapters.errors.Fault`."""

    id: int
    fault: str
    message: str
    retry_after: float | None = None


class Recall(msgspec.Struct, frozen=True, tag="recall"):
    """Return the lease as soon as no request is open; what comes then asks anew."""

    id: int


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """The engine that was leased is no more, and so is the lease."""

    id: int


class Done(msgspec.Struct, frozen=True, tag="done"):
    id: int
    engines: list[EngineStatus] = []
    replicas: list[PlaceStatus] = []


class Drained(msgspec.Struct, frozen=True, tag="drained"):
    """All that is drained; whatever is not in it takes work."""

    places: list[Place]


class Survey(msgspec.Struct, frozen=True, tag="survey"):
    """To tell how the replicas are, as this process sees them."""

    id: int


FromSupervisor = Progress | Ready | Refused | Recall | Gone | Done | Drained | Survey

LIMIT = 2**20
"""Bytes of a line."""

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_client_decoder: msgspec.json.Decoder[FromClient] = msgspec.json.Decoder(FromClient)
_supervisor_decoder: msgspec.json.Decoder[FromSupervisor] = msgspec.json.Decoder(FromSupervisor)


def dump(message: FromClient | FromSupervisor) -> bytes:
    return _encoder.encode(message) + b"\n"


def parse_from_client(line: bytes) -> FromClient:
    """Raises msgspec.DecodeError (ValidationError is one)."""
    return _parse(_client_decoder, line)


def parse_from_supervisor(line: bytes) -> FromSupervisor:
    """Raises msgspec.DecodeError (ValidationError is one)."""
    return _parse(_supervisor_decoder, line)


def _parse(decoder: msgspec.json.Decoder[T], line: bytes) -> T:
    try:
        return decoder.decode(line)
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None
