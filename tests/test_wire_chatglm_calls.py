"""Calls in ChatGLM3's words: told apart from text wherever it was cut, read without running anything."""

from __future__ import annotations

import json
from collections.abc import Iterable
from keyword import iskeyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import ChatEvent, Delta, ToolCall, ToolCallDelta
from adapters.wire.chatglm_calls import CallReader, dump_call, read_arguments
from tests.support.effort import soon
from tests.support.events import merged

NAMES = ("get_weather", "get_weather_of", "f")


def read(pieces: Iterable[str], names: tuple[str, ...] = NAMES) -> list[ChatEvent]:
    reader = CallReader(names)
    return merged([*(delta for piece in pieces for delta in reader.feed(piece)), *reader.close()])


def call(index: int, name: str, arguments: str) -> Delta:
    return Delta(tool_calls=(ToolCallDelta(index, None, name, arguments),))


OSLO = "get_weather\n```python\ntool_call(city='Oslo')\n```"
TEXTS: dict[str, tuple[str, list[ChatEvent]]] = {
    "nothing": ("", []),
    "a call": (OSLO, [call(0, "get_weather", '{"city":"Oslo"}')]),
    "a call after a blank": (f" {OSLO}", [call(0, "get_weather", '{"city":"Oslo"}')]),
    "a call after words": (f"Wait.\n{OSLO}", [Delta("Wait.\n"), call(0, "get_weather", '{"city":"Oslo"}')]),
    "a call and what follows it": (f"{OSLO}\n\nSo.", [call(0, "get_weather", '{"city":"Oslo"}'), Delta("So.")]),
    "two calls": (
        f"{OSLO}\nf\n```python\ntool_call()\n```",
        [call(0, "get_weather", '{"city":"Oslo"}'), call(1, "f", "{}")],
    ),
    "a name that begins with another's": (
        OSLO.replace("weather", "weather_of"),
        [call(0, "get_weather_of", '{"city":"Oslo"}')],
    ),
    "a blank before the fence": (
        OSLO.replace("\n```p", "\n ```p"),
        [call(0, "get_weather", '{"city":"Oslo"}')],
    ),
    "no closing fence": (OSLO.removesuffix("\n```"), [call(0, "get_weather", '{"city":"Oslo"}')]),
    "half a closing fence": (OSLO.removesuffix("`"), [Delta(OSLO.removesuffix("`"))]),
    "a call in JSON": ('f\n```json\n{"a": [1]}\n```', [call(0, "f", '{"a": [1]}')]),
    "plain text": ("Hello there.\nf(x) is 3.\n", [Delta("Hello there.\nf(x) is 3.\n")]),
    "a name and no fence": ("f\nis a letter", [Delta("f\nis a letter")]),
    "a name at the end": ("so it is\nf", [Delta("so it is\nf")]),
    "a name and a fence that is none": ("f\n``x", [Delta("f\n``x")]),
    "a name within a line": ("call get_weather\n```\nx\n```", [Delta("call get_weather\n```\nx\n```")]),
    "another's name": (OSLO.replace("get_", "set_"), [Delta(OSLO.replace("get_", "set_"))]),
    "a program in the fence": ("f\n```python\nprint(1)(2)\n```", [Delta("f\n```python\nprint(1)(2)\n```")]),
    "a name twice": (f"f\n{OSLO}", [Delta("f\n"), call(0, "get_weather", '{"city":"Oslo"}')]),
    "a far indent": (" " * 9 + "f", [Delta(" " * 9 + "f")]),
    "an empty fence": ("f\n```python\n```", [Delta("f\n```python\n```")]),
}


@pytest.mark.parametrize(("text", "events"), TEXTS.values(), ids=TEXTS)
def test_text_means_the_same_wherever_it_is_cut(text: str, events: list[ChatEvent]) -> None:
    assert read([text]) == events
    assert read(text) == events
    for at in range(len(text) + 1):
        assert read([text[:at], text[at:]]) == events, at


@given(st.text(alphabet="f\n` get_wahr(=')x", max_size=40))
def test_what_is_no_call_stays_as_it_is(text: str) -> None:
    whole = read([text])
    if all(isinstance(event, Delta) and not event.tool_calls for event in whole):
        assert "".join(event.text for event in whole if isinstance(event, Delta)) == text
    assert read(text) == whole


def test_plain_text_is_not_kept_back() -> None:
    reader = CallReader(NAMES)
    assert reader.feed("Hello") == [Delta("Hello")]
    assert reader.feed(" get_w") == [Delta(" get_w")], "this is the middle of a line"
    assert reader.feed("\nget_w") == [Delta("\n")]
    assert reader.feed("hat") == [Delta("get_what")]


def test_a_call_without_an_end_is_let_go_and_costs_no_more_than_its_length() -> None:
    reader = CallReader(NAMES)
    with soon():
        deltas = [delta for piece in ["f\n```python\n", *["tool_call(" * 8] * 6000] for delta in reader.feed(piece)]
    assert sum(len(delta.text) for delta in deltas) > 2**15


ARGUMENTS: dict[str, tuple[str, object]] = {
    "none": ("tool_call()", {}),
    "of every kind": (
        "tool_call(a='x', b=1, c=-1.5, d=True, e=None, f=[1, 'y'], g={'h': (1, 2)})",
        {"a": "x", "b": 1, "c": -1.5, "d": True, "e": None, "f": [1, "y"], "g": {"h": [1, 2]}},
    ),
    "over lines": ("tool_call(\n  a='x',\n)", {"a": "x"}),
    "of another function's name": ("weather(a=1)", {"a": 1}),
    "JSON": ('{"a": 1}', {"a": 1}),
    "a JSON list": ("[1]", None),
    "an argument without a name": ("tool_call(1)", None),
    "spread": ("tool_call(**{'a': 1})", None),
    "code": ("tool_call(a=__import__('os').getcwd())", None),
    "a sum": ("tool_call(a=1+1)", None),
    "a name": ("tool_call(a=b)", None),
    "two calls": ("tool_call(a=1); tool_call(b=2)", None),
    "no call": ("a = 1", None),
    "a bare number": ("5", None),
    "a complex number": ("tool_call(a=1j)", None),
    "a null character": ("tool_call(a='\0')", None),
    "nested without end": ("tool_call(a=" + "[" * 5000 + "]" * 5000 + ")", None),
    "signs without end": ("tool_call(a=" + "-" * 30000 + "1)", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize(("text", "value"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_are_read_and_never_run(text: str, value: object) -> None:
    arguments = read_arguments(text)
    assert (None if arguments is None else json.loads(arguments)) == value


EARLIER: dict[str, tuple[str, str]] = {
    "of every kind": ('{"a":"it\'s","b":[1,null],"c":true}', 'tool_call(a="it\'s", b=[1, None], c=True)'),
    "none": ("{}", "tool_call()"),
    "with names that are none": ('{"a b":1}', "tool_call(**{'a b': 1})"),
    "with a word of Python's": ('{"for":1}', "tool_call(**{'for': 1})"),
    "no object": ("[1]", "tool_call([1])"),
    "no JSON": ("oops", "tool_call(oops)"),
}


@pytest.mark.parametrize(("arguments", "words"), EARLIER.values(), ids=EARLIER)
def test_an_earlier_call_is_told_in_the_models_own_words(arguments: str, words: str) -> None:
    assert dump_call(ToolCall("c", "f", arguments)) == f"f\n```python\n{words}\n```"


NAME = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True).filter(lambda name: not iskeyword(name))


@given(st.dictionaries(NAME, st.text() | st.integers() | st.none() | st.booleans()))
def test_what_was_told_is_read_again(value: dict[str, str | int | None]) -> None:
    (told,) = read([dump_call(ToolCall("c", "f", json.dumps(value)))])
    assert isinstance(told, Delta)
    assert json.loads(told.tool_calls[0].arguments) == value
