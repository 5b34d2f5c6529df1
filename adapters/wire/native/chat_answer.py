"""Text generation's whole answers: the `result` of `POST /ai/run/{model}`, without its envelope.

Sources: Cloudflare's binding types (cloudflare/workerd, 2026-08), logs and captures of live answers (to 2026-10).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from adapters.canonical import ChatResult, Choice, FinishReason, ToolCall, Usage
from adapters.wire.json_text import NotJson, encode, loads
from adapters.wire.native.chat_inputs import NativeChatRequest, response_shaped
from adapters.wire.openai_answer import Stamp, dump_chat_result
from adapters.wire.think import CLOSE, OPEN


class FlatCall(msgspec.Struct):
    """A call of the older models: no id, and `arguments` an object."""

    name: str
    arguments: Any


class CachedTokens(msgspec.Struct):
    cached_tokens: int


class ReasoningTokens(msgspec.Struct):
    reasoning_tokens: int


class NativeUsage(msgspec.Struct, omit_defaults=True):
    """`neurons` is there where Cloudflare told them, `estimated` where nobody counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens | None = None
    neurons: float | None = None
    estimated: bool = False


class ResponseResult(msgspec.Struct, omit_defaults=True):
    """`response` is text, in JSON mode the value itself, and null where there are calls alone."""

    response: Any
    tool_calls: list[FlatCall]
    usage: NativeUsage
    reasoning_content: str = ""


class TextChoice(msgspec.Struct):
    index: int
    text: str
    finish_reason: FinishReason | None
    logprobs: dict[str, Any] | None


class TextCompletion(msgspec.Struct):
    """What chat-shaped models make of a `prompt`."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: NativeUsage
    object: Literal["text_completion"] = "text_completion"


def dump_native_chat(result: ChatResult, asked: NativeChatRequest, *, native_result: str | None, stamp: Stamp) -> bytes:
    """A whole answer in the model's shape, as JSON."""
    if response_shaped(native_result):
        return encode(_response(result, asked))
    if asked.input_key == "prompt" and not any(choice.tool_calls for choice in result.choices):
        return encode(_text_completion(result, stamp))
    return dump_chat_result(result, asked.request, stamp)


def native_usage(usage: Usage) -> NativeUsage:
    """Reasoning is told apart only where there was any."""
    return NativeUsage(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        CachedTokens(usage.cached_tokens),
        ReasoningTokens(usage.reasoning_tokens) if usage.reasoning_tokens else None,
        usage.neurons,
        usage.estimated,
    )


def with_thought(reasoning: str, text: str) -> str:
    """Text of a model that thinks aloud: these shapes have no place of their own for it."""
    return f"{OPEN}\n{reasoning}{CLOSE}\n\n{text}" if reasoning else text


def _response(result: ChatResult, asked: NativeChatRequest) -> ResponseResult:
    choice = result.choices[0]
    value = _json(choice.text) if asked.request.response_format is not None else None
    calls_alone = bool(choice.tool_calls) and not choice.text
    thinks_aloud = value is None and not calls_alone
    return ResponseResult(
        response=with_thought(choice.reasoning, choice.text) if thinks_aloud else value,
        tool_calls=[_flat_call(call) for call in choice.tool_calls],
        usage=native_usage(result.usage or Usage(estimated=True)),
        reasoning_content="" if thinks_aloud else choice.reasoning,
    )


def _flat_call(call: ToolCall) -> FlatCall:
    arguments = _json(call.arguments)
    return FlatCall(call.name, arguments if arguments is not None and bytes(arguments)[:1] == b"{" else call.arguments)


def _json(text: str) -> msgspec.Raw | None:
    """The text as a JSON value; `None` if it is none."""
    try:
        return msgspec.Raw(encode(loads(text.encode())))
    except (NotJson, RecursionError):
        return None


def _text_completion(result: ChatResult, stamp: Stamp) -> TextCompletion:
    return TextCompletion(
        id=stamp.id,
        created=stamp.created,
        model=stamp.model,
        choices=[_text_choice(i, choice) for i, choice in enumerate(result.choices)],
        usage=native_usage(result.usage or Usage(estimated=True)),
    )


def _text_choice(index: int, choice: Choice) -> TextChoice:
    logprobs = None if choice.logprobs is None else {"content": choice.logprobs}
    return TextChoice(index, with_thought(choice.reasoning, choice.text), choice.finish_reason, logprobs)
