"""Complaints about a body name the field, in OpenAI's words."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import Fault, InvalidRequest
from adapters.wire.json_text import NotJson, loads
from adapters.wire.validation import decode, in_range, whole


class Inner(msgspec.Struct):
    name: str
    count: int | None = None


class Body(msgspec.Struct):
    text: str
    number: int | float | None = None
    flag: bool | None = None
    items: list[Inner] | None = None
    either: str | list[str] | None = None
    map: dict[str, int] | None = None
    short: Annotated[str, msgspec.Meta(min_length=2, max_length=3)] | None = None
    few: Annotated[list[int], msgspec.Meta(max_length=1)] | None = None
    some: Annotated[dict[str, int], msgspec.Meta(min_length=1)] | None = None
    small: Annotated[int, msgspec.Meta(le=5)] | None = None


DECODER = msgspec.json.Decoder(Body)


def read(body: bytes) -> Body:
    return decode(body, DECODER)


def complaint(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    assert caught.value.fault is Fault.INVALID_VALUE
    return caught.value


# Body, the field named, the code, words of the message.
WRONG: list[tuple[bytes, str | None, str, str]] = [
    (b"{}", "text", "missing_required_parameter", "Missing required parameter: 'text'."),
    (b'{"text":5}', "text", "invalid_type", "'text': expected a string, but got an integer instead."),
    (b'{"text":null}', "text", "invalid_type", "expected a string, but got null"),
    (b'{"text":"","number":"5"}', "number", "invalid_type", "expected a number, but got a string"),
    (b'{"text":"","flag":1}', "flag", "invalid_type", "expected a boolean, but got an integer"),
    (b'{"text":"","items":{}}', "items", "invalid_type", "expected an array, but got an object"),
    (b'{"text":"","items":[{"name":"a"},{}]}', "items[1].name", "missing_required_parameter", "items[1].name"),
    (b'{"text":"","items":[{"name":[]}]}', "items[0].name", "invalid_type", "expected a string, but got an array"),
    (b'{"text":"","either":[1]}', "either[0]", "invalid_type", "expected a string, but got an integer"),
    (b'{"text":"","either":1}', "either", "invalid_type", "expected a string or an array, but got an integer"),
    (b'{"text":"","map":{"secret":"x"}}', "map[...]", "invalid_type", "expected an integer"),
    (b'{"text":"","short":"a"}', "short", "invalid_value", "'short': expected at least 2 characters."),
    (b'{"text":"","short":"abcd"}', "short", "invalid_value", "'short': expected at most 3 characters."),
    (b'{"text":"","few":[1,2]}', "few", "invalid_value", "'few': expected at most 1 item."),
    (b'{"text":"","some":{}}', "some", "invalid_value", "'some': expected at least 1 entry."),
    (b'{"text":"","small":6}', "small", "invalid_value", "'small': expected at most 5."),
    (b"[]", None, "invalid_type", "Invalid body: expected an object, but got an array"),
    (b"null", None, "invalid_type", "expected an object, but got null"),
]


@pytest.mark.parametrize(("body", "param", "code", "words"), WRONG)
def test_a_wrong_field_is_named(body: bytes, param: str | None, code: str, words: str) -> None:
    error = complaint(body)
    assert (error.param, error.code) == (param, code)
    assert words in error.message


@pytest.mark.parametrize(("body", "param", "code", "words"), WRONG)
def test_a_wrong_field_is_named_alike_on_the_second_look(body: bytes, param: str | None, code: str, words: str) -> None:
    """A lone surrogate sends a body the long way round; what it is told there must not differ."""
    if not body.startswith(b"{"):
        return
    with_surrogate = body[:-1] + (b',"x":"\\ud800"}' if len(body) > 2 else b'"x":"\\ud800"}')
    error = complaint(with_surrogate)
    assert (error.param, error.code) == (param, code)


NOT_JSON = {
    "nothing": b"",
    "blanks": b" \n",
    "words": b"hello",
    "cut off": b'{"text":"a',
    "a comma too many": b'{"text":"a",}',
    "single quotes": b"{'text':'a'}",
    "NaN": b'{"text":"a","number":NaN}',
    "Infinity": b'{"text":"a","number":Infinity}',
    "NaN beside a lone surrogate": b'{"text":"\\ud800","number":NaN}',
    "no UTF-8": b'{"text":"\xff"}',
    "UTF-16": '{"text":"a"}'.encode("utf-16"),
    "a raw surrogate": b'{"text":"\xed\xa0\x80"}',
    "a NUL beside a lone surrogate": b'{"text":"\x00\x00\\ud800"}',
    "half an escape beside a lone surrogate": b'{"text":"\\ud800\\ud8"}',
    "a lone surrogate outside a string": b'{"text":"a","number":\\ud800}',
    "a raw control character": b'{"text":"\x01"}',
    "two values": b'{"text":"a"}{"text":"b"}',
    "more arrays than anybody means": b'{"text":"a","x":[' + b"[]," * 1_000_000 + b"1]}",
    "nested too deeply": b'{"text":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested too deeply beside a lone surrogate": b'{"text":"\\ud800","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_said_to_be_none(body: bytes) -> None:
    error = complaint(body)
    assert (error.param, error.code) == (None, "invalid_json")
    assert error.message.startswith("We could not parse the JSON body of your request")
    assert len(error.message) < 200


def test_a_byte_order_mark_is_skipped() -> None:
    assert read(b'\xef\xbb\xbf{"text":"a"}').text == "a"


SURROGATES = {
    b'{"text":"a\\ud83d"}': "a\ufffd",
    b'{"text":"\\ude00b"}': "\ufffdb",
    b'{"text":"\\ud83d\\ude00"}': "😀",
    b'{"text":"\\ud83d\\ud83d\\ude00"}': "\ufffd😀",
    b'{"text":"a","\\ud800":1}': "a",
    b'{"text":"\\uD83D\\uDE00\\uDE00"}': "😀\ufffd",
    b'{"text":"\\\\ud83d\\ude00"}': "\\ud83d\ufffd",
    b'{"text":"\\\\\\ud83d\\\\ude00"}': "\\\ufffd\\ude00",
    b'{"text":"\\\\\\\\ud83d\\ud800"}': "\\\\ud83d\ufffd",
    b'{"text":"\\ud83d\\u0041"}': "\ufffdA",
}


@pytest.mark.parametrize(("body", "text"), SURROGATES.items())
def test_a_lone_surrogate_becomes_the_replacement_character(body: bytes, text: str) -> None:
    assert read(body).text == text


@pytest.mark.parametrize("depth", [450, 600, 900, 1_500])
def test_a_lone_surrogate_does_not_change_how_deep_a_body_may_be_nested(depth: int) -> None:
    nested = b'{"text":"%s","x":' + b"[" * depth + b"]" * depth + b"}"

    def outcome(text: bytes) -> str:
        try:
            return str(decode(nested % text, msgspec.json.Decoder(dict[str, Any]))["text"])
        except InvalidRequest as exc:
            return exc.message

    assert outcome(b"\\ud800") == outcome(b"\\ufffd")
    assert (outcome(b"\\ud800") == "\ufffd") or "nested too deeply" in outcome(b"\\ud800")


PIECES = ["\\", "\\\\", "u", "ud83d", "\\ud83d", "\\uDE00", "\\udfff", "\\uD800", "\\u0041", "\\n", "a", "é", "d83d"]


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_surrogates_are_repaired_as_a_reader_of_single_escapes_would(pieces: list[str]) -> None:
    """The standard parser keeps lone surrogates, so that it can say what each string holds."""
    text = '"' + "".join(pieces) + '"'
    try:
        expected = re.sub("[\ud800-\udfff]", "\ufffd", json.loads(text))
    except ValueError:
        with pytest.raises(NotJson):
            loads(text.encode())
        return
    assert loads(text.encode()) == expected


@pytest.mark.parametrize("unit", [b"\\ud800", b"\\\\", b"\\ud83d\\ude00", b"\\u0041", b"\\\\\\ud800"])
def test_a_long_body_is_repaired(unit: bytes) -> None:
    body = b'{"text":"' + unit * 200_000 + b'\\ud800"}'
    assert read(body).text.endswith("\ufffd")


@pytest.mark.parametrize("body", [b'{"a": 1e999}', b'{"a": "\\ud800", "b": 1e999}'])
def test_a_number_out_of_range_is_not_json(body: bytes) -> None:
    with pytest.raises(NotJson):
        loads(body)


# Value, bounds, the value taken or the code of the refusal.
RANGES: list[tuple[Any, float, float, Any]] = [
    (None, 0, 2, None),
    (0, 0, 2, 0),
    (2, 0, 2, 2),
    (0.5, 0, 2, 0.5),
    (-0.1, 0, 2, "decimal_below_min_value"),
    (2.1, 0, 2, "decimal_above_max_value"),
    (10**400, 0, 2, "decimal_above_max_value"),
    (-(10**400), 0, 2, "decimal_below_min_value"),
    (float("inf"), 0, 2, "decimal_above_max_value"),
]


@pytest.mark.parametrize(("value", "low", "high", "outcome"), RANGES)
def test_a_number_lies_between_its_bounds_or_is_refused(value: Any, low: float, high: float, outcome: Any) -> None:
    if not isinstance(outcome, str):
        assert in_range(value, "p", low, high) == outcome
        return
    with pytest.raises(InvalidRequest) as caught:
        in_range(value, "p", low, high)
    assert (caught.value.param, caught.value.code) == ("p", outcome)
    assert len(caught.value.message) < 200


WHOLES: list[tuple[Any, Any]] = [
    (None, None),
    (10, 10),
    (10.0, 10),
    (1, 1),
    (100, 100),
    (10.5, "invalid_type"),
    (float("nan"), "invalid_type"),
    (float("inf"), "invalid_type"),
    (float("-inf"), "invalid_type"),
    (0, "integer_below_min_value"),
    (0.0, "integer_below_min_value"),
    (101, "integer_above_max_value"),
    (1e300, "integer_above_max_value"),
    (10**400, "integer_above_max_value"),
]


@pytest.mark.parametrize(("value", "outcome"), WHOLES)
def test_a_count_is_whole_and_lies_between_its_bounds(value: Any, outcome: Any) -> None:
    if not isinstance(outcome, str):
        number = whole(value, "p", 1, 100)
        assert number == outcome
        assert number is None or type(number) is int
        return
    with pytest.raises(InvalidRequest) as caught:
        whole(value, "p", 1, 100)
    assert (caught.value.param, caught.value.code) == ("p", outcome)
    assert len(caught.value.message) < 200


def test_a_lone_surrogate_among_too_many_is_not_looked_for() -> None:
    many = b'{"text":"' + rb"\ud83d\ude00" * 250_000
    assert read(many + b'"}').text == "\U0001f600" * 250_000
    with pytest.raises(InvalidRequest, match="500000 escaped surrogates"):
        read(many + rb'\ud83d"}')
