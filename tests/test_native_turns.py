"""Which call a tool's result answers, where the messages do not say."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.wire.native.turns import link_turns
from tests.support.effort import soon


def call(name: str, id_: Any = None) -> dict[str, Any]:
    return {"name": name} if id_ is None else {"id": id_, "function": {"name": name}}


def asks(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": list(calls)}


def result(name: str | None = None, id_: Any = None) -> dict[str, Any]:
    return {"role": "tool", "name": name, "tool_call_id": id_, "content": ""}


def answered(*messages: Any) -> list[Any]:
    """The ids that the results end up with."""
    return [turn["tool_call_id"] for turn in link_turns(list(messages)) if turn.get("role") == "tool"]


LINKED: dict[str, tuple[list[Any], list[Any]]] = {
    "in order": ([asks(call("f"), call("g")), result(), result()], ["call_0_0", "call_0_1"]),
    "by name": ([asks(call("f"), call("g")), result("g"), result("f")], ["call_0_1", "call_0_0"]),
    "the oldest of a name": ([asks(call("f"), call("f")), result("f"), result("f")], ["call_0_0", "call_0_1"]),
    "a name that was not called": ([asks(call("f"), call("g")), result("h"), result("g")], ["call_0_0", "call_0_1"]),
    "an id that is there": ([asks(call("f", "x"), call("f")), result("f"), result("f")], ["x", "call_0_1"]),
    "a result that says": ([asks(call("f", "x"), call("f")), result("f", "x"), result("f")], ["x", "call_0_1"]),
    "a result of nothing": ([asks(call("f")), result(None, "y"), result()], ["y", "call_0_0"]),
    "more results than calls": ([asks(call("f")), result(), result()], ["call_0_0", "call_2"]),
    "no calls": ([result("f")], ["call_0"]),
    "ids that come again": (
        [asks(call("f", "x")), result("f"), asks(call("f", "x")), result("f")],
        ["x", "x"],
    ),
    "calls of wrong types": (
        [asks(5, {"function": 5}, {"id": [], "name": "f"}, {"name": []}), result("f")],
        ["call_0_1"],
    ),
    "an id of a wrong type": ([asks(call("f")), result("f", 5), result("f")], [5, "call_0_0"]),
}


@pytest.mark.parametrize(("messages", "ids"), LINKED.values(), ids=LINKED)
def test_a_result_finds_its_call(messages: list[Any], ids: list[Any]) -> None:
    assert answered(*messages) == ids


def test_a_flat_call_becomes_one_of_openais() -> None:
    (turn,) = link_turns([asks({"name": "f", "arguments": {"a": 1}, "type": "function"})])
    assert turn["tool_calls"] == [{"id": "call_0_0", "function": {"name": "f", "arguments": {"a": 1}}}]


@pytest.mark.parametrize("messages", [None, "Hi", {}, 5, ["Hi", 5, None]])
def test_what_are_no_messages_is_left_alone(messages: Any) -> None:
    assert link_turns(messages) == messages


def test_the_callers_messages_stay_as_they_are() -> None:
    messages = [asks(call("f")), result(), {"role": "user", "content": {"type": "text", "text": ""}}]
    before = repr(messages)
    link_turns(messages)
    assert repr(messages) == before


def test_many_calls_take_time_in_proportion() -> None:
    count = 60_000
    messages = [asks(*(call(f"f{i}") for i in range(count))), *(result(f"g{i}") for i in range(count))]
    with soon():
        assert len(answered(*messages)) == count
