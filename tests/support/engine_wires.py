"""Servers that play OpenAI-compatible engines on loopback, each as its own wire was recorded or is documented."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Send

from tests.support.cloudflare import Asked, FakeCloudflare, Script, answer, frames
from tests.support.servers import Served, serving

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
KEY = "sk-key-of-the-engine"


class FakeEngine(FakeCloudflare):
    """The ASGI app. `script(path, ...)` says what a path answers; of several scripts each answers once."""

    def _script(self, asked: Asked) -> Script:
        script = self.scripts.get(asked.path)
        if script is None:
            return answer(404, {"detail": "Not Found"})
        if isinstance(script, deque):
            return script.popleft() if len(script) > 1 else script[0]
        return script


@asynccontextmanager
async def playing(engine: FakeEngine) -> AsyncIterator[Served]:
    """The engine on a free port."""
    async with serving(engine) as served:
        yield served


def by_stream(whole: Script, streamed: Script) -> Script:
    """One of the two, by what was asked for."""

    async def play(asked: Asked, send: Send) -> None:
        await (streamed if asked.json["stream"] else whole)(asked, send)

    return play


def crlf(*values: object) -> bytes:
    """Frames as sse-starlette sends them."""
    return frames(*values).replace(b"\n", b"\r\n")


def chunk(delta: dict[str, Any] | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """One of OpenAI's chunks with all that belongs to it."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1795167460, "model": "M"}
    return {**head, "choices": [choice], **more}


def whole(
    text: str | None, reason: str = "stop", usage: dict[str, Any] | None = None, **message: Any
) -> dict[str, Any]:
    """A `chat.completion`."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1795167460,
        "model": "M",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": reason}
        ],
        "usage": USAGE if usage is None else usage,
    }


USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
PING = b": ping - 2026-11-20 10:00:00.000000+00:00\r\n\r\n"


def chatglm(delta: dict[str, Any], **choice: Any) -> bytes:
    """A frame of chatglm.cpp 0.4.2: CRLF, and nothing in it that was not set."""
    return crlf({"object": "chat.completion.chunk", "choices": [{"delta": delta, **choice}]})


def chatglm_stream(*texts: str) -> list[bytes]:
    """All frames of an answer of chatglm.cpp: no id, no index, no usage, no `[DONE]`."""
    pieces = [chatglm({"content": text}) for text in texts]
    return [chatglm({"role": "assistant"}), PING, *pieces, chatglm({}, finish_reason="stop")]


def chatglm_whole(
    text: str, reason: str = "stop", calls: list[dict[str, Any]] | None = None, **usage: int
) -> dict[str, Any]:
    """A whole answer of chatglm.cpp 0.4.2."""
    counts = {"prompt_tokens": 9, "completion_tokens": 2, **usage}
    message = {"role": "assistant", "content": text, "tool_calls": calls}
    return {
        "id": "chatcmpl",
        "model": "default-model",
        "object": "chat.completion",
        "created": 1795167460,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {**counts, "total_tokens": sum(counts.values())},
    }


OWN = [
    frames(chunk({"role": "assistant", "content": ""}, usage=None), chunk({"content": "Hello"}, usage=None)),
    frames(chunk({"content": " there"}, usage=None)),
    frames(chunk({}, "stop", usage=None), chunk(None, usage=USAGE) | {"choices": []}, "[DONE]"),
]
VLLM = [
    frames(chunk({"role": "assistant", "content": ""})),
    frames(chunk({"content": "Hello"})),
    frames(chunk({"content": " there"})),
    frames(chunk({"content": ""}, "stop", stop_reason=None)),
    frames({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "M", "choices": [], "usage": USAGE}),
    frames("[DONE]"),
]
SGLANG = [
    frames(chunk({"role": "assistant", "content": "", "reasoning_content": None, "tool_calls": None}, usage=None)),
    frames(chunk({"role": None, "content": "Hello", "reasoning_content": None, "tool_calls": None}, usage=None)),
    frames(chunk({"role": None, "content": " there"}, usage=None)),
    frames(chunk({"role": None, "content": None}, "stop", matched_stop=151645)),
    frames({"id": "1", "object": "chat.completion.chunk", "model": "M", "choices": [], "usage": USAGE}),
    frames("[DONE]"),
]
LLAMA_SERVER = [
    frames(chunk({"role": "assistant", "content": None}, system_fingerprint="b1-0c1e570")),
    frames(chunk({"content": "Hello"})),
    frames(chunk({"content": " there"})),
    frames(chunk({}, "stop")),
    frames(
        {
            "choices": [],
            "object": "chat.completion.chunk",
            "usage": USAGE,
            "timings": {"prompt_n": 9, "predicted_n": 2, "predicted_per_second": 901.0},
        }
    ),
    frames("[DONE]"),
]
OLLAMA = [
    frames(chunk({"role": "assistant", "content": "Hello"}, system_fingerprint="fp_ollama")),
    frames(chunk({"role": "assistant", "content": " there"}, system_fingerprint="fp_ollama")),
    frames(chunk({"role": "assistant", "content": ""}, "stop", system_fingerprint="fp_ollama")),
    frames({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}),
    frames("[DONE]"),
]
TRANSFORMERS_SERVE = [
    frames({"id": "r", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}),
    frames({"id": "r", "choices": [{"index": 0, "delta": {"content": "Hello"}}]}),
    frames({"id": "r", "choices": [{"index": 0, "delta": {"content": " there"}}]}),
    frames({"id": "r", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE}),
]
CHATGLM_CPP = chatglm_stream("Hello", "", " there")

STREAMS: dict[str, list[bytes]] = {
    "relay": OWN,
    "vllm": VLLM,
    "sglang": SGLANG,
    "llama-server": LLAMA_SERVER,
    "ollama": OLLAMA,
    "chatglm.cpp": CHATGLM_CPP,
    "transformers-serve": TRANSFORMERS_SERVE,
    "openai": VLLM,
}
"""By profile: the frames in which the engine says "Hello there"."""

WHOLES: dict[str, dict[str, Any]] = {
    "relay": whole("Hello there", refusal=None),
    "vllm": whole("Hello there", refusal=None, reasoning=None, tool_calls=[]),
    "sglang": whole("Hello there", reasoning_content=None, tool_calls=None),
    "llama-server": whole("Hello there") | {"timings": {"predicted_n": 2}},
    "ollama": whole("Hello there"),
    "chatglm.cpp": chatglm_whole("Hello there"),
    "transformers-serve": whole("Hello there"),
    "openai": whole("Hello there"),
}
"""By profile: the same as a whole answer."""

VLLM_METRICS = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="org/a {odd} \\"name\\""} 3.0
vllm:num_requests_running{engine="1",model_name="org/a"} 1.0
vllm:num_requests_waiting{engine="0",model_name="org/a"} 2.0
vllm:num_requests_waiting{engine="1",model_name="org/a"} 0.0
vllm:num_requests_waiting_by_reason{engine="0"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="org/a"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="org/a"} 0.75
vllm:e2e_request_latency_seconds_bucket{le="+Inf"} 12.0 1795167460000
"""
SGLANG_METRICS = b"""# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m",tp_rank="0"} 5.0
sglang:num_queue_reqs{model_name="m"} 0.0
sglang:token_usage{model_name="m"} 0.5
"""
LLAMA_METRICS = b"""# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
llamacpp:requests_deferred 4
"""
LLAMA_SLOTS = json.dumps(
    [
        {"id": 0, "n_ctx": 512, "is_processing": True},
        {"id": 1, "n_ctx": 512, "is_processing": False},
    ]
).encode()
OLLAMA_PS = json.dumps(
    {
        "models": [
            {"name": "llama3.2:3b", "model": "llama3.2:3b", "size_vram": 3_000_000_000, "context_length": 8192},
            {"name": "qwen3:8b", "model": "qwen3:8b", "size_vram": 6_000_000_000, "context_length": 4096},
        ]
    }
).encode()
