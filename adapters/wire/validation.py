"""Typed decoding whose complaints name the field, in the words that OpenAI's API uses."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from adapters.errors import InvalidRequest
from adapters.wire import json_text

T = TypeVar("T")

BOM = b"\xef\xbb\xbf"

# msgspec's texts, 0.18 to 0.22: "<what> - at `$.path`"; the path is missing for the value itself.
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key in )?\$(?P<path>.*)`)?$", re.S)
_EXPECTED = re.compile(r"Expected `(?P<expected>.+)`, got `(?P<got>.+)`")
_BOUND = re.compile(r"Expected `(?P<kind>\w+)` (?P<length>of length )?(?P<sign>[<>]=) (?P<bound>[\d.]+)")
_MISSING = re.compile(r"Object missing required field `(?P<name>.+)`")
# The value itself may look like the rest of the text, so it is taken out before anything is read.
_CHOICE = re.compile(r"^Invalid (?:enum )?value .*?(?P<at> - at `[^`]*`)?$", re.S)

_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "int | float": "a number",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_UNITS = {"str": "character", "array": "item", "object": "entry"}
_MANY = {"character": "characters", "item": "items", "entry": "entries"}


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The body as the decoder's type. Raises InvalidRequest with the path of the first field at fault."""
    return decode_repaired(body, decoder)[0]


def decode_repaired(body: bytes, decoder: msgspec.json.Decoder[T]) -> tuple[T, bytes]:
    """As `decode`, with the bytes that could be decoded: no byte order mark, no lone surrogates."""
    body = body.removeprefix(BOM)
    try:
        return json_text.decode_repaired(body, decoder.decode)
    except msgspec.ValidationError as exc:
        raise complaint(exc) from None
    except json_text.NotJson as exc:
        raise _not_json(str(exc) if body.strip() else "the body is empty") from None


def _not_json(reason: str) -> InvalidRequest:
    return InvalidRequest(f"We could not parse the JSON body of your request ({reason}).", code="invalid_json")


def complaint(exc: msgspec.ValidationError, at: str = "") -> InvalidRequest:
    """What msgspec found wrong, with the path of the field but never its value; `at` is the path of the whole."""
    text = str(exc)
    if choice := _CHOICE.match(text):
        text = f"not one of the supported values{choice['at'] or ''}"
    match = _AT.match(text)
    what, path = (match["what"], f"{at}{match['path'] or ''}".removeprefix(".")) if match else (text, at)
    if missing := _MISSING.match(what):
        param = f"{path}.{missing['name']}" if path else missing["name"]
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    subject = f"Invalid type for '{path}'" if path else "Invalid body"
    if expected := _EXPECTED.match(what):
        wanted, got = _in_words(expected["expected"]), _in_words(expected["got"])
        return InvalidRequest(
            f"{subject}: expected {wanted}, but got {got} instead.", param=path or None, code="invalid_type"
        )
    return InvalidRequest(f"Invalid value for '{path}': {_bound(what)}.", param=path or None)


def _bound(what: str) -> str:
    """How long or how large a value may be, in plain words."""
    bound = _BOUND.fullmatch(what)
    if bound is None:
        return what[:200]
    size = counted(int(bound["bound"]), _UNITS[bound["kind"]]) if bound["length"] else bound["bound"]
    return f"expected at {'least' if bound['sign'] == '>=' else 'most'} {size}"


def counted(number: int, unit: str) -> str:
    """`1 item`, `2 items`; the unit is `character`, `item` or `entry`."""
    return f"{number} {unit if number == 1 else _MANY[unit]}"


def _in_words(types: str) -> str:
    names = [name for name in types.split(" | ") if name != "null"] or ["null"]
    words = dict.fromkeys(_WORDS.get(name, name) for name in names if not (name == "int" and "float" in names))
    return " or ".join(words)


def in_range(value: float | None, param: str, low: float, high: float) -> float | None:
    """`value` if it lies within the bounds, both included. Raises InvalidRequest."""
    if value is None or low <= value <= high:
        return value
    bound, word = (low, "minimum") if value < low else (high, "maximum")
    side = "below" if value < low else "above"
    raise InvalidRequest(
        f"Invalid '{param}': decimal {side} {word} value. Expected a value {'>=' if value < low else '<='} {bound:g}, "
        f"but got {_shown(value)} instead.",
        param=param,
        code=f"decimal_{side}_{'min' if value < low else 'max'}_value",
    )


def _shown(value: float) -> str:
    """A number for a text; an integer from JSON may be longer than a float, and than is good to read."""
    return f"{value:g}" if isinstance(value, float) else str(value)[:40]


def whole(value: float | None, param: str, low: int, high: int) -> int | None:
    """`value` as an integer between the bounds; `10.0` is one. Raises InvalidRequest."""
    if value is None:
        return None
    if value != value or value in (float("inf"), float("-inf")) or value != int(value):
        raise InvalidRequest(
            f"Invalid type for '{param}': expected an integer, but got a decimal number instead.",
            param=param,
            code="invalid_type",
        )
    number = int(value)
    if low <= number <= high:
        return number
    side, bound, sign = ("below", low, ">=") if number < low else ("above", high, "<=")
    raise InvalidRequest(
        f"Invalid '{param}': integer {side} {'minimum' if number < low else 'maximum'} value. "
        f"Expected a value {sign} {bound}, but got {str(number)[:40]} instead.",
        param=param,
        code=f"integer_{side}_{'min' if number < low else 'max'}_value",
    )
