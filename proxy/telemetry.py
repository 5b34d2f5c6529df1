"""What every request carries through the relay and every answer carries back."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.base import Call
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.simulator.script import parse_header
from adapters.wire.changes import HEADER, dump_changes

log = logging.getLogger("relay")
access_log = logging.getLogger("relay.access")

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")
_YES = {b"true": True, b"1": True, b"false": False, b"0": False}
_CHANGES = HEADER.encode()
_LONGEST_WAIT = 3600.0  # seconds; what a client may say about its own patience


class Observer(Protocol):
    """Told of every request once it is over.

    `route` is the path of the route that took it, `none` if none did; `status` is 0 for a request that got no answer.
    Both times are in seconds, on the clock of `Call.deadline`.
    """

    def finished(self, call: Call, route: str, status: int, started: float, ended: float) -> None: ...


class Telemetry:
    """Outermost middleware: gives the request its `Call`, and the answer the headers that tell of it.

    `strict` is the operator's wish, `hop` our own mark on calls to upstreams: a request that bears it has come back
    to us. Of a path below a prefix of `keyed` the access log shows the prefix alone, for a token follows it; anywhere
    else it hides what `is_token`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        strict: bool,
        hop: str,
        access: bool,
        keyed: tuple[str, ...] = (),
        is_token: Callable[[str], bool] = lambda segment: False,
        observer: Observer | None = None,
    ) -> None:
        self.app = app
        self._strict = strict
        self._hop = hop.encode()
        self._access = access
        self._keyed = keyed
        self._is_token = is_token
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = time.monotonic()
        call = self._call(scope, started)
        scope.setdefault("state", {})["call"] = call
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                call.committed = True
                message["headers"] = [*message["headers"], *self._headers(call, started)]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            ended = time.monotonic()
            if self._observer is not None:
                route = scope.get("route")
                self._observer.finished(call, "none" if route is None else route.path, status, started, ended)
            if self._access:
                # The path alone: a query may hold a token.
                path = quote(self._shown(scope["path"]), safe="/@:%*")
                access_log.info("%s %s %s %.3fs %s", scope["method"], path, status or "-", ended - started, call.id)

    def _shown(self, path: str) -> str:
        for prefix in self._keyed:
            if prefix in path:
                return prefix
        return "/".join("***" if self._is_token(segment) else segment for segment in path.split("/"))

    def _call(self, scope: Scope, started: float) -> Call:
        call = Call("", strict=self._strict)
        for name, value in scope["headers"]:
            if name in _READERS:
                _READERS[name](call, value, started)
            elif name == b"x-relay-hop" and value == self._hop:
                call.refusal = RelayError(Fault.LOOP, "The relay's upstream leads back to the relay itself.")
        call.id = call.id or "req_" + secrets.token_hex(12)
        return call

    def _headers(self, call: Call, started: float) -> list[tuple[bytes, bytes]]:
        request_id = call.id.encode()
        now = time.monotonic()
        upstream = call.upstream_seconds + (0.0 if call.upstream_since is None else now - call.upstream_since)
        own = now - started - upstream
        headers = [
            (b"x-request-id", request_id),
            (b"request-id", request_id),
            (b"server-timing", b"relay;dur=%.1f, upstream;dur=%.1f" % (own * 1000, upstream * 1000)),
        ]
        if call.upstream:  # what the relay refuses or knows by itself is nobody else's word
            headers.append((b"x-relay-upstream", call.upstream.encode()))
        if call.handovers:
            headers.append((b"x-relay-handover", ", ".join(call.handovers).encode()))
        if call.changes:
            headers.append((_CHANGES, dump_changes(call.changes).encode()))
        return headers


def _request_id(call: Call, value: bytes, started: float) -> None:
    if not call.id and _SANE_ID.fullmatch(value):
        call.id = value.decode()


def _patience(call: Call, value: bytes, started: float) -> None:
    """How long the client's SDK waits, in seconds: after that nobody hears the answer."""
    try:
        seconds = float(value)
    except ValueError:
        return
    if 0 < seconds <= _LONGEST_WAIT:
        call.deadline = min(call.deadline, started + seconds)


def _strict(call: Call, value: bytes, started: float) -> None:
    wish = _YES.get(value.strip().lower())
    if wish is None:
        call.refusal = InvalidRequest(
            "Invalid header 'x-relay-strict': expected 'true' or 'false'.", param="x-relay-strict"
        )
    else:
        call.strict = wish


def _stream_mode(call: Call, value: bytes, started: float) -> None:
    wish = value.strip().lower()
    if wish not in (b"auto", b"native", b"synthetic"):
        call.refusal = InvalidRequest(
            "Invalid header 'x-relay-stream': expected 'auto', 'native' or 'synthetic'.", param="x-relay-stream"
        )
    else:
        call.stream_mode = wish.decode()


def _script(call: Call, value: bytes, started: float) -> None:
    try:
        call.script = parse_header(value)
    except InvalidRequest as exc:
        call.refusal = exc


def _affinity(call: Call, value: bytes, started: float) -> None:
    if _SANE_ID.fullmatch(value):
        call.affinity = value.decode()


_READERS = {
    b"x-request-id": _request_id,
    b"request-id": _request_id,
    b"x-stainless-read-timeout": _patience,
    b"x-stainless-timeout": _patience,
    b"x-relay-strict": _strict,
    b"x-relay-stream": _stream_mode,
    b"x-relay-script": _script,
    b"mf-header-x-relay-script": _script,  # a Worker's own header, on its way through Miniflare
    b"x-session-affinity": _affinity,
}
