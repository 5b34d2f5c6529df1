"""OpenAI's chat completions as a dialect: what a chat endpoint asks of one, each from the file that does it."""

from __future__ import annotations

from adapters.wire.openai_answer import Stamp, dump_chat_result, dump_usage
from adapters.wire.openai_request import OLD_FORM_MODEL, parse_chat_request
from adapters.wire.openai_stream import MAX_LINE, ChatStreamEncoder

__all__ = [
    "MAX_LINE",
    "OLD_FORM_MODEL",
    "ChatStreamEncoder",
    "Stamp",
    "dump_chat_result",
    "dump_usage",
    "parse_chat_request",
]
