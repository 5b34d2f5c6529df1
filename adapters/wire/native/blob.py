"""Media inside JSON: Workers AI takes bytes as base64 text, as a data URI or as a list of numbers."""

from __future__ import annotations

import base64
import binascii
from typing import Any

_PIECE = 4096


class Blob(bytes):
    """Bytes that came in any of the three forms; a type of its own so that the decoder asks `read_blob`.

    `filename` is what the client calls them, where its form or header has a place for it: JSON has none. Blobs are
    equal if their bytes are, whatever they are called.
    """

    filename: str = ""

    @classmethod
    def named(cls, data: bytes, filename: str | None) -> Blob:
        blob = cls(data)
        blob.filename = filename or ""
        return blob


def read_blob(value: Any) -> Blob:
    """The bytes of a JSON value. Raises ValueError saying what is expected."""
    if isinstance(value, str):
        text = value.partition(",")[2] if value.startswith("data:") else value
        try:
            return Blob(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            raise ValueError("expected base64 text or a list of bytes") from None
    if isinstance(value, list):
        try:
            return Blob(bytes(value))
        except (TypeError, ValueError):
            index = _first_that_is_no_byte(value)
            raise ValueError(f"expected numbers from 0 to 255, and the one at index {index} is not") from None
    raise ValueError("expected base64 text or a list of bytes")


def _first_that_is_no_byte(values: list[Any]) -> int:
    """Looked for in pieces first: there may be millions of bytes before it."""
    for start in range(0, len(values), _PIECE):
        try:
            bytes(values[start : start + _PIECE])
        except (TypeError, ValueError):
            break
    return next(i for i, item in enumerate(values[start : start + _PIECE], start) if not _is_byte(item))


def _is_byte(item: Any) -> bool:
    return isinstance(item, int) and 0 <= item <= 255
