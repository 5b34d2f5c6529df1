"""What the engines are asked for their recordings: tables by the name of the recording."""

from __future__ import annotations

from typing import Any, NamedTuple

CHAT = "/v1/chat/completions"
KEY = "sk-key-of-the-engine"
QUESTION = {"role": "user", "content": "How warm is it in Oslo?"}
PLAIN: dict[str, Any] = {"model": "tiny", "messages": [QUESTION], "temperature": 0}
USAGE = {"stream_options": {"include_usage": True}}
TOOLS = {
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather of a city",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                    "required": ["city"],
                },
            },
        }
    ]
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Bergen"]}, "warm": {"type": "boolean"}},
    "required": ["city", "warm"],
    "additionalProperties": False,
}
ARGUMENTS = '{"city": "Oslo", "days": 2}'
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "7 degrees"}
LONG = "How warm is it in Oslo? " * 40  # more than 512 tokens, and more than a slot of 1024 with the other turns
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
PICTURE = f"data:image/png;base64,{PIXEL}"


class Ask(NamedTuple):
    """One request: a GET unless it has a body."""

    path: str
    body: Any = None
    key: str | None = None

    @classmethod
    def chat(cls, body: Any, key: str | None = None) -> Ask:
        return cls(CHAT, body, key)


def _chat(*turns: dict[str, Any], **fields: Any) -> Ask:
    return Ask.chat({**PLAIN, "messages": list(turns) or [QUESTION], **fields})


ENDLESSLY = _chat(stream=True, max_tokens=16000)
"""Asked of the model `endless`: longer than anybody waits."""

BOTH: dict[str, Ask] = {
    "chat": _chat(max_tokens=100),
    "stream": _chat(max_tokens=100, stream=True),
    "system": _chat({"role": "system", "content": "Be brief."}, QUESTION, max_tokens=100),
    "tools": _chat(max_tokens=1000, **TOOLS),
    "tool-turns": _chat(QUESTION, CALLED, RESULT, max_tokens=1000, **TOOLS),
    "null-content": _chat({"role": "user", "content": None}),
    "no-messages": Ask.chat({**PLAIN, "messages": []}),
    "messages-missing": Ask.chat({"model": "tiny"}),
    "unknown-model": Ask.chat({**PLAIN, "model": "no-such-model", "max_tokens": 100}),
    "stop": _chat(max_tokens=100, stop=[" mild"]),
    "two-answers": _chat(max_tokens=100, n=2),
    "logprobs": _chat(max_tokens=100, logprobs=True, top_logprobs=2, stop=[" in"]),
    "schema": _chat(
        max_tokens=100,
        response_format={"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA, "strict": True}},
    ),
    "max-tokens-zero-stream": _chat(max_tokens=0, stream=True),
    "max-tokens-null": _chat(max_tokens=None),
    "temperature-5": _chat(temperature=5, max_tokens=100),
    "temperature-text": _chat(temperature="hot"),
    "picture": _chat(
        {
            "role": "user",
            "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
        }
    ),
    "parts": _chat({"role": "user", "content": [{"type": "text", "text": "What?"}]}, max_tokens=100),
    "not-json": Ask.chat(b"{oops\n"),
    "embeddings-off": Ask("/v1/embeddings", {"model": "tiny", "input": "Oslo"}),
    "models": Ask("/v1/models"),
    "health": Ask("/health"),
    "no-such-path": Ask("/v1/no-such-path"),
}

CHATGLM: dict[str, dict[str, Ask]] = {
    "talker": {
        **BOTH,
        "stream-usage": _chat(max_tokens=100, stream=True, **USAGE),
        "long-prompt": _chat({"role": "user", "content": LONG}, max_tokens=600),
        "prompt-over-limit": _chat(max_tokens=5),
        "prompt-over-limit-stream": _chat(max_tokens=5, stream=True),
        "limit-over-context": _chat(max_tokens=100_000),
    },
    "caller": {
        "call": _chat(max_tokens=700, **TOOLS),
        "call-stream": _chat(max_tokens=700, stream=True, **TOOLS),
        "call-cut": _chat(max_tokens=515, **TOOLS),
    },
    "rambling-caller": {"call-unreadable": _chat(max_tokens=700, **TOOLS)},
}
"""By model."""

SMALLEST: dict[str, Ask] = {"max-tokens-zero": _chat(max_tokens=0), "max-tokens-one": _chat(max_tokens=1)}
BEYOND: dict[str, Ask] = {
    "beyond-max-length": _chat(max_tokens=100),
    "beyond-max-length-stream": _chat(max_tokens=100, stream=True),
}
FATAL: dict[tuple[str, int], dict[str, Ask]] = {("talker", 4096): SMALLEST, ("endless", 40): BEYOND}
"""By model and `MAX_LENGTH`: what ends chatglm.cpp's process."""

LLAMA_OPTIONS: dict[str, tuple[str, ...]] = {
    "talker": ("talker", "--metrics"),
    "caller": ("caller",),
    "thinker": ("thinker",),
    "embedder": ("talker", "--embeddings", "--pooling", "mean"),
    "with a key": ("talker", "--api-key", KEY),
    "closed": ("talker", "--no-slots"),
}
"""By group: the model, and the server's options."""

LLAMA: dict[str, dict[str, Ask]] = {
    "talker": {
        **BOTH,
        **SMALLEST,
        "stream-usage": _chat(max_tokens=100, stream=True, **USAGE),
        "chat-limit": _chat(max_tokens=4),
        "stream-limit": _chat(max_tokens=4, stream=True, **USAGE),
        "stop-stream": _chat(max_tokens=100, stop=[" mild"], stream=True, **USAGE),
        "two-answers-stream": _chat(max_tokens=3, n=2, stream=True, **USAGE),
        "logprobs-stream": _chat(max_tokens=2, logprobs=True, top_logprobs=2, stream=True, **USAGE),
        "schema-stream": _chat(
            max_tokens=100,
            stream=True,
            response_format={"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA}},
            **USAGE,
        ),
        "schema-broken": _chat(
            response_format={"type": "json_schema", "json_schema": {"name": "w", "schema": {"type": "nothing"}}}
        ),
        "seed-too-large": _chat(max_tokens=3, seed=2**40),
        "prompt-over-context": _chat({"role": "user", "content": LONG * 2}),
        "prompt-over-context-stream": _chat({"role": "user", "content": LONG * 2}, stream=True),
        "logprobs-alone": _chat(max_tokens=2, logprobs=True),
        "logprobs-tools-stream": _chat(max_tokens=2, logprobs=True, top_logprobs=1, stream=True, **TOOLS),
        "tool-choice-named": _chat(
            max_tokens=1000, **TOOLS, tool_choice={"type": "function", "function": {"name": "get_weather"}}
        ),
        "tool-choice-none": _chat(max_tokens=1000, **TOOLS, tool_choice="none"),
    },
    "caller": {
        "call": _chat(max_tokens=100, **TOOLS),
        "call-stream": _chat(max_tokens=100, stream=True, **TOOLS, **USAGE),
        "call-required": _chat(max_tokens=100, **TOOLS, tool_choice="required"),
        "call-cut": _chat(max_tokens=7, **TOOLS),
    },
    "thinker": {
        "thought": _chat(max_tokens=100),
        "thought-stream": _chat(max_tokens=100, stream=True, **USAGE),
        "effort": _chat(max_tokens=100, reasoning_effort="low"),
    },
    "embedder": {
        "embeddings": Ask("/v1/embeddings", {"model": "tiny", "input": ["Oslo", "Bergen"], "encoding_format": "float"}),
        "embeddings-over-context": Ask("/v1/embeddings", {"model": "tiny", "input": LONG * 4}),
        "chat-of-embedder": _chat(),
    },
    "with a key": {
        "key-missing": _chat(),
        "key-wrong": Ask.chat(PLAIN, "sk-wrong"),
        "key-right": Ask.chat({**PLAIN, "max_tokens": 3}, KEY),
        "key-missing-health": Ask("/health"),
        "key-missing-models": Ask("/v1/models"),
        "key-missing-slots": Ask("/slots"),
    },
    "closed": {"slots-off": Ask("/slots"), "metrics-off": Ask("/metrics")},
}
"""By group."""

STATES: dict[str, Ask] = {
    "health": Ask("/health"),
    "slots": Ask("/slots"),
    "metrics": Ask("/metrics"),
    "props": Ask("/props"),
}
"""What llama-server tells of itself."""
