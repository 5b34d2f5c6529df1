"""How many tokens a text may be, where nobody counted them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from adapters.canonical import ChatRequest, ImagePart, Message, TextPart
from adapters.wire.json_text import encode

CHARACTERS_PER_TOKEN = 3  # on the high side for English, about right for code and for most other scripts
PER_MESSAGE = 4  # what a chat template puts around a turn
PER_IMAGE = 1024  # tiles of common vision models; the data URI itself is no text


def estimate_text(characters: int) -> int:
    """Tokens of so many characters, rounded up."""
    return math.ceil(characters / CHARACTERS_PER_TOKEN)


def estimate_prompt(request: ChatRequest) -> int:
    """Tokens of everything the model reads: turns, calls, tools and the wanted schema."""
    characters = sum(_characters(message) for message in request.messages)
    characters += sum(len(encode(tool)) for tool in request.tools)
    if request.response_format and request.response_format.schema:
        characters += len(encode(request.response_format.schema))
    images = sum(isinstance(part, ImagePart) for message in request.messages for part in _parts(message))
    return estimate_text(characters) + PER_MESSAGE * len(request.messages) + PER_IMAGE * images


def _characters(message: Message) -> int:
    text = sum(len(part.text) for part in _parts(message) if isinstance(part, TextPart))
    return text + len(message.reasoning) + sum(len(call.name) + len(call.arguments) for call in message.tool_calls)


def _parts(message: Message) -> Iterable[TextPart | ImagePart]:
    return (TextPart(message.content),) if isinstance(message.content, str) else message.content
