"""JSON at the edges: bytes to values, forgiving where real clients and servers are sloppy."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

decode_any = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode
_SURROGATE = re.compile("[\ud800-\udfff]")


class NotJson(ValueError):
    """The bytes are not one JSON value; the message says where, never what they hold."""


def loads(body: bytes) -> Any:
    """Any JSON value. Lone surrogates, which JSON allows and UTF-8 does not, become U+FFFD.

    Raises NotJson.
    """
    try:
        return decode_any(body)
    except RecursionError:
        raise NotJson("nested too deeply") from None
    except UnicodeDecodeError:  # msgspec lets this one through as it is, and its text quotes the body
        raise NotJson("it is not UTF-8") from None
    except msgspec.DecodeError as exc:
        return _second_look(body, exc)


def _second_look(body: bytes, first: msgspec.DecodeError) -> Any:
    """msgspec calls a lone surrogate truncated input, so the standard parser gets the last word."""
    if b"\\u" not in body and b"\\U" not in body:
        raise NotJson(str(first)) from None
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise NotJson("nested too deeply") from None
    except ValueError:
        raise NotJson(str(first)) from None
    return _without_surrogates(value)


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def dump_text(value: Any) -> str:
    """Compact JSON text of a value that came out of JSON."""
    return encode(value).decode()
