"""The vocabulary between dialects and backends: requests, results and stream events.

Text fields are `""` when there is nothing, lists are `()`; `None` means that the caller, or the
upstream, did not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
ChangeKind = Literal["clamped", "dropped", "emulated", "ignored"]


class TextPart(msgspec.Struct, frozen=True):
    text: str


class ImagePart(msgspec.Struct, frozen=True):
    """`url` is an address or a data URI."""

    url: str
    detail: str | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A whole call. `arguments` is JSON text; `id` is `None` where the upstream gave none."""

    id: str | None
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. `content` is a tuple of parts only when it holds an image."""

    role: Role
    content: str | tuple[TextPart | ImagePart, ...] = ""
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str = ""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any]
    strict: bool | None = None


class NamedTool(msgspec.Struct, frozen=True):
    """The caller insists on this function."""

    name: str


class JsonFormat(msgspec.Struct, frozen=True, kw_only=True):
    """The answer must be JSON: any object when `schema` is `None`, else an instance of it."""

    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asked, whatever it spoke. Its dialect has checked the ranges.

    They are OpenAI's, save for what came in a native form: there `temperature` goes up to 5 and `top_p` to 2.
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    max_tokens_by_relay: bool = False
    """The caller named no limit; this one is the relay's."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    tools: tuple[Tool, ...] = ()
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    legacy_functions: bool = False
    """The client used `functions`, the forerunner of `tools`, and wants its answer in that form."""
    response_format: JsonFormat | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    logit_bias: Mapping[str, float] | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    lora: str | None = None
    reject_if_busy: bool = False
    """Cloudflare's own option: fail at once where it would queue."""
    affinity: str | None = None
    """What the caller wants equal requests to be recognised by (`prompt_cache_key`, `user`)."""
    unsupported: tuple[str, ...] = ()
    """Known fields that alter an answer and that nothing here can honour."""
    unknown: tuple[str, ...] = ()

    @property
    def forces_tool(self) -> bool:
        return self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)


class Change(msgspec.Struct, frozen=True):
    """What was changed in a request on its way up."""

    field: str
    kind: ChangeKind

    def __str__(self) -> str:
        return f"{self.field}={self.kind}"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one answer. `neurons` is Cloudflare's billing unit, where it was told."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    neurons: float | None = None
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        neurons = None
        if self.neurons is not None or other.neurons is not None:
            neurons = (self.neurons or 0.0) + (other.neurons or 0.0)
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            neurons=neurons,
            estimated=self.estimated or other.estimated,
        )


class ToolCallDelta(msgspec.Struct, frozen=True):
    """A piece of call `index`. `name` (and `id`, if the upstream gave one) come in the first piece only."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Delta(msgspec.Struct, frozen=True):
    """A piece of the answer; `logprobs` is OpenAI's list for the tokens of `text`."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: list[Any] | None = None


class Finish(msgspec.Struct, frozen=True):
    """The last event. From an upstream either member may be missing; what a client gets has both."""

    reason: FinishReason | None = None
    usage: Usage | None = None


ChatEvent = Delta | Finish


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    logprobs: list[Any] | None = None


class ChatResult(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. `usage` is `None` only between an upstream and `adapters.answer`."""

    choices: tuple[Choice, ...]
    usage: Usage | None = None


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to turn into vectors. `dimensions` cuts the vectors, which then have unit length again.

    `pooling` (`mean`, `cls`) and `instruction` are Workers AI's own; `query` says that the texts are questions
    rather than documents, for models that treat the two differently; `truncate` that the end of a text which is too
    long may be left out, for the model that would refuse it (bge-m3).
    """

    model: str
    texts: tuple[str, ...]
    dimensions: int | None = None
    pooling: str | None = None
    instruction: str | None = None
    query: bool = False
    truncate: bool = False
    affinity: str | None = None
    unknown: tuple[str, ...] = ()


class EmbeddingResult(msgspec.Struct, frozen=True, kw_only=True):
    """One vector a text, in the order of the texts; all of one length."""

    vectors: list[list[float]]
    pooling: str | None = None
    usage: Usage | None = None


class Media(msgspec.Struct, frozen=True):
    """An answer that is not JSON: an image or a sound."""

    data: bytes
    media_type: str


class NativeResult(msgspec.Struct, frozen=True):
    """The answer of a task that has no protocol of its own: a value for JSON, or bytes."""

    value: Any
    usage: Usage | None = None
