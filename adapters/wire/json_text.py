"""JSON at the edges: bytes to values, forgiving where real clients and servers are sloppy."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

decode_any = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode
T = TypeVar("T")

_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:"
    rb"[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"  # a first half that no second one follows
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2}"  # a second half after no first one
    rb")"
)
_MASK = b"\x00\x00"
_MOST_HALVES = 500_000
"""Escaped surrogates, in pairs or alone, that a body may have in which one is alone: each is looked at, in one step."""
_MOST_BRACKETS = 1_000_000
"""Those that open an array or an object, or stand in a text. Decoding is one step that nothing can interrupt: that of
sixty megabytes of empty arrays takes seconds, and a gigabyte."""


class NotJson(ValueError):
    """The bytes are not one JSON value; the message says where, never what they hold."""


def loads(body: bytes) -> Any:
    """Any JSON value. Lone surrogates, which JSON allows and UTF-8 does not, become U+FFFD.

    Raises NotJson.
    """
    try:
        return decode_repaired(body, decode_any)[0]
    except msgspec.ValidationError as exc:  # a number out of any range
        raise NotJson(str(exc)) from None


def decode_repaired(body: bytes, decode: Callable[[bytes], T]) -> tuple[T, bytes]:
    """What msgspec's `decode` makes of the body, and the bytes it took: the body or, repaired, its like.

    msgspec calls a lone surrogate truncated or malformed input, so a body with one gets a second look.
    Raises NotJson, and msgspec.ValidationError as `decode` does.
    """
    try:
        return _decode(body, decode), body
    except NotJson:
        repaired = _without_lone_surrogates(body)
        if repaired == body:
            raise
    return _decode(repaired, decode), repaired


def _decode(body: bytes, decode: Callable[[bytes], T]) -> T:
    if len(body) > _MOST_BRACKETS and body.count(b"[") + body.count(b"{") > _MOST_BRACKETS:
        raise NotJson(f"it has more than {_MOST_BRACKETS} arrays and objects")
    try:
        return decode(body)
    except RecursionError:
        raise NotJson("nested too deeply") from None
    except UnicodeDecodeError:  # msgspec lets this one through as it is, and its text quotes the body
        raise NotJson("it is not UTF-8") from None
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as exc:
        raise NotJson(str(exc)) from None


def _without_lone_surrogates(body: bytes) -> bytes:
    """The body with each lone surrogate's escape as U+FFFD's, which is as long; linear in its length.

    Raises NotJson if there are too many surrogates to look at.
    """
    halves = body.count(b"\\ud") + body.count(b"\\uD")
    if not halves or b"\x00" in body:  # JSON never holds a NUL, so that it can stand in below
        return body
    if halves > _MOST_HALVES:
        raise NotJson(f"malformed, or one of more than {_MOST_HALVES} escaped surrogates has no other half")
    if b"\\\\" not in body:
        return _LONE_SURROGATE.sub(rb"\\ufffd", body)
    # A run of backslashes is read in pairs from its left: with these masked, every `\u` is an escape.
    masked = body.replace(b"\\\\", _MASK)
    return _LONE_SURROGATE.sub(rb"\\ufffd", masked).replace(_MASK, b"\\\\")


def dump_text(value: Any) -> str:
    """Compact JSON text of a value that came out of JSON."""
    return encode(value).decode()
