"""The messages of a chat request, to canonical."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.canonical import (
    ImagePart,
    Message,
    Role,
    TextPart,
    ToolCall,
)
from adapters.errors import InvalidRequest
from adapters.wire.json_text import dump_text
from adapters.wire.openai_types import (
    AudioContent,
    Call,
    CallFunction,
    ChatBody,
    ChatMessage,
    Content,
    FileContent,
    ImageContent,
    OldTurn,
    RefusalContent,
    TextContent,
)

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def read_messages(wire: ChatBody) -> tuple[Message, ...]:
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
