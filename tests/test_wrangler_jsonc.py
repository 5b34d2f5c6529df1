"""JSON with comments and trailing commas. The expected values were compared with wrangler 4.164's own."""

from __future__ import annotations

import pytest

from wrangler_compat.jsonc import JsoncError, parse_jsonc

JSON_VALUES: dict[str, tuple[str, object]] = {
    "literals": ("[true, false, null]", [True, False, None]),
    "numbers": ("[0, -0, -1.5, 1e3, 1E-2, 12]", [0, 0, -1.5, 1000.0, 0.01, 12]),
    "numbers beyond a double's precision": ("[9007199254740993, 9007199254740991]", [2.0**53, 9007199254740991]),
    "line separators": ('"a\u2028b" // c\u2028d', "a\u2028b"),
    "empty": ("{}", {}),
    "comment at the end of the file": ("1 //", 1),
}


@pytest.mark.parametrize(("text", "value"), JSON_VALUES.values(), ids=JSON_VALUES)
def test_json_with_comments(text: str, value: object) -> None:
    assert parse_jsonc(text) == value


# What json5 would take, and JSON with comments does not.
REFUSED_JSON: dict[str, tuple[str, int | None]] = {
    "single quotes": ("{'a': 1}", 1),
    "bare key": ("{\n a: 1}", 2),
    "not a number": ('{"a":\n\nNaN}', 3),
    "infinity": ("[Infinity]", 1),
    "hexadecimal": ("[0x10]", 1),
    "plus sign": ("[+1]", 1),
    "leading point": ("[.5]", 1),
    "trailing point": ("[5.]", 1),
    "leading zero": ("[01]", 1),
    "line continuation": ('"a\\\nb"', 1),
    "short escape": ('"\\x41"', 1),
    "tab in a string": ('"a\tb"', 1),
    "vertical tab": ("{\v}", 1),
    "byte-order mark inside": ("{\ufeff}", 1),
    "open comment": ("{} \n/* x", 2),
    "open string": ('{"a', 1),
    "open object": ('{"a": 1\n', 2),
    "only a comma": ("[,]", 1),
    "two commas": ("[1,,]", 1),
    "missing comma": ('{"a": 1\n"b": 2}', 2),
    "two values": ("{} {}", 1),
    "blank": (" \n", None),
}


@pytest.mark.parametrize(("text", "line"), REFUSED_JSON.values(), ids=REFUSED_JSON)
def test_what_is_not_json_is_refused_with_its_line(text: str, line: int | None) -> None:
    with pytest.raises(JsoncError) as caught:
        parse_jsonc(text)
    assert caught.value.line == line
