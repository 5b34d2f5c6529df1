"""AI Gateway's logs, of the last runs that named a gateway. Never what was asked or answered, only the frame of it.

Source: `AiGatewayLog` of Cloudflare's binding (cloudflare/workerd `aig-api.ts`, 2026-08).
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Literal

import msgspec
from starlette.types import Receive, Scope, Send

from adapters.errors import InvalidRequest, RelayError
from adapters.wire.json_text import NotJson, encode, loads
from adapters.wire.validation import decode
from wrangler_compat.answers import Answer, Delivery, Header, Sent, Through
from wrangler_compat.problems import REST

_MOST = 1000
_SHOWN = 500  # characters of a caller's words
_LARGEST = 4096  # bytes of metadata

_Metadata = dict[str, str | int | float | bool | None]
Metadata = Mapping[str, str | int | float | bool | None]


class Log(msgspec.Struct, kw_only=True):
    """One run, as `getLog` gives it. `duration` is in milliseconds, sizes in bytes."""

    id: str
    created_at: str
    provider: str
    model: str
    path: str
    duration: int
    status_code: int
    success: bool
    request_size: int
    response_size: int
    cached: Literal[False] = False
    request_head_complete: Literal[False] = False
    response_head_complete: Literal[False] = False
    request_content_type: str = ""
    response_content_type: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    step: int = 0
    metadata: Metadata | None = None
    score: float | None = None
    feedback: Literal[-1, 1] | None = None


class _Patch(msgspec.Struct):
    """What `patchLog` may change; what it leaves out stays, null takes away."""

    score: float | None | msgspec.UnsetType = msgspec.UNSET
    feedback: Literal[-1, 1] | None | msgspec.UnsetType = msgspec.UNSET
    metadata: _Metadata | None | msgspec.UnsetType = msgspec.UNSET


_PATCH = msgspec.json.Decoder(_Patch)


class Logs:
    """The newest logs of all callers; each sees its own."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, tuple[str, str, Log]] = OrderedDict()

    def add(self, owner: str, gateway: str, log: Log) -> None:
        self._by_id[log.id] = (owner, gateway, log)
        if len(self._by_id) > _MOST:
            self._by_id.popitem(last=False)

    def get(self, owner: str, gateway: str, id: str) -> Log | None:
        found = self._by_id.get(id)
        return found[2] if found is not None and found[:2] == (owner, gateway) else None

    @staticmethod
    def patch(log: Log, body: bytes) -> None:
        """Take over what `patchLog` says. Raises InvalidRequest naming the field."""
        if len(body) > _LARGEST:
            raise InvalidRequest(f"The body may have at most {_LARGEST} bytes.")
        patch = decode(body, _PATCH)
        for name in ("score", "feedback", "metadata"):
            value = getattr(patch, name)
            if value is not msgspec.UNSET:
                setattr(log, name, value)


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a log says of a request before it is answered."""

    gateway: str
    model: str
    path: str
    size: int
    content_type: str = ""
    provider: str = "workers-ai"
    metadata: Metadata | None = None


async def deliver(
    delivery: Delivery,
    answer: Answer,
    logged: tuple[Logs, Note] | None,
    asgi: tuple[Scope, Receive, Send],
    headers: Iterable[Header] = (),
) -> None:
    """Send an answer and, where a gateway was named, keep a log of it under the id that the caller gets."""
    if logged is None or isinstance(answer, Through):  # there Cloudflare keeps the log
        await delivery.send(answer, asgi, headers)
        return
    logs, note = logged
    id = secrets.token_hex(13).upper()
    started = time.monotonic()
    sent = Sent()
    told = chain([(b"cf-aig-log-id", id.encode()), (b"cf-aig-cache-status", b"MISS")], headers)
    try:
        await delivery.send(answer, asgi, told, sent)
    except RelayError as exc:
        sent.status = REST.of_relay_error(exc).status
        raise
    finally:
        logs.add(
            asgi[0]["state"]["principal"].id, note.gateway[:_SHOWN], _log(id, note, sent, time.monotonic() - started)
        )


def _log(id: str, note: Note, sent: Sent, seconds: float) -> Log:
    return Log(
        id=id,
        created_at=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        provider=note.provider,
        model=note.model[:_SHOWN],
        path=note.path[:_SHOWN],
        duration=round(seconds * 1000),
        status_code=sent.status or 500,
        success=200 <= sent.status < 300,
        request_size=note.size,
        response_size=sent.size,
        request_content_type=note.content_type[:_SHOWN],
        response_content_type=sent.media_type,
        tokens_in=sent.usage.prompt_tokens if sent.usage else None,
        tokens_out=sent.usage.completion_tokens if sent.usage else None,
        metadata=note.metadata,
    )


def read_metadata(value: Any) -> Metadata | None:
    """`cf-aig-metadata` as text, or the binding's own object; what is neither is no metadata."""
    try:
        read = loads(value.encode()) if isinstance(value, str) else value
        metadata = msgspec.convert(read, _Metadata)
    except (NotJson, msgspec.ValidationError):
        return None
    return metadata if len(encode(metadata)) <= _LARGEST else None
