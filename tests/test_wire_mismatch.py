"""Why a value is not of a type: the first place where it differs, its path whole, in plain words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import InvalidRequest
from adapters.wire import mismatch
from tests.support.effort import soon


class Own:
    """A type that JSON does not have."""


def read_own(kind: type, value: Any) -> Own:
    if value != "own":
        raise ValueError("expected our own word")
    return Own()


class Red(msgspec.Struct, tag="red"):
    depth: int


class Blue(msgspec.Struct, tag="blue"):
    name: str | None = None


class Part(msgspec.Struct):
    word: Literal["one", "two"]
    size: Annotated[int, msgspec.Meta(ge=1, le=9)] | None = None


class Whole(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=3)]
    anything: Any
    parts: Annotated[list[Part], msgspec.Meta(min_length=1, max_length=2)] | None = None
    named: Annotated[dict[str, Part], msgspec.Meta(max_length=2)] | None = None
    colour: Red | Blue | str | None = None
    number: int | float | None = None
    flag: bool = False
    most: Annotated[int, msgspec.Meta(ge=0)] = 0
    own: Own | None = None
    nothing: None = None


GOOD: dict[str, Any] = {"text": "abc", "anything": None}

# What is added to a value that fits (`...` takes a field away), the path, the code and the words.
WRONG: dict[str, tuple[Any, str | None, str, str]] = {
    "another type": ([], None, "invalid_type", "Invalid body: expected an object, but got an array instead."),
    "a missing field": ({"text": ...}, "text", "missing_required_parameter", "parameter: 'text' (a string)."),
    "one of any type": ({"anything": ...}, "anything", "missing_required_parameter", "parameter: 'anything'."),
    "a null": ({"text": None}, "text", "invalid_type", "expected a string, but got null instead."),
    "a short text": ({"text": ""}, "text", "invalid_value", "expected at least 1 character, but got 0 instead."),
    "a long text": ({"text": "four"}, "text", "invalid_value", "expected at most 3 characters, but got 4 instead."),
    "an item": ({"parts": [{"word": "one"}, 5]}, "parts[1]", "invalid_type", "expected an object, but got an integer"),
    "a missing part of an item": (
        {"parts": [{"word": "one"}, {}]},
        "parts[1].word",
        "missing_required_parameter",
        "'parts[1].word' (a string).",
    ),
    "too few items": ({"parts": []}, "parts", "invalid_value", "expected at least 1 item, but got 0 instead."),
    "too many items": ({"parts": [1, 2, 3]}, "parts", "invalid_value", "expected at most 2 items, but got 3 instead."),
    "another word": (
        {"named": {"a": {"word": "one"}, "b-2": {"word": "three"}}},
        "named.b-2.word",
        "invalid_value",
        "supported values are 'one' and 'two', but got another string instead.",
    ),
    "no word at all": (
        {"named": {"a": {"word": 1.5}}},
        "named.a.word",
        "invalid_value",
        "supported values are 'one' and 'two', but got a number instead.",
    ),
    "an entry whose key is no name": ({"named": {"a b": 1}}, "named[0]", "invalid_type", "'named[0]': expected an ob"),
    "too many entries": ({"named": dict.fromkeys("abc")}, "named", "invalid_value", "expected at most 2 entries"),
    "a number that is too large": (
        {"parts": [{"word": "one", "size": 10}]},
        "parts[0].size",
        "invalid_value",
        "expected an integer from 1 to 9, but got a larger one instead.",
    ),
    "a number that no machine has": (
        {"parts": [{"word": "one", "size": 10**30}]},
        "parts[0].size",
        "invalid_value",
        "expected an integer from 1 to 9, but got a larger one instead.",
    ),
    "a number that is too small": ({"most": -1}, "most", "invalid_value", "an integer of 0 or more, but got a smaller"),
    "a broken number": ({"most": 1.5}, "most", "invalid_type", "expected an integer, but got a number instead."),
    "a number as text": ({"number": "1"}, "number", "invalid_type", "expected a number, but got a string instead."),
    "no truth value": ({"flag": 1}, "flag", "invalid_type", "expected a boolean, but got an integer instead."),
    "a truth value": ({"text": True}, "text", "invalid_type", "expected a string, but got a boolean instead."),
    "none of several": ({"colour": 1}, "colour", "invalid_type", "expected an object or a string, but got an integer"),
    "no kind of object": ({"colour": {}}, "colour.type", "missing_required_parameter", "'colour.type' (a string)."),
    "a kind that is no word": ({"colour": {"type": 1}}, "colour.type", "invalid_type", "expected a string, but got an"),
    "an unknown kind": ({"colour": {"type": "x"}}, "colour.type", "invalid_value", "values are 'red' and 'blue', but"),
    "a field of that kind": ({"colour": {"type": "red"}}, "colour.depth", "missing_required_parameter", "(an integer)"),
    "not our own": ({"own": "other"}, "own", "invalid_value", "'own': expected our own word, but got another string"),
    "a list that is not our own": ({"own": [1]}, "own", "invalid_value", "'own': expected our own word."),
    "something": ({"nothing": "x"}, "nothing", "invalid_type", "expected null, but got a string instead."),
}


def refusal(value: Any, *, at: str = "", strict: bool = True) -> InvalidRequest:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, Whole, strict=strict, dec_hook=read_own)
    return mismatch.refusal(caught.value, value, Whole, at=at, strict=strict, read=read_own)


def value_of(wrong: Any) -> Any:
    if not isinstance(wrong, dict):
        return wrong
    return {key: value for key, value in (GOOD | wrong).items() if value is not ...}


@pytest.mark.parametrize(("wrong", "path", "code", "words"), WRONG.values(), ids=WRONG)
def test_the_first_difference_is_told_by_its_path(wrong: Any, path: str | None, code: str, words: str) -> None:
    error = refusal(value_of(wrong))
    assert (error.param, error.code) == (path, code)
    assert words in error.message and error.message.endswith(".")


@pytest.mark.parametrize(("wrong", "path"), [(row[0], row[1]) for row in WRONG.values()], ids=WRONG)
def test_a_value_may_itself_be_a_part(wrong: Any, path: str | None) -> None:
    assert refusal(value_of(wrong), at="outer").param == (f"outer.{path}" if path else "outer")


@pytest.mark.parametrize(
    ("wrong", "path", "words"),
    [
        ({"most": "x"}, "most", "expected an integer, but got a string"),
        ({"most": "-5"}, "most", "an integer of 0 or more, but got a smaller one"),
        ({"most": "5", "flag": "maybe"}, "flag", "expected a boolean, but got a string"),
        ({"text": b"x"}, "text", "expected a string, but got bytes"),
    ],
)
def test_text_that_may_stand_for_numbers_is_read_as_one(wrong: Any, path: str, words: str) -> None:
    error = refusal(value_of(wrong), strict=False)
    assert error.param == path and words in error.message


def test_what_this_does_not_know_is_told_as_well_as_can_be() -> None:
    """Without the reader of our own type nobody can say what it takes."""
    value = {**GOOD, "own": "other"}
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, Whole, dec_hook=read_own)
    assert mismatch.refusal(caught.value, value, Whole).param == "own"


def test_a_huge_value_does_not_take_long_to_refuse() -> None:
    """What is wrong lies beyond what is looked at, and is still told, if in fewer words."""
    items: list[Any] = [[1]] * 1_049_000 + [["x"]]
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(items, list[list[int]])
    with soon():
        error = mismatch.refusal(caught.value, items, list[list[int]])
    assert (error.param, error.code) == ("[1049000][0]", "invalid_type")
    assert mismatch.refusal(caught.value, items[-1:], list[list[int]]).param == "[0][0]"


SECRET = "the-secret-value"
LEAVES = st.sampled_from([None, True, 0, -1, 7, 10**30, 1.5, "", "one", "red", "own", SECRET])
NAMES = st.sampled_from([*Whole.__struct_fields__, "word", "size", "type", "depth", "name"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner), max_leaves=12)


@given(st.dictionaries(NAMES, VALUES).map(lambda fields: GOOD | fields) | VALUES, st.booleans())
def test_whatever_is_refused_is_explained_and_never_repeated(value: Any, strict: bool) -> None:
    try:
        msgspec.convert(value, Whole, strict=strict, dec_hook=read_own)
    except msgspec.ValidationError as exc:
        error = mismatch.refusal(exc, value, Whole, strict=strict, read=read_own)
        assert SECRET not in error.message
        assert not any(word in error.message for word in ("`", "[...]", "Expected ", "Object "))
