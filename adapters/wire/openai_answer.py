"""A whole answer in OpenAI's form, and what all of an answer's parts repeat."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from adapters.canonical import (
    ChatRequest,
    ChatResult,
    Choice,
    Usage,
)
from adapters.wire.json_text import encode


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """What every part of one answer repeats. `created` is in whole Unix seconds."""

    id: str
    created: int
    model: str
    fingerprint: str

    def call_id(self, index: int) -> str:
        """An id for a call that the upstream left without one; the same whenever it is asked for."""
        return "call_" + hashlib.sha256(f"{self.id}/{index}".encode()).hexdigest()[:24]


def dump_usage(usage: Usage) -> dict[str, Any]:
    """`neurons` is there where Cloudflare told them, `estimated` where nobody counted."""
    wire: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    if usage.neurons is not None:
        wire["neurons"] = usage.neurons
    if usage.estimated:
        wire["estimated"] = True
    return wire


def dump_chat_result(result: ChatResult, request: ChatRequest, stamp: Stamp) -> bytes:
    """A whole answer as the JSON body of `POST /v1/chat/completions`."""
    return encode(
        {
            "id": stamp.id,
            "object": "chat.completion",
            "created": stamp.created,
            "model": stamp.model,
            "choices": [_choice(i, choice, request, stamp) for i, choice in enumerate(result.choices)],
            "usage": dump_usage(result.usage or Usage(estimated=True)),
            "system_fingerprint": stamp.fingerprint,
        }
    )


def _choice(index: int, choice: Choice, request: ChatRequest, stamp: Stamp) -> dict[str, Any]:
    calls = [
        {
            "id": call.id or stamp.call_id(index * 1000 + i),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for i, call in enumerate(choice.tool_calls)
    ]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": choice.text if choice.text or not calls else None,
        "refusal": None,
    }
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    reason: str | None = choice.finish_reason
    if calls and request.legacy_functions:
        message["function_call"] = calls[0]["function"]
        reason = "function_call" if reason == "tool_calls" else reason
    elif calls:
        message["tool_calls"] = calls
    logprobs = None if choice.logprobs is None else {"content": choice.logprobs, "refusal": None}
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}
