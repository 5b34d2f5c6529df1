"""Streamed answers as a client sees them: piece by piece, and taken apart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.relay import asking
from tests.support.servers import DEADLINE

CHAT = "/v1/chat/completions"
DONE = "[DONE]"


class Listener:
    """A streamed answer while it comes in; `body` is what has come so far."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.body = b""
        self._pieces = response.aiter_raw()

    async def until(self, needle: bytes) -> None:
        """Read on until `needle` has come."""
        async with asyncio.timeout(DEADLINE):
            while needle not in self.body:
                self.body += await anext(self._pieces)

    async def rest(self) -> bytes:
        """Read on until the end; the whole body."""
        async with asyncio.timeout(DEADLINE):
            async for piece in self._pieces:
                self.body += piece
        return self.body


@asynccontextmanager
async def listening(
    client: httpx.AsyncClient, text: str = "Say hello.", *, headers: dict[str, str] | None = None, **fields: Any
) -> AsyncIterator[Listener]:
    """A streamed chat, once its headers are there; leaving the block closes the connection if it is unfinished."""
    body = asking(text, stream=True, **fields)
    async with client.stream("POST", CHAT, json=body, headers=headers) as response:
        yield Listener(response)


def payloads(body: bytes) -> list[str]:
    """The data of every frame. Fails if the body is anything but whole data frames and comments."""
    assert body.endswith(b"\n\n"), "the last frame is not whole"
    frames = body.decode().removesuffix("\n\n").split("\n\n")
    assert all(frame.startswith(("data: ", ": ")) and "\n" not in frame for frame in frames), frames
    return [frame.removeprefix("data: ") for frame in frames if not frame.startswith(":")]


def chunks(body: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream that came to its end. Fails if it did not."""
    *datas, last = payloads(body)
    assert last == DONE, last
    return [json.loads(data) for data in datas]


def text_of(parts: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in parts for choice in chunk.get("choices", ()))


def reasons_of(parts: list[dict[str, Any]]) -> list[str]:
    """The finish reasons that were named."""
    reasons = (choice["finish_reason"] for chunk in parts for choice in chunk.get("choices", ()))
    return [reason for reason in reasons if reason is not None]


def broken(body: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The chunks before an in-band error, and the error. Fails unless it is the last frame and the only end."""
    datas = payloads(body)
    assert DONE not in datas
    *parts, last = map(json.loads, datas)
    assert list(last) == ["error"], last
    assert sorted(last["error"]) == ["code", "message", "param", "type"]
    assert reasons_of(parts) == []
    return parts, last["error"]
