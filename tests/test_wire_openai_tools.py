"""The tools of a chat request and the choice among them."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.canonical import NamedTool
from tests.support.openai_requests import FUNCTION, PARSED_TOOL, TOOL, parse, refusal

NARROWED = {"type": "function", "function": {"name": "f"}}
CHOICES: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "auto": ("auto", "auto", ("f", "g")),
    "none": ("none", "none", ("f", "g")),
    "required": ("required", "required", ("f", "g")),
    "another vendor's word": ("any", "required", ("f", "g")),
    "a name": ({"type": "function", "function": {"name": "f"}}, NamedTool("f"), ("f", "g")),
    "a flat name": ({"type": "function", "name": "f"}, NamedTool("f"), ("f", "g")),
    "a narrower choice": (
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NARROWED]}},
        "required",
        ("f",),
    ),
    "a narrower choice, flat": (
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
        "auto",
        ("g",),
    ),
    "a narrower choice without a mode": (
        {"type": "allowed_tools", "allowed_tools": {"tools": [NARROWED]}},
        "auto",
        ("f",),
    ),
    "a choice of nothing": ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, "auto", ()),
    "odd entries": (
        {"type": "allowed_tools", "allowed_tools": {"tools": [None, 5, {"name": []}, {"function": 5}, NARROWED]}},
        "auto",
        ("f",),
    ),
}


@pytest.mark.parametrize(("choice", "expected", "left"), CHOICES.values(), ids=CHOICES)
def test_a_tool_choice_is_read(choice: Any, expected: Any, left: tuple[str, ...]) -> None:
    request = parse(tools=[TOOL, {"function": {"name": "g"}}], tool_choice=choice)
    assert request.tool_choice == expected
    assert tuple(tool.name for tool in request.tools) == left


BAD_NARROWING: list[tuple[Any, str]] = [
    ({"mode": "auto"}, "tool_choice.allowed_tools.tools"),
    ({"mode": "auto", "tools": {}}, "tool_choice.allowed_tools.tools"),
    ({"mode": "never", "tools": []}, "tool_choice.allowed_tools.mode"),
    ({"mode": [], "tools": []}, "tool_choice.allowed_tools.mode"),
    ({"mode": 5, "tools": []}, "tool_choice.allowed_tools.mode"),
    ({"mode": {}, "tools": []}, "tool_choice.allowed_tools.mode"),
    ({"mode": "required", "tools": [{"name": "unknown"}]}, "tool_choice"),
    (5, "tool_choice.allowed_tools.tools"),
]


@pytest.mark.parametrize(("allowed", "param"), BAD_NARROWING)
def test_a_narrower_choice_that_makes_no_sense_is_refused(allowed: Any, param: str) -> None:
    assert refusal(tools=[TOOL], tool_choice={"type": "allowed_tools", "allowed_tools": allowed}).param == param


def test_functions_are_the_tools_of_old() -> None:
    request = parse(functions=[FUNCTION], function_call={"name": "f"})
    assert request.legacy_functions
    assert request.tools == (PARSED_TOOL,)
    assert request.tool_choice == NamedTool("f")
    assert parse(functions=[FUNCTION], function_call="none").tool_choice == "none"
    assert parse(functions=[FUNCTION], function_call="auto").tool_choice == "auto"
    assert not parse(tools=[TOOL]).legacy_functions
    assert not parse(tools=[TOOL], functions=[]).legacy_functions
