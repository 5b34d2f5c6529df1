"""What an answer that is passed on unread tells of its cost or of its failure; a stream tells it at its end.

Sources as in `adapters.wire.workers_ai`, whose decoder reads a stream's usage in full.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import msgspec

from adapters.canonical import Usage
from adapters.errors import RelayError
from adapters.wire import json_text, sse
from adapters.wire.json_text import NotJson
from adapters.wire.openai_upstream import read_usage
from adapters.wire.workers_ai_errors import read_error

_TAIL = 2**16  # bytes; the frames that count are far shorter
_LAST = 8  # frames


class Told(NamedTuple):
    """Either is `None` where nothing was said of it."""

    usage: Usage | None = None
    failure: RelayError | None = None


class _Inner(msgspec.Struct):
    usage: Any = None


class _Value(msgspec.Struct):
    """An answer or a frame, of any shape; what is in neither list is skipped unread."""

    usage: Any = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    response: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    choices: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    success: Any = None
    errors: Any = None
    error: Any = None


_decode_value = msgspec.json.Decoder(_Value).decode
_decode_inner = msgspec.json.Decoder(_Inner).decode


def read_answer(body: bytes) -> Told:
    """Of a whole answer, in its envelope or bare."""
    value = _read(body)
    if value is None:
        return Told()
    if _failed(value):
        return Told(failure=read_error(502, json_text.loads(body)))
    return Told(usage=read_usage(value.usage) or _inner_usage(value.result))


class UsageTail:
    """Keeps the end of a stream until it is over; a chunk costs less than a microsecond."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        while self._size - len(self._chunks[0]) >= _TAIL:
            self._size -= len(self._chunks.popleft())

    def close(self) -> Told:
        """What the last frames tell of the whole.

        A frame without choices counts all; the last chunk of an OpenAI stream does only where counts run on, so
        that it names the prompt's tokens too. Increments, whose sum would need every chunk, tell nothing.
        """
        decoder = sse.SSEDecoder()
        payloads = decoder.feed(b"".join(self._chunks)) + decoder.close()
        for payload in reversed(payloads[-_LAST:]):
            value = _read(payload)
            if value is None:
                continue
            if _failed(value):
                return Told(failure=read_error(502, json_text.loads(payload)))
            usage = read_usage(value.usage) or _inner_usage(value.response)
            if usage is not None:
                return Told(usage if value.choices is msgspec.UNSET or usage.prompt_tokens else None)
        return Told()


def _read(body: bytes) -> _Value | None:
    try:
        return json_text.decode_repaired(body, _decode_value)[0]
    except (NotJson, msgspec.ValidationError):
        return None


def _failed(value: _Value) -> bool:
    return value.success is False or bool(value.errors) or bool(value.error)


def _inner_usage(raw: msgspec.Raw | msgspec.UnsetType) -> Usage | None:
    """That of an object one level down: a `result`, or the `response` of a Responses event."""
    if raw is msgspec.UNSET:
        return None
    try:
        return read_usage(json_text.decode_repaired(bytes(raw), _decode_inner)[0].usage)
    except (NotJson, msgspec.ValidationError):  # a list, a text
        return None
