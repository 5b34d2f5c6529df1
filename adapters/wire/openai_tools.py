"""The tools of a chat request and the choice among them, to canonical."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from adapters.canonical import (
    NamedTool,
    Tool,
)
from adapters.errors import InvalidRequest
from adapters.wire.openai_types import (
    ChatBody,
    Function,
    FunctionTool,
)


def read_tools(wire: Sequence[FunctionTool], at: str) -> tuple[Tool, ...]:
    tools = []
    for i, tool in enumerate(wire):
        if tool.type != "function":
            raise InvalidRequest(
                f"Invalid value for '{at}[{i}].type': only 'function' is supported.", param=f"{at}[{i}].type"
            )
        if tool.function is None:
            raise InvalidRequest(
                f"Missing required parameter: '{at}[{i}].function'.",
                param=f"{at}[{i}].function",
                code="missing_required_parameter",
            )
        tools.append(read_tool(tool.function, f"{at}[{i}].function"))
    return tuple(tools)


def read_tool(function: Function, at: str) -> Tool:
    if not function.name:
        raise InvalidRequest(f"Invalid '{at}.name': empty string.", param=f"{at}.name")
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=function.parameters or {"type": "object", "properties": {}},
        strict=function.strict,
    )


_Choice = Literal["none", "auto", "required"] | NamedTool | None
_CHOICES: dict[str, _Choice] = {
    "none": "none",
    "auto": "auto",
    "required": "required",
    "any": "required",  # other vendors' word; sent upstream as it is, it breaks the call
}


def read_tool_choice(wire: ChatBody, tools: tuple[Tool, ...]) -> tuple[_Choice, tuple[Tool, ...]]:
    """The choice, and the tools left to choose from (`allowed_tools` narrows them)."""
    at, value = "tool_choice", wire.tool_choice
    if value is None:
        at, value = "function_call", wire.function_call
    if isinstance(value, dict) and value.get("type") == "allowed_tools":
        value, tools = _allowed_tools(value, tools)
    if value is None:
        return None, tools
    if isinstance(value, str):
        if value not in _CHOICES:
            raise InvalidRequest(f"Invalid '{at}': expected 'none', 'auto', 'required' or a named function.", param=at)
        choice = _CHOICES[value]
    else:
        choice = _named_tool(value, tools, at)
    if not tools and (choice == "required" or isinstance(choice, NamedTool)):
        raise InvalidRequest(f"'{at}' is only allowed when 'tools' are specified.", param=at)
    return choice, tools


def _named_tool(value: dict[str, Any], tools: tuple[Tool, ...], at: str) -> NamedTool:
    function = value.get("function", value)
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest(
            f"Missing required parameter: '{at}.function.name'.",
            param=f"{at}.function.name",
            code="missing_required_parameter",
        )
    if name not in {tool.name for tool in tools}:
        raise InvalidRequest(f"'{at}' names a function that is not among the tools.", param=at)
    return NamedTool(name)


def _allowed_tools(value: dict[str, Any], tools: tuple[Tool, ...]) -> tuple[Any, tuple[Tool, ...]]:
    body = value.get("allowed_tools", value)
    listed = body.get("tools") if isinstance(body, dict) else None
    if not isinstance(listed, list):
        raise InvalidRequest(
            "Missing required parameter: 'tool_choice.allowed_tools.tools'.",
            param="tool_choice.allowed_tools.tools",
            code="missing_required_parameter",
        )
    mode = "auto" if body.get("mode") is None else body["mode"]
    if mode not in ("auto", "required"):
        raise InvalidRequest(
            "Invalid value for 'tool_choice.allowed_tools.mode': supported values are 'auto' and 'required'.",
            param="tool_choice.allowed_tools.mode",
        )
    functions = [item.get("function") or item for item in listed if isinstance(item, dict)]
    names = [function.get("name") for function in functions if isinstance(function, dict)]
    return mode, tuple(tool for tool in tools if tool.name in names)
