"""What `relay engines` shows of an engine: as a document for JSON, and as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.filesize import decimal
from rich.table import Column, Table

from adapters.local.spec import EngineSpec
from adapters.local.status import EngineStatus, Place, PlaceStatus, State

_FROM_GOOD_TO_BAD = ("up", "busy", "resting", "unknown", "draining", "drained", "down")


def engine_document(
    engine: EngineSpec, status: EngineStatus | None, places: Mapping[Place, PlaceStatus]
) -> dict[str, Any]:
    """An engine for JSON. Bytes, seconds; `null` is not known. `places` are those of all engines, if a relay runs."""
    replicas = [_replica(places[place]) for place in _places(engine) if place in places]
    document: dict[str, Any] = {
        "name": engine.name,
        "kind": "local" if engine.is_local else "remote",
        "profile": engine.profile,
        "models": dict(engine.models),
        "state": (status.state if status else State.STOPPED).value if engine.is_local else _best(replicas),
        "address": list(engine.urls) or None,
        "memory": engine.memory,
        "open": sum(replica["open"] for replica in replicas),
        "replicas": replicas,
    }
    if status is None:
        return document
    address = status.address
    return document | {
        "address": address and [f"unix:{address.uds}" if address.uds else address.url],
        "memory": engine.memory if status.memory is None else status.memory,
        "seconds": status.seconds,
        "pid": status.pid,
        "busy": status.busy,
        "waiting": status.waiting,
        "idle_for": status.idle_for,
        "starts": status.starts,
        "failures": status.failures,
        "retry_in": status.retry_in,
        "progress": status.progress or None,
        "error": status.error,
    }


def _places(engine: EngineSpec) -> list[Place]:
    if engine.is_local:
        return [Place(engine.upstream, engine.name if engine.group else "")]
    return [Place(engine.name, str(number)) for number in range(1, len(engine.urls) + 1)]


def _replica(status: PlaceStatus) -> dict[str, Any]:
    return {
        "name": status.place.replica,
        "address": status.address,
        "state": status.state,
        "open": status.open,
        "waiting": status.waiting,
        "reason": status.reason or None,
    }


def _best(replicas: Sequence[dict[str, Any]]) -> str:
    """Of a remote engine: it is as well as the best of its replicas."""
    states = {replica["state"] for replica in replicas}
    return next((state for state in _FROM_GOOD_TO_BAD if state in states), "unknown")


def engine_table(documents: Sequence[dict[str, Any]]) -> Table:
    table = Table(Column("engine", no_wrap=True), "", "profile", "state", "requests", "memory", "address", "note")
    table.box, table.pad_edge = None, False
    for document in documents:
        for name, state, requests, address, note in _rows(document):
            memory = decimal(document["memory"]) if document["memory"] else "-"
            table.add_row(name, document["kind"], document["profile"], state, requests, memory, address, note)
    return table


def _rows(document: dict[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """Name, state, requests, address and note; of a remote engine with several addresses a row for each."""
    replicas: list[dict[str, Any]] = document["replicas"]
    if document["kind"] == "remote" and replicas:
        for replica in replicas:
            name = document["name"] if len(replicas) == 1 else f"{document['name']}/{replica['name']}"
            yield name, replica["state"], _work(replica), replica["address"], replica["reason"] or ""
        return
    drained = [replica["state"] for replica in replicas if replica["state"] in ("draining", "drained")]
    address = ", ".join(document["address"] or ["-"])
    yield document["name"], ", ".join([document["state"], *drained]), _requests(document), address, _note(document)


def _work(replica: dict[str, Any]) -> str:
    """The relay's own requests there, and what waits in the engine's own queue."""
    words = [f"{replica['open']} open"] * bool(replica["open"])
    words += [f"{replica['waiting']} waiting there"] * bool(replica["waiting"])
    return ", ".join(words) or "-"


def _requests(document: dict[str, Any]) -> str:
    if document.get("waiting"):
        return f"{document['waiting']} waiting"
    if document["open"]:
        return f"{document['open']} open"
    if document.get("busy"):
        return "busy"
    return "-" if document.get("idle_for") is None else f"idle for {document['idle_for']:.0f} s"


def _note(document: dict[str, Any]) -> str:
    """What the operator wants to know beyond the state: how far a start is, or what went wrong."""
    notes = [text for text in (document.get("progress"), document.get("error")) if text]
    if document.get("retry_in"):
        notes.append(f"again in {document['retry_in']:.0f} s")
    return "; ".join(notes)
