"""Media inside JSON: Workers AI takes bytes as base64 text, as a data URI or as a list of numbers."""

from __future__ import annotations

import base64
import binascii
from typing import Any


class Blob(bytes):
    """Bytes that came in any of the three forms; a type of its own so that the decoder asks `read_blob`."""

    __slots__ = ()


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
            raise ValueError("expected numbers from 0 to 255") from None
    raise ValueError("expected base64 text or a list of bytes")
