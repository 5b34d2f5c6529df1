"""OpenAI's Responses API, whole answers: `POST /v1/responses`, both ways.

Source: OpenAI's API reference and what its clients of 2026-10 were seen to send and to demand. No answer is kept, so
that what refers to one is refused.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from adapters.canonical import ChatRequest, ChatResult, Choice, JsonFormat, NamedTool, Usage
from adapters.canonical import Tool as CanonicalTool
from adapters.errors import InvalidRequest
from adapters.wire.json_text import encode
from adapters.wire.openai_answer import Stamp
from adapters.wire.openai_responses_items import read_input
from adapters.wire.openai_responses_types import FIELDS, Format, ResponsesBody, Tool
from adapters.wire.openai_tools import read_tool, read_tool_choice
from adapters.wire.openai_types import ChatBody, Function
from adapters.wire.validation import decode, decode_repaired, in_range, whole

ID_PREFIX = "resp_"
"""That of a `Stamp.id` for these answers."""

_BODY = msgspec.json.Decoder(ResponsesBody)
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NEVER = 2**31 - 1
_LOGPROBS = "message.output_text.logprobs"


class ResponsesRequest(ChatRequest, frozen=True, kw_only=True):
    """A chat request, and what an answer in this form repeats of it."""

    instructions: str | None = None
    metadata: dict[str, str] | None = None


# ---------------------------------------------------------------- requests


def parse_responses_request(body: bytes) -> ResponsesRequest:
    """A request body to canonical. Raises InvalidRequest naming the field."""
    wire, body = decode_repaired(body, _BODY)
    given = decode(body, _KEYS)
    _refuse_what_is_not_kept(wire)
    tools = tuple(_tool(tool, f"tools[{i}]") for i, tool in enumerate(wire.tools or ()))
    choice, tools = read_tool_choice(ChatBody(tool_choice=_tool_choice(wire)), tools)
    top_logprobs = whole(wire.top_logprobs, "top_logprobs", 0, 20)
    return ResponsesRequest(
        model=_model(wire),
        messages=read_input(wire.input, wire.instructions),
        max_tokens=whole(wire.max_output_tokens, "max_output_tokens", 1, _NEVER),
        temperature=in_range(wire.temperature, "temperature", 0, 2),
        top_p=in_range(wire.top_p, "top_p", 0, 1),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=wire.parallel_tool_calls,
        response_format=_format(wire.text.format) if wire.text and wire.text.format else None,
        logprobs=bool(top_logprobs) or _LOGPROBS in (wire.include or ()),
        top_logprobs=top_logprobs,
        reasoning_effort=wire.reasoning.effort if wire.reasoning else None,
        affinity=wire.prompt_cache_key or wire.user,
        unsupported=_unsupported(wire),
        unknown=tuple(key[:64] for key, value in given.items() if key not in FIELDS and bytes(value) != b"null"),
        instructions=wire.instructions,
        metadata=wire.metadata,
    )


def _refuse_what_is_not_kept(wire: ResponsesBody) -> None:
    if wire.stream:
        raise InvalidRequest("Responses cannot be streamed here: 'stream' must be false.", param="stream")
    if wire.background:
        raise InvalidRequest("Responses cannot be made in the background: none are kept here.", param="background")
    for name in ("previous_response_id", "conversation", "prompt"):
        if getattr(wire, name) is not None:
            raise InvalidRequest(f"'{name}' cannot be used: no answers or prompts are kept here.", param=name)


def _model(wire: ResponsesBody) -> str:
    if wire.model is not None and wire.model.strip():
        return wire.model
    raise InvalidRequest("You must provide a model parameter.", param="model", code="missing_required_parameter")


def _tool(tool: Tool, at: str) -> CanonicalTool:
    if tool.type != "function":
        raise InvalidRequest(f"Invalid value for '{at}.type': only 'function' is supported.", param=f"{at}.type")
    return read_tool(Function(tool.name or "", tool.description, tool.parameters, tool.strict), at)


def _tool_choice(wire: ResponsesBody) -> str | dict[str, Any] | None:
    choice = wire.tool_choice
    if isinstance(choice, dict) and choice.get("type") not in ("function", "allowed_tools"):
        raise InvalidRequest(
            "Invalid value for 'tool_choice.type': supported values are 'function' and 'allowed_tools'.",
            param="tool_choice.type",
        )
    return choice


def _format(wire: Format) -> JsonFormat | None:
    match wire.type:
        case "text":
            return None
        case "json_object":
            return JsonFormat()
        case "json_schema" if wire.schema is not None:
            return JsonFormat(name=wire.name, schema=wire.schema, strict=wire.strict)
        case "json_schema":
            raise InvalidRequest(
                "Missing required parameter: 'text.format.schema'.",
                param="text.format.schema",
                code="missing_required_parameter",
            )
    raise InvalidRequest(
        "Invalid value for 'text.format.type': supported values are 'text', 'json_object' and 'json_schema'.",
        param="text.format.type",
    )


def _unsupported(wire: ResponsesBody) -> tuple[str, ...]:
    """What alters an answer and cannot be honoured."""
    reasoning = wire.reasoning
    given = {
        "text.verbosity": wire.text and wire.text.verbosity,
        "reasoning.summary": reasoning and (reasoning.summary or reasoning.generate_summary),
        "truncation": wire.truncation not in (None, "disabled"),
    }
    return tuple(name for name, value in given.items() if value)


# ---------------------------------------------------------------- answers


def dump_responses_result(result: ChatResult, request: ChatRequest, stamp: Stamp) -> bytes:
    """A whole answer as the JSON body. `stamp.id` begins with `resp_`."""
    choice = result.choices[0]
    cut_by = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(choice.finish_reason or "")
    output = _output(choice, stamp)
    if cut_by and output:
        output[-1]["status"] = "incomplete"
    return encode(
        {
            "id": stamp.id,
            "object": "response",
            "created_at": stamp.created,
            "status": "incomplete" if cut_by else "completed",
            "background": False,
            "error": None,
            "incomplete_details": {"reason": cut_by} if cut_by else None,
            "model": stamp.model,
            "output": output,
            "usage": _usage(result.usage or Usage(estimated=True)),
            **_echo(request),
        }
    )


def _echo(request: ChatRequest) -> dict[str, Any]:
    """What was asked for; `null` where the choice was left to the model."""
    own = request if isinstance(request, ResponsesRequest) else None
    choice = request.tool_choice
    return {
        "instructions": own.instructions if own else None,
        "metadata": (own.metadata if own else None) or {},
        "max_output_tokens": request.max_tokens,
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": request.reasoning_effort, "summary": None},
        "store": False,
        "temperature": request.temperature,
        "text": {"format": _dump_format(request.response_format)},
        "tool_choice": {"type": "function", "name": choice.name} if isinstance(choice, NamedTool) else choice or "auto",
        "tools": [_dump_tool(tool) for tool in request.tools],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": request.top_p,
        "truncation": "disabled",
    }


def _dump_tool(tool: CanonicalTool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def _dump_format(wanted: JsonFormat | None) -> dict[str, Any]:
    if wanted is None:
        return {"type": "text"}
    if wanted.schema is None:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "name": wanted.name or "answer",
        "schema": wanted.schema,
        "strict": wanted.strict,
    }


def _output(choice: Choice, stamp: Stamp) -> list[dict[str, Any]]:
    """Reasoning, text and calls, each an item of its own; there is a text unless there is something else."""
    items: list[dict[str, Any]] = []
    if choice.reasoning:
        reasoning = [{"type": "reasoning_text", "text": choice.reasoning}]
        items.append({"id": _item_id("rs_", stamp, 0), "type": "reasoning", "summary": [], "content": reasoning})
    if choice.text or not (choice.tool_calls or choice.reasoning):
        text = {
            "type": "output_text",
            "text": choice.text,
            "annotations": [],
            "logprobs": [_logprob(entry) for entry in choice.logprobs or () if isinstance(entry, dict)],
        }
        items.append({"id": _item_id("msg_", stamp, 0), "type": "message", "role": "assistant", "content": [text]})
    for i, call in enumerate(choice.tool_calls):
        items.append(
            {
                "id": _item_id("fc_", stamp, i),
                "type": "function_call",
                "call_id": call.id or stamp.call_id(i),
                "name": call.name,
                "arguments": call.arguments,
            }
        )
    for item in items:
        item["status"] = "completed"
    return items


def _item_id(prefix: str, stamp: Stamp, index: int) -> str:
    return prefix + hashlib.sha256(f"{stamp.id}/{prefix}{index}".encode()).hexdigest()[:32]


def _logprob(entry: dict[str, Any]) -> dict[str, Any]:
    """Chat's entry with all that this form demands: bytes are never null."""
    token = str(entry.get("token", ""))
    top = entry.get("top_logprobs")
    wire = {
        "token": token,
        "logprob": entry.get("logprob", 0.0),
        "bytes": entry["bytes"] if isinstance(entry.get("bytes"), list) else list(token.encode()),
    }
    wire["top_logprobs"] = (
        [_top_logprob(item) for item in top if isinstance(item, dict)] if isinstance(top, list) else []
    )
    return wire


def _top_logprob(entry: dict[str, Any]) -> dict[str, Any]:
    wire = _logprob(entry)
    del wire["top_logprobs"]
    return wire


def _usage(usage: Usage) -> dict[str, Any]:
    """`neurons` is there where Cloudflare told them, `estimated` where nobody counted."""
    wire: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
    if usage.neurons is not None:
        wire["neurons"] = usage.neurons
    if usage.estimated:
        wire["estimated"] = True
    return wire
