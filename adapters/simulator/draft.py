"""What to answer: words, JSON or tool calls, not yet cut into pieces."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import msgspec

from adapters.canonical import ChatRequest, NamedTool, Tool, ToolCall
from adapters.catalogue import Model
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.simulator import safety, schema, text

_MAX_CALLS = 4


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer before `max_tokens`; either text or calls."""

    reasoning: str = ""
    text: str = ""
    calls: tuple[ToolCall, ...] = ()


def draft(request: ChatRequest, model: Model, rng: Random) -> Draft:
    """The answer to a request. Raises RelayError if a tool or a schema cannot be met."""
    if safety.judges(model):
        return Draft(text=_verdict(request))
    reasons = model.reasoning and request.reasoning_effort not in (None, "none")
    reasoning = text.thoughts(request) if reasons else ""
    tools = tools_to_call(request)
    if tools:
        return Draft(reasoning=reasoning, calls=tuple(_call(tool, request, rng) for tool in tools))
    if request.response_format is not None:
        wanted = request.response_format.schema
        value = _json_object(request) if wanted is None else _json_instance(wanted, request, rng)
        return Draft(reasoning=reasoning, text=_json(value))
    # The simulator's own id stands for no model.
    played = model.id if model.id.startswith("@") else None
    return Draft(reasoning=reasoning, text=text.answer(request, played, rng))


def _verdict(request: ChatRequest) -> str:
    """In JSON mode the object that Cloudflare makes of it, whatever schema was sent: such a model has no other."""
    categories = safety.verdict(request)
    wants_text = request.response_format is None
    return safety.as_text(categories) if wants_text else _json(safety.as_json(categories))


def tools_to_call(request: ChatRequest) -> list[Tool]:
    """The tools that this turn calls: those that are forced, or that the user names.

    A tool that has been called since the user last spoke is not forced again, so that a loop of calls
    and results ends even where the caller insists throughout.
    """
    if not request.tools or request.tool_choice == "none":
        return []
    if isinstance(request.tool_choice, NamedTool):
        return _not_called(request, [_named(request, request.tool_choice.name)])
    mentioned = _mentioned(request)
    if request.tool_choice == "required":
        left = _not_called(request, mentioned) or _not_called(request, list(request.tools))[:1]
    else:
        left = [] if text.results_since_user(request) else mentioned
    return left[: 1 if request.parallel_tool_calls is False else _MAX_CALLS]


def _named(request: ChatRequest, name: str) -> Tool:
    for tool in request.tools:
        if tool.name == name:
            return tool
    raise InvalidRequest("'tool_choice' names a function that is not among 'tools'.", param="tool_choice")


def _mentioned(request: ChatRequest) -> list[Tool]:
    said = _plain(text.last_user_text(request))
    return [tool for tool in request.tools if _plain(tool.name).strip() and _plain(tool.name) in said]


def _plain(name: str) -> str:
    """Lower case with single spaces for all but letters and digits, and at both ends: `" get weather "`."""
    return re.sub(r"[^a-z0-9]+", " ", f" {name.casefold()} ")


def _not_called(request: ChatRequest, tools: list[Tool]) -> list[Tool]:
    called = set()
    for message in reversed(request.messages):
        if message.role == "user":
            break
        called |= {call.name for call in message.tool_calls}
    return [tool for tool in tools if tool.name not in called]


def _call(tool: Tool, request: ChatRequest, rng: Random) -> ToolCall:
    words = text.salient_words(text.last_user_text(request), but=tool.name)
    # An empty schema means "no arguments" here, though to JSON Schema it means "anything".
    parameters = {"type": "object"} | tool.parameters
    try:
        arguments = schema.instance(parameters, rng, words)
    except schema.Unsatisfiable as exc:
        at = request.tools.index(tool)
        raise InvalidRequest(
            f"The simulator found no arguments for this function: {exc}.", param=f"tools[{at}].function.parameters"
        ) from exc
    return ToolCall(f"call_{rng.getrandbits(96):024x}", tool.name, _json(arguments))


def _json_instance(wanted: dict[str, Any], request: ChatRequest, rng: Random) -> Any:
    try:
        return schema.instance(wanted, rng, text.salient_words(text.last_user_text(request)))
    except schema.Unsatisfiable as exc:
        raise RelayError(
            Fault.RESPONSE_FORMAT,
            f"JSON Mode couldn't be met: {exc}.",
            param="response_format",
            upstream_code=5024,
        ) from exc


def _json_object(request: ChatRequest) -> dict[str, Any]:
    said = text.last_user_text(request)
    return {
        "answer": "(simulated) No model was run.",
        "about": text.quote(said),
        "words": len(said.split()),
        "messages": len(request.messages),
    }


def _json(value: Any) -> str:
    """As models write it: with spaces, and with letters of any script as they are."""
    return json.dumps(value, ensure_ascii=False)
