"""OpenAI's chat completions, as a server speaks it.

Source: OpenAI's API reference and its Python and Node clients of 2026-10, which were run against
every deviation that is avoided here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from adapters.canonical import (
    ChatEvent,
    ChatRequest,
    ChatResult,
    Choice,
    Delta,
    Finish,
    ImagePart,
    JsonFormat,
    Message,
    NamedTool,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from adapters.errors import InvalidRequest
from adapters.wire import sse
from adapters.wire.json_text import dump_text, encode, loads
from adapters.wire.openai_types import (
    FIELDS,
    AudioContent,
    Call,
    CallFunction,
    ChatBody,
    ChatMessage,
    Content,
    FileContent,
    Function,
    FunctionTool,
    ImageContent,
    OldTurn,
    RefusalContent,
    ResponseFormat,
    TextContent,
)
from adapters.wire.validation import BOM, decode, in_range, whole

OLD_FORM_MODEL = "default"
"""What a body of the older form asks for when it names no model."""

_BODY = msgspec.json.Decoder(ChatBody)
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_INT64 = 2**63
_NEVER = 2**31 - 1

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}

# ---------------------------------------------------------------- requests


def parse_chat_request(body: bytes) -> ChatRequest:
    """A request body to canonical. Raises InvalidRequest naming the field."""
    wire = decode(body, _BODY, ChatBody)
    return _request(wire, _unknown_fields(body, wire))


def _unknown_fields(body: bytes, wire: ChatBody) -> tuple[str, ...]:
    known = FIELDS if wire.messages is None else FIELDS - {"prompt", "history"}
    try:
        given = [key for key, value in _KEYS.decode(body).items() if bytes(value) != b"null"]
    except msgspec.DecodeError:  # the typed decoding needed its second look too
        given = [key for key, value in loads(body.removeprefix(BOM)).items() if value is not None]
    return tuple(key[:64] for key in given if key not in known)


def _request(wire: ChatBody, unknown: tuple[str, ...]) -> ChatRequest:
    legacy = wire.functions is not None
    tools = _tools(wire.tools or (), "tools")
    if legacy and not tools:
        tools = tuple(_tool(function, f"functions[{i}]") for i, function in enumerate(wire.functions or ()))
    choice, tools = _tool_choice(wire, tools)
    _refuse_audio(wire)
    limit = "max_completion_tokens" if wire.max_completion_tokens is not None else "max_tokens"
    return ChatRequest(
        model=_model(wire),
        messages=_messages(wire),
        stream=bool(wire.stream),
        include_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        max_tokens=whole(getattr(wire, limit), limit, 1, _NEVER),
        temperature=in_range(wire.temperature, "temperature", 0, 2),
        top_p=in_range(wire.top_p, "top_p", 0, 1),
        top_k=whole(wire.top_k, "top_k", -1, _NEVER) if wire.top_k and wire.top_k > 0 else None,
        min_p=in_range(wire.min_p, "min_p", 0, 1),
        seed=whole(wire.seed, "seed", -_INT64, _INT64 - 1),
        frequency_penalty=in_range(wire.frequency_penalty, "frequency_penalty", -2, 2),
        presence_penalty=in_range(wire.presence_penalty, "presence_penalty", -2, 2),
        repetition_penalty=in_range(wire.repetition_penalty, "repetition_penalty", 0, 100),
        stop=_stop(wire.stop),
        n=_n(wire),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=wire.parallel_tool_calls,
        legacy_functions=legacy and not wire.tools,
        response_format=_response_format(wire.response_format),
        logprobs=bool(wire.logprobs),
        top_logprobs=_top_logprobs(wire),
        logit_bias=_logit_bias(wire),
        reasoning_effort=_reasoning_effort(wire),
        chat_template_kwargs=wire.chat_template_kwargs or None,
        lora=wire.lora,
        reject_if_busy=bool(wire.options and wire.options.rejectIfBusy),
        affinity=wire.prompt_cache_key or wire.user,
        unsupported=tuple(name for name in ("verbosity", "web_search_options") if getattr(wire, name) is not None),
        unknown=unknown,
    )


def _model(wire: ChatBody) -> str:
    if wire.model is not None and wire.model.strip():
        return wire.model
    if wire.model is None and wire.messages is None and wire.prompt is not None:
        return OLD_FORM_MODEL
    raise InvalidRequest("You must provide a model parameter.", param="model", code="missing_required_parameter")


def _n(wire: ChatBody) -> int:
    n = whole(wire.n, "n", 1, 128) or 1
    if n > 1 and wire.stream:
        raise InvalidRequest("A stream carries one answer: 'n' must be 1 when 'stream' is true.", param="n")
    return n


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > 4:
        raise InvalidRequest(
            f"Invalid 'stop': array too long. Expected at most 4 items, but got {len(stops)} instead.",
            param="stop",
            code="array_above_max_length",
        )
    return tuple(text for text in stops if text)


def _top_logprobs(wire: ChatBody) -> int | None:
    count = whole(wire.top_logprobs, "top_logprobs", 0, 20)
    if count and not wire.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    return count


def _logit_bias(wire: ChatBody) -> dict[str, float] | None:
    for token, bias in (wire.logit_bias or {}).items():
        in_range(bias, f"logit_bias.{token[:32]}", -100, 100)
    return wire.logit_bias or None


def _reasoning_effort(wire: ChatBody) -> str | None:
    if wire.reasoning_effort is not None:
        return wire.reasoning_effort
    effort = (wire.reasoning or {}).get("effort")
    if effort is not None and not isinstance(effort, str):
        raise InvalidRequest(
            "Invalid type for 'reasoning.effort': expected a string.", param="reasoning.effort", code="invalid_type"
        )
    return effort


def _refuse_audio(wire: ChatBody) -> None:
    if wire.modalities and "audio" in wire.modalities:
        raise InvalidRequest("Only the modality 'text' is available for chat.", param="modalities")


def _response_format(wire: ResponseFormat | None) -> JsonFormat | None:
    if wire is None or wire.type == "text":
        return None
    if wire.type == "json_object":
        return JsonFormat()
    if wire.type != "json_schema":
        raise InvalidRequest(
            "Invalid value for 'response_format.type': supported values are 'text', 'json_object' and 'json_schema'.",
            param="response_format.type",
        )
    body = wire.json_schema
    if not body:
        raise InvalidRequest(
            "Missing required parameter: 'response_format.json_schema'.",
            param="response_format.json_schema",
            code="missing_required_parameter",
        )
    # Cloudflare's own documentation puts the bare schema here; OpenAI's has it one level down.
    schema = body.get("schema", body if "name" not in body else None)
    if not isinstance(schema, dict):
        raise InvalidRequest(
            "Invalid 'response_format.json_schema.schema': expected a JSON Schema object.",
            param="response_format.json_schema.schema",
            code="missing_required_parameter" if schema is None else "invalid_type",
        )
    if schema is body:
        return JsonFormat(schema=schema)
    name, strict = body.get("name"), body.get("strict")
    return JsonFormat(
        name=name if isinstance(name, str) else None, schema=schema, strict=strict if isinstance(strict, bool) else None
    )


# ---------------------------------------------------------------- tools


def _tools(wire: Sequence[FunctionTool], at: str) -> tuple[Tool, ...]:
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
        tools.append(_tool(tool.function, f"{at}[{i}].function"))
    return tuple(tools)


def _tool(function: Function, at: str) -> Tool:
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


def _tool_choice(wire: ChatBody, tools: tuple[Tool, ...]) -> tuple[_Choice, tuple[Tool, ...]]:
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


# ---------------------------------------------------------------- messages


def _messages(wire: ChatBody) -> tuple[Message, ...]:
    if wire.messages is not None:
        if not wire.messages:
            raise InvalidRequest(
                "Invalid 'messages': empty array. Expected an array with minimum length 1.",
                param="messages",
                code="empty_array",
            )
        return _turns(wire.messages)
    if wire.prompt is not None:
        turns = [*(wire.history or ()), OldTurn(role="user", content=wire.prompt)]
        return tuple(
            Message(role=_role(turn.role, f"history[{i}].role"), content=turn.content or "")
            for i, turn in enumerate(turns)
        )
    raise InvalidRequest("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter")


def _turns(wire: Sequence[ChatMessage]) -> tuple[Message, ...]:
    turns = []
    last_function_id: str | None = None
    for i, message in enumerate(wire):
        turn = _turn(message, i, last_function_id)
        if message.function_call is not None:
            last_function_id = turn.tool_calls[-1].id
        turns.append(turn)
    return tuple(turns)


def _role(role: str, at: str) -> Role:
    if role not in _ROLES:
        raise InvalidRequest(
            f"Invalid value for '{at}': supported values are 'system', 'developer', 'user', 'assistant' and 'tool'.",
            param=at,
        )
    return _ROLES[role]


def _turn(message: ChatMessage, i: int, last_function_id: str | None) -> Message:
    at = f"messages[{i}]"
    role = _role(message.role, f"{at}.role")
    calls = tuple(_call(call) for call in message.tool_calls or ())
    if message.function_call is not None:
        calls += (_call(Call(function=message.function_call, id=f"call_function_{i}")),)
    if message.content is None and role != "assistant":
        raise InvalidRequest(
            f"Invalid value for '{at}.content': expected a string, got null.",
            param=f"{at}.content",
            code="invalid_type",
        )
    tool_call_id = message.tool_call_id
    if role == "tool" and tool_call_id is None:
        tool_call_id = last_function_id if message.role == "function" else None
        if tool_call_id is None:
            raise InvalidRequest(
                f"Missing required parameter: '{at}.tool_call_id'.",
                param=f"{at}.tool_call_id",
                code="missing_required_parameter",
            )
    reasoning = message.reasoning_content or (message.reasoning if isinstance(message.reasoning, str) else "")
    return Message(
        role=role,
        content=_content(message.content, f"{at}.content", role),
        name=message.name,
        tool_calls=calls,
        tool_call_id=tool_call_id,
        reasoning=reasoning or "",
    )


def _call(call: Call) -> ToolCall:
    return ToolCall(id=call.id, name=call.function.name, arguments=_arguments(call.function))


def _arguments(function: CallFunction) -> str:
    arguments = function.arguments
    return arguments or "{}" if isinstance(arguments, str | None) else dump_text(arguments)


def _content(content: str | list[Content] | None, at: str, role: Role) -> str | tuple[TextPart | ImagePart, ...]:
    """Text parts joined, as no native model takes them apart; a tuple only where an image is among them."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = tuple(_part(part, f"{at}[{i}]", role) for i, part in enumerate(content))
    if any(isinstance(part, ImagePart) for part in parts):
        return parts
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _part(part: Content, at: str, role: Role) -> TextPart | ImagePart:
    match part:
        case TextContent():
            return TextPart(part.text)
        case RefusalContent():
            return TextPart(part.refusal)
        case ImageContent():
            if role != "user":
                raise InvalidRequest(f"Invalid '{at}': images are only allowed in user messages.", param=at)
            image = part.image_url
            url, detail = (image, None) if isinstance(image, str) else (image.url, image.detail)
            if not url.startswith(("data:", "https://", "http://")):
                at = f"{at}.image_url"
                raise InvalidRequest(f"Invalid '{at}': expected a data URI or an address.", param=at)
            return ImagePart(url, detail)
        case AudioContent():
            kind = "input_audio"
        case FileContent():
            kind = "file"
    raise InvalidRequest(f"Invalid '{at}.type': no chat model here takes '{kind}'.", param=f"{at}.type")


# ---------------------------------------------------------------- answers


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


# ---------------------------------------------------------------- streams

MAX_LINE = 60 * 1024  # bytes of a member; some readers refuse lines past 64 KiB


class ChatStreamEncoder:
    """Events to OpenAI's chunks.

    One id, one `created`, one model; the role once; `choices` in every chunk; a call's id, type and
    name in its first piece only. All of it is constant but for the delta, so a chunk is three pieces
    of bytes joined.
    """

    media_type = b"text/event-stream; charset=utf-8"

    def __init__(self, request: ChatRequest, stamp: Stamp) -> None:
        self._request = request
        self._stamp = stamp
        head = {
            "id": stamp.id,
            "object": "chat.completion.chunk",
            "created": stamp.created,
            "model": stamp.model,
            "system_fingerprint": stamp.fingerprint,
        }
        self._frame = b"data: " + encode(head)[:-1]
        usage = b',"usage":null' if request.include_usage else b""
        self._end = b"}]" + usage + b"}\n\n"
        self._head = self._frame + b',"choices":[{"index":0,"delta":'
        self._tail = b',"logprobs":null,"finish_reason":null' + self._end
        self._text_head = self._head + b'{"content":'
        self._text_tail = b"}" + self._tail

    def start(self) -> bytes:
        """The chunk that names the role."""
        return self._head + b'{"role":"assistant","content":""}' + self._tail

    def keep_alive(self) -> bytes:
        """A chunk that says nothing; every client tested accepts one, before the role chunk too."""
        return self._head + b"{}" + self._tail

    def encode(self, events: Sequence[ChatEvent]) -> bytes:
        """The frames of a batch. `Finish` brings the usage, if asked for, and the terminator."""
        frames = []
        for event in events:
            if isinstance(event, Finish):
                frames.append(self._finish(event))
            elif event.reasoning or event.tool_calls or event.logprobs is not None:
                frames.append(self._delta(event))
            else:
                text = encode(event.text)
                if len(text) > MAX_LINE:
                    frames.append(self._delta(event))
                else:
                    frames.append(self._text_head + text + self._text_tail)
        return b"".join(frames)

    def error(self, body: bytes) -> bytes:
        """The frame that ends a stream which failed; nothing may follow it."""
        return sse.dump_data(body)

    def _finish(self, event: Finish) -> bytes:
        reason: str = event.reason or "stop"
        if self._request.legacy_functions and reason == "tool_calls":
            reason = "function_call"
        frame = self._head + b'{},"logprobs":null,"finish_reason":' + encode(reason) + self._end
        if self._request.include_usage:
            usage = encode(dump_usage(event.usage or Usage(estimated=True)))
            frame += self._frame + b',"choices":[],"usage":' + usage + b"}\n\n"
        return frame + sse.dump_data(sse.DONE)

    def _delta(self, delta: Delta) -> bytes:
        pieces = [delta] if _size(delta) <= MAX_LINE else split_delta(delta)
        return b"".join(self._chunk(piece) for piece in pieces)

    def _chunk(self, delta: Delta) -> bytes:
        wire: dict[str, Any] = {}
        if delta.reasoning:
            wire["reasoning_content"] = delta.reasoning
        if delta.text or not (delta.reasoning or delta.tool_calls):
            wire["content"] = delta.text
        if delta.tool_calls and self._request.legacy_functions:
            wire["function_call"] = self._function_call(delta.tool_calls)
        elif delta.tool_calls:
            wire["tool_calls"] = [self._tool_call(call) for call in delta.tool_calls]
        if delta.logprobs is None:
            return self._head + encode(wire) + self._tail
        logprobs = encode({"content": delta.logprobs, "refusal": None})
        return self._head + encode(wire) + b',"logprobs":' + logprobs + b',"finish_reason":null' + self._end

    def _tool_call(self, call: ToolCallDelta) -> dict[str, Any]:
        if call.name is None:
            return {"index": call.index, "function": {"arguments": call.arguments}}
        return {
            "index": call.index,
            "id": call.id or self._stamp.call_id(call.index),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }

    @staticmethod
    def _function_call(calls: Sequence[ToolCallDelta]) -> dict[str, str]:
        first = [call for call in calls if call.index == 0]
        wire = {"arguments": "".join(call.arguments for call in first)}
        name = next((call.name for call in first if call.name is not None), None)
        return wire if name is None else {"name": name, **wire}


_CALL_FRAME = 200  # bytes around a call's name and arguments, its id among them


def _size(delta: Delta) -> int:
    """An upper bound of the bytes of the delta once it is JSON."""
    size = len(encode(delta.text)) + len(encode(delta.reasoning))
    for call in delta.tool_calls:
        size += len(encode(call.arguments)) + len(encode(call.name)) + len(encode(call.id)) + _CALL_FRAME
    return size if delta.logprobs is None else size + len(encode(delta.logprobs))


def split_delta(delta: Delta) -> list[Delta]:
    """A delta too long for one line as several; a call keeps its id and name in its first piece."""
    pieces = [Delta(reasoning=part) for part in _split_text(delta.reasoning)]
    if delta.logprobs is None:
        texts = [Delta(text=part) for part in _split_text(delta.text)]
    else:
        texts = _split_logprobs(delta.text, delta.logprobs)
    for call in delta.tool_calls:
        name, id_ = call.name, call.id
        for part in _split_text(call.arguments) or [""]:
            texts.append(Delta(tool_calls=(ToolCallDelta(call.index, id_, name, part),)))
            name = id_ = None
    return pieces + texts


def _split_logprobs(text: str, entries: list[Any]) -> list[Delta]:
    """Text and the entries of its tokens. They part together where the tokens spell the text."""
    runs = _split_entries(entries)
    spelled = ["".join(map(_token, run)) for run in runs]
    if "".join(spelled) == text:
        return [Delta(part, logprobs=run) for part, run in zip(spelled, runs, strict=True)]
    return [*(Delta(text=part) for part in _split_text(text)), *(Delta(logprobs=run) for run in runs)]


def _token(entry: Any) -> str:
    token = entry.get("token") if isinstance(entry, dict) else None
    return token if isinstance(token, str) else ""


def _split_entries(entries: list[Any]) -> list[list[Any]]:
    # Half a line each: the text that they spell stands in the same line.
    if len(entries) < 2 or len(encode(entries)) <= MAX_LINE // 2:
        return [entries]
    middle = len(entries) // 2
    return _split_entries(entries[:middle]) + _split_entries(entries[middle:])


def _split_text(text: str) -> list[str]:
    if not text:
        return []
    if len(encode(text)) <= MAX_LINE:
        return [text]
    middle = len(text) // 2
    return _split_text(text[:middle]) + _split_text(text[middle:])
