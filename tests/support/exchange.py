"""A recorded exchange: the request as it was sent, followed by all bytes that came back."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tests.support.raw_http import dechunked


class Exchange(NamedTuple):
    """One request and its answer. Header names are in lower case; `payload` is the answer's body without framing."""

    target: str
    asked: Any
    """The request's JSON, if it had some."""
    status: int
    """0 if the engine closed the connection without an answer."""
    headers: dict[str, str]
    payload: bytes
    answer: bytes
    """Everything that came back, as it came."""
    whole: bool
    """The answer came to the end that HTTP gives it; not so if the engine died or the recorder hung up."""

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


def read_exchange(recording: bytes) -> Exchange:
    """The exchange that a `.http` file holds."""
    (_, target, _), headers, rest = _head(recording)
    length = int(headers.get("content-length", "0"))
    body, answer = rest[:length], rest[length:]
    if not answer:
        return Exchange(target, _json(body), 0, {}, b"", b"", whole=False)
    (_, status, *_), headers, rest = _head(answer)
    if "chunked" in headers.get("transfer-encoding", ""):
        payload, whole = dechunked(rest)
    else:
        payload, whole = rest, len(rest) == int(headers.get("content-length", len(rest)))
    return Exchange(target, _json(body), int(status), headers, payload, answer, whole)


def _head(message: bytes) -> tuple[list[str], dict[str, str], bytes]:
    head, _, rest = message.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = (line.split(": ", 1) for line in lines)
    return first.split(" ", 2), {name.lower(): value for name, value in fields}, rest


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
