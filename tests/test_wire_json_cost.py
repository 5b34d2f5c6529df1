"""What a body costs is known before it is decoded, wherever it is cut."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import Fault, RelayError
from adapters.wire.json_cost import MOST_VALUES, JsonCost


def is_refused(body: bytes, size: int = 2**16) -> bool:
    cost = JsonCost()
    try:
        for at in range(0, len(body), size):
            cost.feed(body[at : at + size])
    except RelayError as exc:
        assert exc.fault is Fault.REQUEST_TOO_LARGE
        assert str(MOST_VALUES) in exc.message
        return True
    return False


def some(piece: bytes, count: int, head: bytes = b'{"x":[', tail: bytes = b"]}") -> bytes:
    return head + b",".join([piece] * count) + tail


REFUSED: dict[str, bytes] = {
    "arrays": some(b"[]", MOST_VALUES),
    "objects": some(b"{}", MOST_VALUES),
    "strings": some(b'""', MOST_VALUES),
    "strings of quotes": some(rb'"\""', MOST_VALUES),
    "strings of backslashes": some(rb'"\\"', MOST_VALUES),
    "keys": some(b'"k":1', MOST_VALUES, b"{", b"}"),
    "fractions": some(b"0.5", MOST_VALUES),
    "exponents": some(b"1e-310", MOST_VALUES // 20),
    "capital exponents": some(b"1E9", MOST_VALUES // 20),
    "exponents among words": some(b"true,1e300,false", MOST_VALUES // 20),
    "long integers": some(b"1" * 4000, MOST_VALUES // 30 // 2),
    "a list of calls": some(b"{}", MOST_VALUES, b"[", b"]"),
    "behind blanks": b"\xef\xbb\xbf\r\n\t " + some(b"[]", MOST_VALUES),
    "of many kinds": some(b'{"a":[1.5,"b"]}', MOST_VALUES // 5),
}


@pytest.mark.parametrize("size", [4099, 2**16, 2**30])
@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_too_many_values_are_refused(body: bytes, size: int) -> None:
    assert is_refused(body, size)


_RANDOM = random.Random(1)
TAKEN: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" " * 2**20,
    "a recording as numbers": json.dumps({"audio": list(_RANDOM.randbytes(10**6))}).encode(),
    "integers": some(b"0", 4 * 10**6),
    "signed integers": some(b"-12", 10**6),
    "text": json.dumps({"text": "[1.5e9, {'x': 2}] " * 10**5}).encode(),
    "JSON in text": json.dumps({"text": json.dumps([{"a": [1.5, {"b": "\\"}]}] * 10**5)}).encode(),
    "base64": b'{"image":"' + b"Zm9v" * 10**6 + b'"}',
    "words": some(b"true,false,null", 10**6),
    "a recording": _RANDOM.randbytes(2**22),
    "a recording that begins like JSON": b"[" + _RANDOM.randbytes(2**22),
    "a form": b'--x\r\ncontent-disposition: form-data; name="[{"\r\n\r\n' + b"[" * 10**6 + b"\r\n--x--",
    "a string": b'"' + b"[" * 10**6 + b'"',
    "turns": some(b'{"role":"user","content":"Hi. [1]"}', 20_000, b'{"messages":['),
    "just not too many": some(b"[]", MOST_VALUES - 3),
}


@pytest.mark.parametrize("size", [4099, 2**16, 2**30])
@pytest.mark.parametrize("body", TAKEN.values(), ids=TAKEN)
def test_whatever_is_decoded_in_no_time_is_taken(body: bytes, size: int) -> None:
    assert not is_refused(body, size)


def values_in(value: Any) -> int:
    """Strings, keys, objects, arrays; there are no fractions."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(values_in, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(values_in, value))
    return int(isinstance(value, str))


_TEXT = st.text(st.sampled_from('\\"[]{},:.eE a\n'))
_VALUES = st.recursive(
    _TEXT | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
)


@given(_VALUES.filter(lambda value: isinstance(value, list | dict)), st.integers(1, 9), st.sampled_from([None, 1]))
def test_every_value_counts_once_wherever_the_body_is_cut(value: Any, size: int, indent: int | None) -> None:
    body = json.dumps(value, indent=indent).encode()
    cost = JsonCost()
    cost.feed(body[:1])
    for at in range(1, len(body), size):
        cost.feed(body[at : at + size])
    # A word that is cut counts as an exponent; here none is.
    cut = sum(body.count(word) for word in (b"true", b"false"))
    assert values_in(value) <= cost._values <= values_in(value) + 20 * cut
