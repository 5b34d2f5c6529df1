"""Streamed answers over HTTP, by raw sockets: a client library would take more of a small machine than some servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from benchmarks.local.load import Ask, Prompt


class Address(NamedTuple):
    """A TCP port on loopback, or a Unix socket."""

    port: int = 0
    socket: str = ""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.socket:
            return await asyncio.open_unix_connection(self.socket, limit=2**20)
        return await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)


def chat_completions(address: Address, model: str, token: str) -> Ask:
    """OpenAI's route. A frame with a text counts as one token; the usage at the end puts the count right."""

    async def ask(prompt: Prompt, count: int) -> AsyncIterator[int]:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt["text"]}],
            "temperature": 0,
            "max_tokens": count,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        come, told = 0, 0
        async for event in _events(address, "/v1/chat/completions", body, token):
            if "error" in event:
                raise RuntimeError(str(event["error"]))
            if any(choice["delta"].get("content") for choice in event["choices"]):
                come += 1
                if come < count:  # the last waits for the count
                    yield come
            elif usage := event.get("usage"):
                told = usage["completion_tokens"]
        yield told

    return ask


def llama_completion(address: Address) -> Ask:
    """llama-server's own route, which takes ids and can be told to go on after an end token."""

    async def ask(prompt: Prompt, count: int) -> AsyncIterator[int]:
        body = {
            "prompt": prompt["ids"],
            "n_predict": count,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "return_tokens": True,
            "cache_prompt": False,
        }
        come = 0
        async for event in _events(address, "/completion", body, ""):
            # Tokens that are a part of a character come with the next; the last event has the count.
            come = event["tokens_predicted"] if event.get("stop") else come + len(event.get("tokens") or ())
            if come:
                yield come

    return ask


async def _events(address: Address, path: str, body: dict[str, Any], token: str) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each `data:` line. Raises RuntimeError for a status other than 200."""
    reader, writer = await address.connect()
    try:
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        status = (await reader.readline()).decode()
        if " 200 " not in status:
            raise RuntimeError(f"{status.strip()}: {(await reader.read(2000))[-300:]!r}")
        # Chunk sizes and blank lines stand between the lines that count; no event is cut by a chunk's end.
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])
    finally:
        writer.close()
