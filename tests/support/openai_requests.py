"""Bodies of chat requests in OpenAI's form, and how they are read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.canonical import ChatRequest, Tool
from adapters.errors import Fault, InvalidRequest
from adapters.wire.openai_request import parse_chat_request

USER = {"role": "user", "content": "Hi"}
FUNCTION: dict[str, Any] = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
PARSED_TOOL = Tool(name="f", description="d", parameters={"type": "object", "properties": {}})


def parse(**fields: Any) -> ChatRequest:
    """A request with these fields; the model and one message are there unless said otherwise."""
    body = {"model": "m", "messages": [USER], **fields}
    return parse_chat_request(json.dumps({key: value for key, value in body.items() if value is not ...}).encode())


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert caught.value.fault is Fault.INVALID_VALUE
    return caught.value
