"""OpenAI's chat completions, as a client speaks it: what engines and most of Cloudflare's models say.

Nothing is taken for granted that the servers met so far get wrong: missing indexes, usage on every
chunk (summed or cumulative), reasoning under two names, finish reasons of their own.
"""

from __future__ import annotations

from typing import Any

import msgspec

from adapters.canonical import (
    ChatRequest,
    ChatResult,
    Choice,
    Delta,
    FinishReason,
    ImagePart,
    JsonFormat,
    Message,
    NamedTool,
    TextPart,
    Tool,
    Usage,
)
from adapters.errors import Fault, RelayError
from adapters.wire.json_text import dump_text
from adapters.wire.tool_calls import ToolCallReader, read_tool_calls

FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "model_length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def read_finish(reason: Any) -> FinishReason | None:
    """Ours for theirs; `None` for words that say nothing. Raises RelayError where the word is `error`."""
    if reason == "error":
        raise RelayError(Fault.UPSTREAM_ERROR, "The upstream says that generation failed.")
    return FINISH.get(reason) if isinstance(reason, str) else None


# ---------------------------------------------------------------- usage

_MOST = 2**53
"""More than anybody can count in one answer; JSON also allows numbers that no integer or float can hold."""


def read_usage(value: Any) -> Usage | None:
    """A usage object of chat completions or of responses; `None` if it counts nothing.

    One count that cannot be read makes it count nothing: the zero in its place would pass for counted.
    """
    told = _told(value)
    counts = [_count(count) for count in told.values()]
    if not told or None in counts:
        return None
    neurons = _amount(value.get("neurons"))
    return Usage(
        prompt_tokens=_count(told.get("prompt")) or 0,
        completion_tokens=_count(told.get("completion")) or 0,
        cached_tokens=_detail(value, ("prompt_tokens_details", "input_tokens_details"), "cached_tokens"),
        reasoning_tokens=_detail(value, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens"),
        neurons=None if neurons is None else float(neurons),
    )


def _told(value: Any) -> dict[str, Any]:
    """The counts that are there, readable or not."""
    if not isinstance(value, dict):
        return {}
    counts = {
        "prompt": value.get("prompt_tokens", value.get("input_tokens")),
        "completion": value.get("completion_tokens", value.get("output_tokens")),
    }
    return {name: count for name, count in counts.items() if count is not None}


def _count(value: Any) -> int | None:
    number = _amount(value)
    return None if number is None else round(number)


def _amount(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MOST:
        return None
    return value


def _detail(usage: dict[str, Any], objects: tuple[str, ...], name: str) -> int:
    for key in objects:
        details = usage.get(key)
        if isinstance(details, dict):
            return _count(details.get(name)) or 0
    return 0


class UsageReader:
    """The one true usage of a stream whose chunks may carry increments, running totals, or neither.

    A tail frame is cumulative and wins. Without one: the last chunk's counts if none ever fell (running
    totals), else their sum (increments; captures of 2026-10 and 2025-07); and none if a chunk's could not be read.
    """

    def __init__(self) -> None:
        self._tail: Usage | None = None
        self._last: Usage | None = None
        self._sum = Usage()
        self._fell = False
        self._unreadable = False

    def chunk(self, value: Any) -> None:
        usage = read_usage(value)
        if usage is None:
            self._unreadable = self._unreadable or bool(_told(value))
            return
        last = self._last
        if last is not None and (
            usage.prompt_tokens < last.prompt_tokens or usage.completion_tokens < last.completion_tokens
        ):
            self._fell = True
        self._last = usage
        self._sum = self._sum + usage

    def tail(self, value: Any) -> bool:
        """Take the cumulative tail; false if `value` is none. One that cannot be read is a tail all the same."""
        self._tail = read_usage(value) or self._tail
        return bool(_told(value))

    def result(self) -> Usage | None:
        if self._tail is not None or self._last is None or self._unreadable:
            return self._tail
        return self._sum if self._fell else self._last


# ---------------------------------------------------------------- stream chunks


class StreamDelta(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None


class StreamChoice(msgspec.Struct):
    delta: StreamDelta | None = None
    text: Any = None
    finish_reason: Any = None
    logprobs: Any = None


def read_choice(choice: StreamChoice, calls: ToolCallReader) -> Delta | None:
    """What one chunk adds to the answer, or `None`. The finish reason is read elsewhere."""
    delta = choice.delta
    if delta is None:
        text = read_text(choice.text)
        return Delta(text=text) if text else None
    text = read_text(delta.content)
    reasoning = read_text(delta.reasoning_content) or read_text(delta.reasoning)
    pieces = tuple(calls.feed(delta.tool_calls)) if delta.tool_calls else ()
    logprobs = read_logprobs(choice.logprobs)
    if text or reasoning or pieces or logprobs:
        return Delta(text, reasoning, pieces, logprobs)
    return None


def read_text(value: Any) -> str:
    """The text of a `content`: a string, a list of parts, or whatever else a server put there.

    Parts lie one level down; what lies deeper is shown as JSON. Raises RelayError if that is nested too deeply.
    """
    if not isinstance(value, list):
        return _plain_text(value)
    return "".join(_plain_text(part.get("text") if isinstance(part, dict) else part) for part in value)


def _plain_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return dump_text(value)
    except RecursionError:
        raise RelayError(Fault.UPSTREAM_ERROR, "The upstream's answer is nested too deeply.") from None


def read_logprobs(value: Any) -> list[Any] | None:
    content = value.get("content") if isinstance(value, dict) else None
    return content if isinstance(content, list) and content else None


# ---------------------------------------------------------------- whole results


def parse_completion(result: dict[str, Any]) -> ChatResult:
    """An object of `chat.completion` or `text_completion`. Raises RelayError if it holds no choice."""
    choices = result.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise RelayError(Fault.UPSTREAM_ERROR, "The upstream answered without a choice.")
    return ChatResult(choices=tuple(map(_choice, choices)), usage=read_usage(result.get("usage")))


def _choice(choice: dict[str, Any]) -> Choice:
    message = choice.get("message")
    body = message if isinstance(message, dict) else {"content": choice.get("text")}
    return Choice(
        text=read_text(body.get("content")),
        reasoning=read_text(body.get("reasoning_content")) or read_text(body.get("reasoning")),
        tool_calls=read_tool_calls(body.get("tool_calls")),
        finish_reason=read_finish(choice.get("finish_reason")),
        logprobs=read_logprobs(choice.get("logprobs")),
    )


def parse_response(result: dict[str, Any]) -> ChatResult:
    """An object of the Responses API, as GPT-OSS answers where it was asked by `input`."""
    output = result.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    calls = [item for item in items if item.get("type") == "function_call"]
    for call in calls:
        call["id"] = call.get("call_id") or call.get("id")
    reason: FinishReason | None = "tool_calls" if calls else "stop"
    if result.get("status") == "incomplete":
        details = result.get("incomplete_details")
        cut_by = details.get("reason") if isinstance(details, dict) else None
        reason = "content_filter" if cut_by == "content_filter" else "length"
    elif result.get("status") == "failed":
        raise RelayError(Fault.UPSTREAM_ERROR, "The upstream says that generation failed.")
    choice = Choice(
        text="".join(read_text(item.get("content")) for item in items if item.get("type") == "message"),
        reasoning="".join(
            read_text(item.get("content")) or read_text(item.get("summary"))
            for item in items
            if item.get("type") == "reasoning"
        ),
        tool_calls=read_tool_calls(calls),
        finish_reason=reason,
    )
    return ChatResult(choices=(choice,), usage=read_usage(result.get("usage")))


# ---------------------------------------------------------------- requests


def dump_message(message: Message) -> dict[str, Any]:
    """One turn in OpenAI's form. Content is never null: several servers refuse it beside tool calls."""
    wire: dict[str, Any] = {"role": message.role, "content": dump_content(message.content)}
    if message.name:
        wire["name"] = message.name
    if message.tool_calls:
        wire["tool_calls"] = [
            {
                "id": call.id or f"call_{i}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for i, call in enumerate(message.tool_calls)
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        wire["reasoning"] = message.reasoning  # inside `content` it would be taken for the answer
    return wire


def dump_content(content: str | tuple[TextPart | ImagePart, ...]) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _part(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    image = {"url": part.url} if part.detail is None else {"url": part.url, "detail": part.detail}
    return {"type": "image_url", "image_url": image}


def dump_tool(tool: Tool, *, with_strict: bool = True) -> dict[str, Any]:
    """One tool. Description and parameters are always there: Cloudflare's schema lists them as required."""
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }
    if with_strict and tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def dump_tool_choice(request: ChatRequest) -> Any:
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def dump_response_format(wanted: JsonFormat) -> dict[str, Any]:
    """OpenAI's wrapper `{name, schema, strict}`, which needs a name."""
    if wanted.schema is None:
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": wanted.name or "answer", "schema": wanted.schema}
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": schema}
