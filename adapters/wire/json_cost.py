"""What a JSON body would cost to decode, told while it arrives: decoding it is one step that nothing can interrupt."""

from __future__ import annotations

from adapters.errors import Fault, RelayError

MOST_VALUES = 200_000
"""Strings, keys, objects, arrays and numbers with a fraction in one body; short integers are as good as free."""
_EXPONENT = 20
"""What a number with an exponent counts for: of a very large or small one the decoder works out every digit."""
_LONG = 1024
"""Digits of an integer whose reading takes more than its share of time: that grows with their square."""
_LONG_INTEGER = 30
"""What as many bytes without a comma count for."""
_BLANK = b" \t\r\n\xef\xbb\xbf"
_STARTS = (b"{", b"[")
_START = 1024
"""Bytes by which a recording is told from JSON."""
_OUTSIDE = b" \t\r\n[]{},:+-.0123456789Eabcdefghijklmnopqrstuvwxyz"
"""All that can stand outside of strings, and letters that cannot."""


class JsonCost:
    """Counts the values in a body, cut anywhere.

    Quotes and brackets that are part of a string are told from those around it. A decoder stops at the first byte that
    cannot stand where it does: a body that is no JSON object or array, such as a recording, costs nothing.
    """

    __slots__ = ("_begun", "_escaped", "_in_string", "_is_json", "_values")

    def __init__(self) -> None:
        self._begun = False
        self._is_json = True
        self._in_string = False
        self._escaped = False  # what comes next is the second half of an escape
        self._values = 0

    def feed(self, chunk: bytes) -> None:
        """Raises RelayError (REQUEST_TOO_LARGE) as soon as there are too many."""
        if not self._begun:
            chunk = chunk.lstrip(_BLANK)
            self._begun = chunk != b""
            if self._begun and not (chunk.startswith(_STARTS) and self._reads_as_json(chunk)):
                self._is_json = False
        if self._is_json:
            outside = self._outside(chunk)
            self._values += _cost(outside)
            if self._values > MOST_VALUES:
                raise RelayError(
                    Fault.REQUEST_TOO_LARGE,
                    f"The JSON body holds more than {MOST_VALUES} strings, keys, objects, arrays and decimal numbers "
                    f"(one with an exponent counts for {_EXPONENT}). Send bytes as base64 text, or less at once.",
                )

    def _reads_as_json(self, start: bytes) -> bool:
        """Whether what stands outside of strings can; asked of the start alone, which tells a recording."""
        return not JsonCost()._outside(start[:_START]).translate(None, _OUTSIDE)

    def _outside(self, chunk: bytes) -> bytes:
        """What stands outside of strings; the strings that begin here are counted."""
        if self._escaped and chunk:
            chunk = chunk[1:]
            self._escaped = False
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
            self._escaped = chunk.endswith(b"\\")
        if b'"' not in chunk:
            return b"" if self._in_string else chunk
        pieces = chunk.split(b'"')
        outside = b"".join(pieces[self._in_string :: 2])
        self._values += (len(pieces) - self._in_string) // 2
        self._in_string ^= len(pieces) % 2 == 0
        return outside


def _cost(outside: bytes) -> int:
    """Looking for a byte is far cheaper than counting it."""
    cost = 0
    for mark in (b"[", b"{", b"."):
        if mark in outside:
            cost += outside.count(mark)
    if b"e" in outside or b"E" in outside:
        words = outside.count(b"true") + outside.count(b"false")
        cost += _EXPONENT * max(0, outside.count(b"e") + outside.count(b"E") - words)
    for at in range(0, len(outside) - _LONG + 1, _LONG):
        if outside.find(b",", at, at + _LONG) < 0:
            cost += _LONG_INTEGER
    return cost
