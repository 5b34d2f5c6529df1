"""A server that plays vLLM: its endpoints, its metrics, and the states that one of several replicas can be in.

Source: vLLM 0.33's API server and metrics, read 2026-11.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Send

from tests.support.cloudflare import Asked, Script, answer, frames
from tests.support.engine_wires import CHAT, EMBEDDINGS, FakeEngine, chunk, whole

MODEL = "org/model"
_OPEN = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


class FakeVllm(FakeEngine):
    """The ASGI app. Its switches may be turned at any time; what is under way goes on as it began."""

    def __init__(self) -> None:
        super().__init__()
        self.places = 256
        """As `--max-num-seqs`: what comes on top waits."""
        self.backlog = 0
        """Requests of other clients that wait."""
        self.status: int | None = None
        """An error instead of every answer."""
        self.retry_after: float | None = None
        """What such an error asks for, in seconds."""
        self.draining = False
        """It has been told to stop: it is not ready any more, and finishes what it has."""
        self.tokens_held: asyncio.Event | None = None
        """Answers stop after their first token until this is set."""
        self.begun = asyncio.Event()
        """Set whenever the first token of a stream is out."""
        self.running = 0
        self.answered = 0
        self._waiting = 0
        self._free = asyncio.Condition()

    @property
    def chats(self) -> list[Asked]:
        return [asked for asked in self.requests if asked.path in (CHAT, EMBEDDINGS)]

    @property
    def looks(self) -> int:
        return sum(asked.path == "/health" for asked in self.requests)

    @property
    def metrics(self) -> bytes:
        labels = f'{{engine="0",model_name="{MODEL}"}}'
        gauges = {
            "num_requests_running": ("Number of requests in model execution batches.", self.running),
            "num_requests_waiting": ("Number of requests waiting to be processed.", self._waiting + self.backlog),
            "kv_cache_usage_perc": ("KV-cache usage. 1 means 100 percent usage.", self.running / self.places),
        }
        lines = [
            f"# HELP vllm:{name} {text}\n# TYPE vllm:{name} gauge\nvllm:{name}{labels} {float(value)}\n"
            for name, (text, value) in gauges.items()
        ]
        return "".join(lines).encode()

    def _script(self, asked: Asked) -> Script:
        match asked.path:
            case "/health":
                return answer(503 if self.draining else 200, b"")
            case "/metrics":
                return answer(200, self.metrics, media_type="text/plain; version=0.0.4; charset=utf-8")
            case "/v1/models":
                return answer(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "vllm"}]})
        if self.status is not None:
            headers = {} if self.retry_after is None else {"retry-after": f"{self.retry_after:g}"}
            return answer(self.status, _error(self.status), headers=headers)
        if asked.path == EMBEDDINGS:
            vectors = [{"object": "embedding", "index": i, "embedding": [1.0, 0.0]} for i in range(_inputs(asked))]
            return answer(200, {"object": "list", "data": vectors, "usage": {"prompt_tokens": 1, "total_tokens": 1}})
        return self._chat if asked.path == CHAT else answer(404, {"detail": "Not Found"})

    async def _chat(self, asked: Asked, send: Send) -> None:
        await self._begin()
        try:
            if asked.json.get("stream"):
                await self._stream(send)
            else:
                if self.tokens_held is not None:
                    await self.tokens_held.wait()
                await answer(200, whole("Hello there"))(asked, send)
        finally:
            self.running -= 1
            async with self._free:
                self._free.notify()
        self.answered += 1

    async def _begin(self) -> None:
        self._waiting += 1
        try:
            async with self._free:
                await self._free.wait_for(lambda: self.running < self.places)
        finally:
            self._waiting -= 1
        self.running += 1

    async def _stream(self, send: Send) -> None:
        await send(_OPEN)
        await _send(send, chunk({"role": "assistant", "content": ""}), chunk({"content": "Hello"}))
        self.begun.set()
        if self.tokens_held is not None:
            await self.tokens_held.wait()
        usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
        end = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": MODEL, "choices": [], "usage": usage}
        await _send(send, chunk({"content": " there"}), chunk({"content": ""}, "stop"), end, "[DONE]")
        await send({"type": "http.response.body", "body": b""})


async def _send(send: Send, *values: object) -> None:
    await send({"type": "http.response.body", "body": frames(*values), "more_body": True})


def _inputs(asked: Asked) -> int:
    given = asked.json["input"]
    return len(given) if isinstance(given, list) else 1


def _error(status: int) -> dict[str, Any]:
    kinds = {400: "BadRequestError", 429: "RateLimitError", 503: "ServiceUnavailableError"}
    kind = kinds.get(status, "InternalServerError")
    return {"error": {"message": "it was told to fail", "type": kind, "param": None, "code": status}}
