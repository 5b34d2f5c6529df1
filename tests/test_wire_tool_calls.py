"""Every form of tool call that an upstream sends, as one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import ToolCall
from adapters.errors import Fault, RelayError
from adapters.wire.tool_calls import ToolCallReader, join_tool_calls, read_tool_calls


def piece(arguments: Any = None, **fields: Any) -> dict[str, Any]:
    """An OpenAI delta: `name` and `arguments` in the function, the rest beside it."""
    function = {key: value for key, value in (("name", fields.pop("name", None)), ("arguments", arguments)) if value}
    return {**fields, "function": function}


def read(*lists: Any) -> tuple[ToolCall, ...]:
    """Lists of pieces, as they come in frames, to whole calls; checks what every delta has to keep."""
    reader = ToolCallReader()
    deltas = [*(delta for items in lists for delta in reader.feed(items)), *reader.close()]
    named = [delta.index for delta in deltas if delta.name is not None]
    assert named == list(range(len(named))), "each call is named once, numbered from 0 in the order of their coming"
    assert all(delta.name is not None or delta.id is None for delta in deltas)
    return join_tool_calls(deltas)


OSLO = '{"city":"Oslo"}'
ENCODED = json.dumps(OSLO)

CALLS: dict[str, tuple[list[Any], list[ToolCall]]] = {
    "in pieces": (
        [
            [piece(index=0, id="a", type="function", name="f")],
            [piece('{"city":', index=0)],
            [piece('"Oslo"}', index=0)],
        ],
        [ToolCall("a", "f", OSLO)],
    ),
    "ended by an all-null piece": (
        [
            [piece(OSLO, index=0, id="a", name="f")],
            [{"id": None, "type": None, "index": 0, "function": {"name": None, "arguments": ""}}],
        ],
        [ToolCall("a", "f", OSLO)],
    ),
    "ended by an all-null piece without an index": (
        [[piece(OSLO, index=0, id="a", name="f")], [{"id": None, "function": {"name": None, "arguments": None}}]],
        [ToolCall("a", "f", OSLO)],
    ),
    "an all-null piece alone": ([[{"id": None, "type": None, "function": {"name": None, "arguments": ""}}]], []),
    "whole in one frame": ([[piece(OSLO, index=0, id="a", name="f")]], [ToolCall("a", "f", OSLO)]),
    "several in one frame": (
        [[piece("{}", index=0, id="a", name="f"), piece(OSLO, index=1, id="b", name="g")]],
        [ToolCall("a", "f", "{}"), ToolCall("b", "g", OSLO)],
    ),
    "pieces of two calls in turn": (
        [
            [piece(index=0, id="a", name="f"), piece(index=1, id="b", name="g")],
            [piece('{"x"', index=0), piece('{"y"', index=1)],
            [piece(":1}", index=0), piece(":2}", index=1)],
        ],
        [ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", '{"y":2}')],
    ),
    "flat": ([[{"name": "f", "arguments": {"city": "Oslo"}}]], [ToolCall(None, "f", OSLO)]),
    "several flat ones": (
        [[{"name": "f", "arguments": {}}, {"name": "f", "arguments": {"a": 1}}]],
        [ToolCall(None, "f", "{}"), ToolCall(None, "f", '{"a":1}')],
    ),
    "nested, arguments as an object": (
        [[{"id": "a", "type": "function", "function": {"name": "f", "arguments": {"city": "Oslo"}}}]],
        [ToolCall("a", "f", OSLO)],
    ),
    "a name in every piece": (
        [[piece('{"a":', index=0, id="a", name="f")], [piece("1}", index=0, id="a", name="f")]],
        [ToolCall("a", "f", '{"a":1}')],
    ),
    "no index": ([[piece(id="a", name="f")], [piece('{"a":1')], [piece("}")]], [ToolCall("a", "f", '{"a":1}')]),
    "no index, two calls": (
        [[piece('{"a":1}', id="a", name="f")], [piece('{"b":', id="b", name="g")], [piece("2}")]],
        [ToolCall("a", "f", '{"a":1}'), ToolCall("b", "g", '{"b":2}')],
    ),
    "an index that starts at 1": (
        [[piece('{"a":', index=1, id="a", name="f")], [piece("1}", index=1)], [piece("{}", index=2, id="b", name="g")]],
        [ToolCall("a", "f", '{"a":1}'), ToolCall("b", "g", "{}")],
    ),
    "one index for two calls": (
        [[piece('{"a":1}', index=0, id="a", name="f")], [piece('{"b":2}', index=0, id="b", name="f")]],
        [ToolCall("a", "f", '{"a":1}'), ToolCall("b", "f", '{"b":2}')],
    ),
    "one id for two calls": (
        [[piece("{}", index=0, id="x:0", name="f"), piece(OSLO, index=1, id="x:0", name="f")]],
        [ToolCall("x:0", "f", "{}"), ToolCall("x:0", "f", OSLO)],
    ),
    "the name after the arguments": (
        [[piece('{"a":', index=0, id="a")], [piece("1}", index=0, name="f")]],
        [ToolCall("a", "f", '{"a":1}')],
    ),
    "blank pieces inside a string": (
        [[piece('{"city":"New', index=0, id="a", name="f")], [piece(" ", index=0)], [piece('York\\n"}', index=0)]],
        [ToolCall("a", "f", '{"city":"New York\\n"}')],
    ),
    "blanks ahead of the arguments": (
        [[piece(" \n", index=0, id="a", name="f")], [piece('{"a":1}', index=0)]],
        [ToolCall("a", "f", '{"a":1}')],
    ),
    "arguments encoded twice": ([[{"name": "f", "arguments": ENCODED}]], [ToolCall(None, "f", OSLO)]),
    "encoded twice, in pieces": (
        [
            [piece(ENCODED[:3], index=0, id="a", name="f")],
            [piece(ENCODED[3:9], index=0)],
            [piece(ENCODED[9:], index=0)],
        ],
        [ToolCall("a", "f", OSLO)],
    ),
    "encoded twice, ahead of the name": (
        [[piece(ENCODED[:5], index=0, id="a")], [piece(ENCODED[5:], index=0, name="f")]],
        [ToolCall("a", "f", OSLO)],
    ),
    "a string that holds no JSON string": ([[{"name": "f", "arguments": '"broken'}]], [ToolCall(None, "f", '"broken')]),
    "no arguments": ([[{"name": "f"}]], [ToolCall(None, "f", "{}")]),
    "empty arguments": ([[{"name": "f", "arguments": ""}]], [ToolCall(None, "f", "{}")]),
    "arguments null": ([[{"name": "f", "arguments": None}]], [ToolCall(None, "f", "{}")]),
    "an empty id is none": ([[piece("{}", index=0, id="", name="f")]], [ToolCall(None, "f", "{}")]),
    "null in place of a list": ([None, []], []),
}


@pytest.mark.parametrize(("lists", "calls"), CALLS.values(), ids=CALLS)
def test_every_form_becomes_the_same_call(lists: list[Any], calls: list[ToolCall]) -> None:
    assert list(read(*lists)) == calls


def test_a_whole_list_is_read_at_once() -> None:
    assert read_tool_calls([{"name": "f", "arguments": {}}]) == (ToolCall(None, "f", "{}"),)
    assert read_tool_calls(None) == ()


@pytest.mark.parametrize("items", ["text", {"name": "f"}, [1], [None], 3], ids=repr)
def test_what_is_no_list_of_calls_is_an_error_and_not_skipped(items: Any) -> None:
    with pytest.raises(RelayError) as caught:
        ToolCallReader().feed(items)
    assert caught.value.fault is Fault.UPSTREAM_ERROR


def test_a_call_that_never_got_a_name_is_an_error() -> None:
    reader = ToolCallReader()
    reader.feed([piece("{}", index=0, id="a")])
    with pytest.raises(RelayError, match="without a name"):
        reader.close()


def test_arguments_pass_at_once_where_nothing_speaks_against_it() -> None:
    reader = ToolCallReader()
    reader.feed([piece(index=0, id="a", name="f")])
    assert [delta.arguments for delta in reader.feed([piece('{"a"', index=0)])] == ['{"a"']
    assert [delta.arguments for delta in reader.feed([piece(" ", index=0)])] == [" "]


@given(
    arguments=st.dictionaries(st.text(max_size=4), st.text() | st.integers() | st.none(), max_size=3),
    twice=st.booleans(),
    data=st.data(),
)
def test_arguments_are_whole_wherever_they_were_cut(
    arguments: dict[str, Any], twice: bool, data: st.DataObject
) -> None:
    text = json.dumps(arguments)
    sent = json.dumps(text) if twice else text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    parts = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    calls = read([piece(index=0, id="a", name="f")], *([piece(part, index=0)] for part in parts))
    assert calls == (ToolCall("a", "f", text),)
