"""OpenAI's request for a response as it stands on the wire: what is declared here is checked, nothing else is.

Items and parts are one wide struct each rather than tagged unions, for an item may leave out its type.
"""

from __future__ import annotations

from typing import Any

import msgspec

from adapters.wire.openai_types import Tools, Turns

Number = int | float


class Part(msgspec.Struct):
    """A piece of a content, of an output or of a reasoning."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None


class Item(msgspec.Struct):
    """A turn (`type` `message`, or none), a call, its output, or a reasoning."""

    type: str | None = None
    role: str | None = None
    content: str | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None
    summary: list[Part] | None = None


class Tool(msgspec.Struct):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Format(msgspec.Struct):
    type: str
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class Text(msgspec.Struct):
    format: Format | None = None
    verbosity: str | None = None


class Reasoning(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponsesBody(msgspec.Struct):
    """The whole body."""

    model: str | None = None
    input: str | Turns[Item] | None = None
    instructions: str | None = None
    max_output_tokens: Number | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_logprobs: Number | None = None
    tools: Tools[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    truncation: str | None = None
    prompt_cache_key: str | None = None
    user: str | None = None
    stream: bool | None = None
    background: bool | None = None
    # What needs answers that were kept.
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    # Without effect on the answer.
    max_tool_calls: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None
    stream_options: Any = None


FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(ResponsesBody))
