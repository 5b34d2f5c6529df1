"""OpenAI's chat request as it stands on the wire: what is declared here is checked, nothing else is.

Numbers are `int | float` throughout, because real clients send `10.0` for a count; `openai_chat` says
which have to be whole.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

Number = int | float

T = TypeVar("T")
# Far beyond what a model can read, and little enough to be read in one turn of the event loop.
MOST_TURNS = 20_000
MOST_TOOLS = 2_000
Turns = Annotated[list[T], msgspec.Meta(max_length=MOST_TURNS)]
Tools = Annotated[list[T], msgspec.Meta(max_length=MOST_TOOLS)]


class TextContent(msgspec.Struct, tag="text"):
    text: str


class ImageURL(msgspec.Struct):
    url: str
    detail: str | None = None


class ImageContent(msgspec.Struct, tag="image_url"):
    image_url: ImageURL | str


class RefusalContent(msgspec.Struct, tag="refusal"):
    refusal: str


class AudioContent(msgspec.Struct, tag="input_audio"):
    """Known, so that the refusal can say what is wrong; no chat model of ours hears."""


class FileContent(msgspec.Struct, tag="file"):
    """Known, so that the refusal can say what is wrong; no chat model of ours reads files."""


Content = TextContent | ImageContent | RefusalContent | AudioContent | FileContent


class CallFunction(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] | None = None


class Call(msgspec.Struct):
    function: CallFunction
    id: str | None = None


class ChatMessage(msgspec.Struct):
    """`reasoning` is a string from most clients and an object from some."""

    role: str
    content: str | list[Content] | None = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    function_call: CallFunction | None = None
    reasoning_content: str | None = None
    reasoning: Any = None


class Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct):
    function: Function | None = None
    type: str = "function"


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ResponseFormat(msgspec.Struct):
    type: str
    json_schema: dict[str, Any] | None = None


class CallOptions(msgspec.Struct):
    rejectIfBusy: bool | None = None


class OldTurn(msgspec.Struct):
    role: str
    content: str | None = None


class ChatBody(msgspec.Struct):
    """The whole body. `prompt` and `history` are the older form, read only where `messages` is absent."""

    model: str | None = None
    messages: Turns[ChatMessage] | None = None
    prompt: str | None = None
    history: Turns[OldTurn] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Number | None = None
    max_tokens: Number | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Number | None = None
    min_p: Number | None = None
    seed: Number | None = None
    frequency_penalty: Number | None = None
    presence_penalty: Number | None = None
    repetition_penalty: Number | None = None
    stop: str | list[str] | None = None
    n: Number | None = None
    tools: Tools[FunctionTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: Tools[Function] | None = None
    function_call: str | dict[str, Any] | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Number | None = None
    logit_bias: dict[str, Number] | None = None
    reasoning_effort: str | None = None
    reasoning: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    lora: str | None = None
    options: CallOptions | None = None
    prompt_cache_key: str | None = None
    user: str | None = None
    modalities: list[str] | None = None
    # Not to be honoured, and an answer without them may differ.
    verbosity: Any = None
    web_search_options: Any = None
    # Without effect on the answer.
    audio: Any = None
    metadata: Any = None
    moderation: Any = None
    prediction: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None


FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(ChatBody))
