"""A canonical conversation as chat templates read it: plain JSON values under the names that transformers documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from adapters.canonical import ImagePart, Message, TextPart, Tool, ToolCall
from adapters.errors import InvalidRequest
from adapters.local.serving.turns import Thought
from adapters.wire.json_text import NotJson, dump_text, loads
from adapters.wire.think import ThinkSplitter


def dump_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """As JSON Schemas in OpenAI's envelope, which templates expect."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in tools
    ]


def check_parts(messages: Sequence[Message]) -> None:
    """Raises InvalidRequest for images."""
    for i, message in enumerate(messages):
        for j, part in enumerate(message.content if isinstance(message.content, tuple) else ()):
            if isinstance(part, ImagePart):
                at = f"messages[{i}].content[{j}]"
                raise InvalidRequest(f"Invalid '{at}': this engine reads text alone, no images.", param=at)


def dump_messages(
    messages: Sequence[Message], thought: Thought | None, *, text_arguments: bool = False
) -> list[dict[str, Any]]:
    """The turns, without images. A thought that still stands in an earlier answer's text becomes its reasoning.

    Arguments of calls are objects where they can be, or always JSON text.
    """
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    arguments = str if text_arguments else _arguments
    return [_dump_message(message, thought, names, arguments) for message in messages]


def _dump_message(
    message: Message, thought: Thought | None, names: dict[str | None, str], arguments: Callable[[str], Any]
) -> dict[str, Any]:
    content, reasoning = _text(message), message.reasoning
    if message.role == "assistant" and thought is not None and not reasoning:
        reasoning, content = _split(content, thought)
    turn: dict[str, Any] = {"role": message.role, "content": content}
    if reasoning:
        turn["reasoning_content"] = reasoning
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        turn["tool_call_id"] = message.tool_call_id
        turn["name"] = message.name or names.get(message.tool_call_id)
    elif message.name:
        turn["name"] = message.name
    return {key: value for key, value in turn.items() if value is not None}


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def _split(content: str, thought: Thought) -> tuple[str, str]:
    splitter = ThinkSplitter(thought.open, thought.close)
    deltas = [*splitter.feed(content), *splitter.close()]
    return "".join(delta.reasoning for delta in deltas), "".join(delta.text for delta in deltas)


def _arguments(text: str) -> Any:
    """Templates want objects; what is none is passed on as the text it was."""
    try:
        value = loads(text.encode())
    except NotJson:
        return text
    return value if isinstance(value, dict) else text


def renumbered(messages: Sequence[Message]) -> list[Message]:
    """The turns with ids of nine digits, which is all that Mistral's templates take."""
    ids: dict[str | None, str] = {}

    def nine(id: str | None) -> str:
        return ids.setdefault(id, f"{len(ids):09d}")

    return [
        msgspec.structs.replace(
            message,
            tool_calls=tuple(ToolCall(nine(call.id), call.name, call.arguments) for call in message.tool_calls),
            tool_call_id=nine(message.tool_call_id) if message.role == "tool" else None,
        )
        for message in messages
    ]


def one_call_each(messages: Sequence[Message]) -> list[Message]:
    """The turns with each call in one of its own, before its result, for templates that take one call a turn.

    Text and reasoning stay with the first.
    """
    turns: list[Message] = []
    at = 0
    while at < len(messages):
        turn = messages[at]
        at += 1
        turns.append(turn)
        if len(turn.tool_calls) < 2:
            continue
        end = next((i for i in range(at, len(messages)) if messages[i].role != "tool"), len(messages))
        results: dict[str | None, list[Message]] = {}
        for result in messages[at:end]:
            results.setdefault(result.tool_call_id, []).append(result)
        turns.pop()
        for call in turn.tool_calls:
            turns += [msgspec.structs.replace(turn, tool_calls=(call,)), *results.pop(call.id, ())]
            turn = Message(role="assistant")
        turns += [result for left in results.values() for result in left]
        at = end
    return turns


def in_one_voice(messages: Sequence[Message]) -> list[Message]:
    """For templates that take either reasoning or text beside a call: both as reasoning."""
    return [
        msgspec.structs.replace(message, content="", reasoning=f"{message.reasoning}\n\n{_text(message)}")
        if message.tool_calls and message.reasoning and message.content
        else message
        for message in messages
    ]


def with_tools_told(messages: list[dict[str, Any]], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """For templates that read tools, as JSON text, from the system's turn: Phi-4-mini's."""
    told = dump_text([tool["function"] for tool in dump_tools(tools)])
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "tools": told}, *messages[1:]]
    return [{"role": "system", "content": "", "tools": told}, *messages]
