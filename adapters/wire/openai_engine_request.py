"""A chat request as an OpenAI-compatible engine takes it, and what had to be changed for that."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from adapters.canonical import Change, ChatRequest, ImagePart, JsonFormat, Message, NamedTool, TextPart, Tool
from adapters.errors import InvalidRequest
from adapters.wire.changes import Changes
from adapters.wire.chatglm_calls import dump_call
from adapters.wire.engine_form import EngineForm
from adapters.wire.json_text import dump_text, encode
from adapters.wire.openai_upstream import dump_message, dump_response_format, dump_tool, dump_tool_choice

_SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "frequency_penalty", "presence_penalty"),
    *("repetition_penalty", "logit_bias", "chat_template_kwargs"),
)
_NEUTRAL: dict[str, float] = {
    "top_p": 1,
    "min_p": 0,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "repetition_penalty": 1,
}
"""Values that ask for nothing: to leave them out is no change."""
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class EngineRequest(NamedTuple):
    """A body to send. `limit` is its `max_tokens`, in the engine's meaning."""

    body: bytes
    changes: list[Change]
    limit: int | None


def dump_engine_request(
    request: ChatRequest,
    form: EngineForm,
    *,
    model: str,
    stream: bool,
    prompt_tokens: int = 0,
    context_window: int | None = None,
) -> EngineRequest:
    """The body for one engine, and what it had to change.

    `model` is the engine's own name, `prompt_tokens` an estimate, `context_window` the engine's, in tokens, if it is
    known. Raises InvalidRequest for images that the engine has no form for.
    """
    changes = Changes(request)
    changes.dropped(lora=request.lora)
    if form.prompt_limit is not None and prompt_tokens > form.prompt_limit:
        changes.list.append(Change("messages", "clamped"))
    limit = _limit(request, form, changes, prompt_tokens, context_window)
    body: dict[str, Any] = {"model": model, "messages": _messages(request, form, changes), "stream": stream}
    if limit is not None:
        body["max_tokens"] = limit
    body |= _sampling(request, form, changes)
    tools = _tools(request, form, changes)
    body |= tools
    body |= _logprobs(request, form, changes, beside_tools=stream and bool(tools))
    if request.response_format is not None:
        if form.schemas:
            body["response_format"] = dump_response_format(request.response_format)
        else:
            changes.emulated(response_format=True)
    if request.stop:
        if form.stop:
            body["stop"] = list(request.stop)
        else:
            changes.emulated(stop=True)
    if stream and form.stream_options:
        body["stream_options"] = {"include_usage": True}
    return EngineRequest(encode(body), changes.list, limit)


_SHORTEST_TOTAL = 2
"""chatglm.cpp 0.4.2 aborts for a total of 0 or 1."""


def _limit(
    request: ChatRequest, form: EngineForm, changes: Changes, prompt_tokens: int, context_window: int | None
) -> int | None:
    """The engine's `max_tokens`: that of the answer, or the length of prompt and answer together."""
    wanted = request.max_tokens
    if form.total_limit is None:
        return wanted
    most = context_window or form.total_limit
    if wanted is None:
        return most
    total = wanted + min(prompt_tokens, form.prompt_limit or prompt_tokens)
    if total > most:
        changes.list.append(Change("max_tokens", "clamped"))
    return max(_SHORTEST_TOTAL, min(total, most))


# ---------------------------------------------------------------- sampling


def _sampling(request: ChatRequest, form: EngineForm, changes: Changes) -> dict[str, Any]:
    wire: dict[str, Any] = {}
    for name in _SAMPLING:
        value = getattr(request, name)
        if value is None:
            continue
        if name not in form.fields:
            if value != _NEUTRAL.get(name):
                changes.list.append(Change(name, "dropped"))
            continue
        if name in form.approximated and value != _NEUTRAL.get(name):
            changes.list.append(Change(name, "emulated"))
        wire[form.fields[name]] = _in_range(name, value, form, changes)
    _effort(request, form, changes, wire)
    return wire


def _logprobs(request: ChatRequest, form: EngineForm, changes: Changes, *, beside_tools: bool) -> dict[str, Any]:
    """`top_logprobs` alone is a mistake to some engines, and nothing to the others."""
    if not request.logprobs:
        return {}
    if "logprobs" not in form.fields or (beside_tools and not form.logprobs_beside_tools):
        changes.dropped(logprobs=True, top_logprobs=request.top_logprobs or None)
        return {}
    if request.top_logprobs is None and not form.least_alternatives:
        return {"logprobs": True}
    return {"logprobs": True, "top_logprobs": max(request.top_logprobs or 0, form.least_alternatives)}


def _in_range(name: str, value: Any, form: EngineForm, changes: Changes) -> Any:
    if name in form.bounds:
        return changes.clamped(name, value, *form.bounds[name])
    if name == "seed" and form.seeds is not None and not 0 <= value < form.seeds:
        changes.list.append(Change(name, "clamped"))
        return value % form.seeds
    return value


def _effort(request: ChatRequest, form: EngineForm, changes: Changes, wire: dict[str, Any]) -> None:
    """The effort, or the nearest that the engine has a word for, where the engine wants it."""
    effort = request.reasoning_effort
    if effort is None:
        return
    if form.efforts == ():
        changes.dropped(reasoning_effort=effort)
        return
    if form.efforts is not None and effort not in form.efforts and effort in _EFFORTS:
        wanted = _EFFORTS.index(effort)
        effort = min(form.efforts, key=lambda name: abs(_EFFORTS.index(name) - wanted))
        changes.list.append(Change("reasoning_effort", "clamped"))
    wire["reasoning_effort"] = effort
    if form.effort_in_template:
        wire["chat_template_kwargs"] = {"reasoning_effort": effort, **(request.chat_template_kwargs or {})}


# ---------------------------------------------------------------- tools


def _tools(request: ChatRequest, form: EngineForm, changes: Changes) -> dict[str, Any]:
    if not request.tools:
        return {}
    choice = request.tool_choice
    kind = "named" if isinstance(choice, NamedTool) else choice
    tools = request.tools
    wire: dict[str, Any] = {}
    if kind is not None and kind in form.tool_choices:
        wire["tool_choice"] = dump_tool_choice(request)
    elif kind == "none":
        changes.emulated(tool_choice=True)
        return {}
    elif isinstance(choice, NamedTool):
        tools = tuple(tool for tool in tools if tool.name == choice.name)
        if "required" in form.tool_choices:
            wire["tool_choice"] = "required"
            changes.emulated(tool_choice=True)
        else:
            changes.dropped(tool_choice=choice)
    elif kind == "required":
        changes.dropped(tool_choice=choice)
    if request.parallel_tool_calls is not None and form.parallel_tool_calls:
        wire["parallel_tool_calls"] = request.parallel_tool_calls
    elif request.parallel_tool_calls is False:
        changes.emulated(parallel_tool_calls=True)
    return {"tools": [dump_tool(tool) for tool in tools], **wire}


def offered(request: ChatRequest, form: EngineForm) -> tuple[Tool, ...]:
    """The tools whose calls may come as text."""
    return request.tools if form.text_calls and request.tool_choice != "none" else ()


# ---------------------------------------------------------------- turns


def _messages(request: ChatRequest, form: EngineForm, changes: Changes) -> list[dict[str, Any]]:
    turns = list(request.messages)
    changes.dropped(  # one entry for all turns: a conversation may have thousands
        **{
            "messages[].name": not form.names and any(turn.name for turn in turns),
            "messages[].reasoning": form.reasoning is None and any(turn.reasoning for turn in turns),
        }
    )
    if form.one_image:
        turns = [_with_one_image(turn, i) for i, turn in enumerate(turns)]
    if not form.tool_turns and any(turn.tool_calls or turn.role == "tool" for turn in turns):
        changes.emulated(**{"messages[].tool_calls": True})
        turns = _in_words(turns)
    if request.response_format is not None and not form.schemas:
        turns = _instructed(turns, request.response_format)
    if form.alternating:
        turns = _joined(turns)
    return [_turn(turn, form) for turn in turns]


def _turn(turn: Message, form: EngineForm) -> dict[str, Any]:
    wire = dump_message(turn)
    reasoning = wire.pop("reasoning", None)
    if reasoning and form.reasoning:
        wire[form.reasoning] = reasoning
    if not form.names:
        wire.pop("name", None)
    return wire


def _with_one_image(turn: Message, i: int) -> Message:
    """The turn as one text and one image, in this order. Raises InvalidRequest if there are more images."""
    if isinstance(turn.content, str):
        return turn
    images = [part for part in turn.content if isinstance(part, ImagePart)]
    if len(images) > 1:
        at = f"messages[{i}].content"
        raise InvalidRequest(f"Invalid '{at}': this engine takes one image a turn.", param=at)
    return msgspec.structs.replace(turn, content=(TextPart(_text(turn)), *images))


def _text(turn: Message) -> str:
    if isinstance(turn.content, str):
        return turn.content
    return "".join(part.text for part in turn.content if isinstance(part, TextPart))


def _in_words(turns: list[Message]) -> list[Message]:
    """Earlier calls as the model itself would have written them, and their results as told by the user."""
    names = {call.id: call.name for turn in turns for call in turn.tool_calls}
    out = []
    for turn in turns:
        if turn.role == "tool":
            name = names.get(turn.tool_call_id, "the function")
            out.append(Message(role="user", content=f"Result of {name}:\n{_text(turn)}"))
        elif turn.tool_calls:
            said = filter(None, [_text(turn), *map(dump_call, turn.tool_calls)])
            out.append(Message(role=turn.role, content="\n".join(said)))
        else:
            out.append(turn)
    return out


def _instructed(turns: list[Message], wanted: JsonFormat) -> list[Message]:
    """The turns with the wanted form of the answer in the system's words."""
    words = "Answer with one JSON object and nothing else: no explanation, no code fence."
    if wanted.schema is not None:
        words += f" It has to match this JSON Schema:\n{dump_text(wanted.schema)}"
    if turns[0].role == "system" and isinstance(turns[0].content, str):
        return [msgspec.structs.replace(turns[0], content=f"{turns[0].content}\n\n{words}"), *turns[1:]]
    return [Message(role="system", content=words), *turns]


def _joined(turns: list[Message]) -> list[Message]:
    """Neighbours of one role as one turn, where both are text."""
    out: list[Message] = []
    for turn in turns:
        last = out[-1] if out else None
        if last and last.role == turn.role and isinstance(last.content, str) and isinstance(turn.content, str):
            out[-1] = msgspec.structs.replace(last, content=f"{last.content}\n\n{turn.content}")
        else:
            out.append(turn)
    return out
