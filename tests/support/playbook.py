"""Three scripted models that can do all that a client asks for: one in each of Cloudflare's shapes, and chatglm.cpp's.

Asked plainly they say "Hello there"; given a tool they call it, and answer once its result is there; asked
for JSON they give `{"city": "Oslo", "degrees": 7}`.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.types import Send

from tests.support.cloudflare import USAGE, Asked, answer, frames, result, stream
from tests.support.engine_wires import by_stream, chatglm_stream, chatglm_whole

WEATHER: dict[str, Any] = {"city": "Oslo", "degrees": 7}
ARGUMENTS = {"city": "Oslo"}
SENTENCE = "It is 7 degrees in Oslo."


async def classic(asked: Asked, send: Send) -> None:
    """The older shape: `response`, flat calls, JSON mode answered by the instance itself."""
    body = asked.json
    script = _classic_stream(body) if body["stream"] else result(_classic_result(body))
    await script(asked, send)


async def openai_shaped(asked: Asked, send: Send) -> None:
    """OpenAI's shape, with the habits of 2026: usage on every chunk, a classic tail frame."""
    body = asked.json
    script = _chunks(body) if body["stream"] else result(_completion(body))
    await script(asked, send)


def _called(body: dict[str, Any]) -> str | None:
    """The tool that is to be called now."""
    if not body.get("tools") or body["messages"][-1]["role"] == "tool" or body.get("tool_choice") == "none":
        return None
    name: str = body["tools"][0]["function"]["name"]
    return name


def _words(body: dict[str, Any]) -> list[str]:
    return ["It is 7 ", "degrees in Oslo."] if body["messages"][-1]["role"] == "tool" else ["Hello", " there"]


def _classic_result(body: dict[str, Any]) -> dict[str, Any]:
    if name := _called(body):
        return {"response": None, "tool_calls": [{"name": name, "arguments": ARGUMENTS}], "usage": USAGE}
    if "response_format" in body:
        return {"response": WEATHER, "usage": USAGE}
    return {"response": "".join(_words(body)), "tool_calls": [], "usage": USAGE}


def _classic_stream(body: dict[str, Any]) -> Any:
    tail = frames({"response": "", "usage": USAGE, "p": "ab"}, "[DONE]")
    name = _called(body)
    if name is None:
        return stream(*(frames({"response": word, "p": "abc"}) for word in _words(body)), tail)
    arguments = json.dumps(ARGUMENTS)
    calls = [
        {"id": "call_1", "type": "function", "index": 0, "function": {"name": name}},
        {"index": 0, "function": {"arguments": arguments[:6]}},
        {"index": 0, "function": {"arguments": arguments[6:]}},
        {"id": None, "type": None, "index": 0, "function": {"name": None, "arguments": ""}},
    ]
    pieces = [frames({"tool_calls": [call], "p": "abcd"}) for call in calls]
    return stream(*pieces, frames({"finish_reason": "tool_calls"}), tail)


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(_words(body)), "reasoning_content": None}
    reason = "stop"
    if name := _called(body):
        function = {"name": name, "arguments": json.dumps(ARGUMENTS)}
        message |= {
            "content": None,
            "tool_calls": [{"id": f"functions.{name}:0", "type": "function", "function": function}],
        }
        reason = "tool_calls"
    elif "response_format" in body:
        message["content"] = json.dumps(WEATHER)
    return {
        "id": "4bb2",
        "object": "chat.completion",
        "created": 1791402397,
        "model": "@cf/qwen/qwen3-30b-a3b-fp8-external",
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": USAGE,
    }


def _chunks(body: dict[str, Any]) -> Any:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "reasoning_content": None}]
    deltas.append({"reasoning_content": "Let me see.", "content": None})
    reason = "stop"
    if name := _called(body):
        function = {"name": name, "arguments": json.dumps(ARGUMENTS)}
        deltas.append(
            {"tool_calls": [{"id": f"functions.{name}:0", "type": "function", "index": 0, "function": function}]}
        )
        reason = "tool_calls"
    else:
        deltas += [{"content": word} for word in _words(body)]
    pieces = [_chunk(delta, None) for delta in deltas]
    tail = frames({"response": "", "usage": USAGE}, "[DONE]")
    return stream(*pieces, _chunk({"reasoning_content": None}, reason), tail)


def _chunk(delta: dict[str, Any], reason: str | None) -> bytes:
    usage = {"prompt_tokens": 0, "completion_tokens": 1, "total_tokens": 1, "neurons": 0.027}
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None, "matched_stop": None}
    return frames({"id": "f96", "object": "chat.completion.chunk", "created": 1, "choices": [choice], "usage": usage})


CALL_TEXT = ("get_weather\n", "```python\ntool_call(ci", "ty='Oslo')\n```")
CALL = {"function": {"arguments": json.dumps(ARGUMENTS), "name": "get_weather"}, "type": "function"}


async def chatglm_cpp(asked: Asked, send: Send) -> None:
    """A model that hears of results and of JSON in words alone; the wire is the one that was recorded."""
    body = asked.json
    heard = json.dumps(body["messages"])
    if body.get("tools") and "7 degrees" not in heard:
        script = by_stream(answer(200, chatglm_whole("", "function_call", [CALL])), stream(*chatglm_stream(*CALL_TEXT)))
    else:
        text = SENTENCE if "7 degrees" in heard else json.dumps(WEATHER) if "JSON" in heard else "Hello there"
        script = by_stream(answer(200, chatglm_whole(text)), stream(*chatglm_stream(text[:3], "", text[3:], "")))
    await script(asked, send)
