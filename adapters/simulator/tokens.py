"""The simulator's tokens: about as long as real ones, always the same, and they join to the text again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from adapters.canonical import ChatRequest, ImagePart, Message, TextPart, Usage

# Up to six letters with the space before them, two characters of other scripts, or one sign.
_TOKEN = re.compile(r" ?[A-Za-z0-9_]{1,6}|\s{1,16}|\w{1,2}|[^\w\s]")
_COUNTED = 65_536
"""Characters that are really counted: a longer text must not hold up the event loop."""

_LONGEST = 16
"""Characters of the longest token."""

PER_MESSAGE = 4
PER_ANSWER = 3
PER_IMAGE = 85


def split(text: str) -> list[str]:
    """The tokens of a text; `"".join(split(text)) == text`."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """How many tokens a text has; the part past 65,536 characters is taken to be like the part before."""
    head = len(_TOKEN.findall(text[:_COUNTED]))
    return head if len(text) <= _COUNTED else head * len(text) // _COUNTED


def cut(text: str, limit: int) -> str:
    """The first `limit` tokens of a text; only what can hold them is looked at."""
    return "".join(_TOKEN.findall(text[: limit * _LONGEST])[:limit])


def usage_of(*read: str | None, written: str = "") -> Usage:
    """What reading these texts and writing that one costs."""
    return Usage(prompt_tokens=sum(count(text) for text in read if text), completion_tokens=count(written))


def count_prompt(request: ChatRequest) -> int:
    """Tokens of all that a model would have read: turns, images, tools and the wanted schema."""
    total = PER_ANSWER + sum(_count_message(message) for message in request.messages)
    for tool in request.tools:
        total += count(tool.name) + count(tool.description) + _count_json(tool.parameters)
    if request.response_format is not None and request.response_format.schema is not None:
        total += _count_json(request.response_format.schema)
    return total


def _count_message(message: Message) -> int:
    total = PER_MESSAGE + count(message.name or "") + count(message.reasoning)
    for part in parts(message):
        total += PER_IMAGE if isinstance(part, ImagePart) else count(part.text)
    return total + sum(count(call.name) + count(call.arguments) for call in message.tool_calls)


def _count_json(value: Any) -> int:
    return count(json.dumps(value))


def parts(message: Message) -> Iterable[TextPart | ImagePart]:
    return (TextPart(message.content),) if isinstance(message.content, str) else message.content


def text_of(message: Message) -> str:
    """The text of a message, without its images."""
    return "".join(part.text for part in parts(message) if isinstance(part, TextPart))
