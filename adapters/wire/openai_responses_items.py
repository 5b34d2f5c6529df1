"""The input of a request for a response, to canonical messages."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from adapters.canonical import ImagePart, Message, Role, TextPart, ToolCall
from adapters.errors import InvalidRequest
from adapters.wire.openai_responses_types import Item, Part

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_TEXT = frozenset(("input_text", "output_text", "text", "reasoning_text", "summary_text"))


def read_input(value: str | list[Item] | None, instructions: str | None) -> tuple[Message, ...]:
    """The turns, `instructions` put first. Raises InvalidRequest."""
    if value is None:
        raise InvalidRequest("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    head = [Message(role="system", content=instructions)] if instructions else []
    if isinstance(value, str):
        return (*head, Message(role="user", content=value))
    if not value:
        raise InvalidRequest(
            "Invalid 'input': empty array. Expected an array with minimum length 1.", param="input", code="empty_array"
        )
    turns = _Turns()
    for i, item in enumerate(value):
        turns.take(item, f"input[{i}]")
    return (*head, *turns.messages)


class _Turns:
    """Items, one after the other, as turns: calls join the turn of the assistant in which they were made."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._reasoning = ""
        self._calls: set[str] = set()

    def take(self, item: Item, at: str) -> None:
        match item.type or "message":
            case "message":
                self._message(item, at)
            case "function_call":
                self._call(item, at)
            case "function_call_output":
                self._output(item, at)
            case "reasoning":
                self._reasoning += _text(item.content, f"{at}.content") or _text(item.summary, f"{at}.summary")
            case "item_reference":
                raise InvalidRequest(
                    f"Invalid '{at}': no answers are kept here that an item could refer to. Send the item itself.",
                    param=at,
                )
            case _:
                raise InvalidRequest(
                    f"Invalid value for '{at}.type': supported values are 'message', 'function_call', "
                    "'function_call_output' and 'reasoning'.",
                    param=f"{at}.type",
                )

    def _message(self, item: Item, at: str) -> None:
        role = _ROLES.get(item.role or "")
        if role is None:
            raise InvalidRequest(
                f"Invalid value for '{at}.role': supported values are 'system', 'developer', 'user' and 'assistant'.",
                param=f"{at}.role",
                code="invalid_value" if item.role is not None else "missing_required_parameter",
            )
        if item.content is None:
            raise _missing(f"{at}.content")
        content = _content(item.content, f"{at}.content", images=role == "user")
        self.messages.append(
            Message(role=role, content=content, reasoning=self._take_reasoning() if role == "assistant" else "")
        )

    def _call(self, item: Item, at: str) -> None:
        call_id, name = _required(item.call_id, f"{at}.call_id"), _required(item.name, f"{at}.name")
        self._calls.add(call_id)
        call = ToolCall(id=call_id, name=name, arguments=item.arguments or "{}")
        last = self.messages[-1] if self.messages else None
        if last is None or last.role != "assistant":
            last = Message(role="assistant")
            self.messages.append(last)
        self.messages[-1] = msgspec.structs.replace(
            last, tool_calls=(*last.tool_calls, call), reasoning=last.reasoning + self._take_reasoning()
        )

    def _output(self, item: Item, at: str) -> None:
        call_id = _required(item.call_id, f"{at}.call_id")
        if call_id not in self._calls:
            raise InvalidRequest(
                f"Invalid '{at}.call_id': no call of the input before it has this id.", param=f"{at}.call_id"
            )
        if item.output is None:
            raise _missing(f"{at}.output")
        content = _content(item.output, f"{at}.output", images=False)
        self.messages.append(Message(role="tool", content=content, tool_call_id=call_id))

    def _take_reasoning(self) -> str:
        reasoning, self._reasoning = self._reasoning, ""
        return reasoning


def _content(value: str | list[Part], at: str, *, images: bool) -> str | tuple[TextPart | ImagePart, ...]:
    """Text parts joined; a tuple only where an image is among them."""
    if isinstance(value, str):
        return value
    parts = tuple(_part(part, f"{at}[{i}]", images=images) for i, part in enumerate(value))
    if any(isinstance(part, ImagePart) for part in parts):
        return parts
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _part(part: Part, at: str, *, images: bool) -> TextPart | ImagePart:
    if part.type in _TEXT:
        return TextPart(_given(part.text, f"{at}.text"))
    if part.type == "refusal":
        return TextPart(_given(part.refusal, f"{at}.refusal"))
    if part.type != "input_image":
        raise InvalidRequest(
            f"Invalid value for '{at}.type': supported values are 'input_text', 'output_text', 'refusal' and "
            "'input_image'.",
            param=f"{at}.type",
        )
    if not images:
        raise InvalidRequest(f"Invalid '{at}': images are only allowed in user messages.", param=at)
    url = _required(part.image_url, f"{at}.image_url")  # a file's id in its place would need files that are kept
    if not url.startswith(("data:", "https://", "http://")):
        raise InvalidRequest(f"Invalid '{at}.image_url': expected a data URI or an address.", param=f"{at}.image_url")
    return ImagePart(url, part.detail)


def _text(value: str | Sequence[Part] | None, at: str) -> str:
    """The text of a reasoning."""
    if value is None or isinstance(value, str):
        return value or ""
    return "".join(_given(part.text, f"{at}[{i}].text") for i, part in enumerate(value))


def _required(value: str | None, at: str) -> str:
    if not value:
        raise _missing(at)
    return value


def _given(value: str | None, at: str) -> str:
    """As `_required`, for what may be empty."""
    if value is None:
        raise _missing(at)
    return value


def _missing(at: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: '{at}'.", param=at, code="missing_required_parameter")
