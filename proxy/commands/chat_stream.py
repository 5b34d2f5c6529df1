"""The relay as a client of its OpenAI interface hears it: an answer, and whether a model exists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import quote

import httpx
import msgspec

from adapters.wire.sse import DONE, FrameTooLong, SSEDecoder

_LOOKUP_TIMEOUT = 5.0  # seconds; the relay answers from memory

Turn = dict[str, str]
"""`role` and `content`."""


class ChatFailed(Exception):
    """There is no answer, or no more of it. The message is for the person who asked."""


class Piece(NamedTuple):
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None


class _Error(msgspec.Struct):
    message: str = "The relay gave no reason."


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: _Error | None = None


class _Refusal(msgspec.Struct):
    error: _Error


async def stream_answer(
    client: httpx.AsyncClient, token: str, model: str, turns: Sequence[Turn], show: Callable[[Piece], None]
) -> None:
    """Hand each piece of the answer to `show` as it arrives. Raises ChatFailed."""
    body = {"model": model, "messages": list(turns), "stream": True}
    headers = {"authorization": f"Bearer {token}"}
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
            if response.status_code != 200:
                raise ChatFailed(_refusal(response.status_code, await response.aread()))
            await _show_pieces(response, show)
    except httpx.HTTPError as exc:
        raise ChatFailed(f"The connection to the relay broke off ({type(exc).__name__}).") from exc


async def _show_pieces(response: httpx.Response, show: Callable[[Piece], None]) -> None:
    decoder = SSEDecoder()
    async for chunk in response.aiter_bytes():
        try:
            frames = decoder.feed(chunk)
        except FrameTooLong as exc:
            raise ChatFailed("The relay's stream cannot be read.") from exc
        for frame in frames:
            if frame == DONE:
                return
            for piece in _decode(frame):
                show(piece)
    raise ChatFailed("The answer broke off before its end.")


def _decode(frame: bytes) -> list[Piece]:
    try:
        chunk = msgspec.json.decode(frame, type=_Chunk)
    except msgspec.DecodeError as exc:
        raise ChatFailed("The relay's stream cannot be read.") from exc
    if chunk.error is not None:
        raise ChatFailed(chunk.error.message)
    return [
        Piece(choice.delta.content or "", choice.delta.reasoning_content or choice.delta.reasoning or "", reason)
        for choice in chunk.choices
        for reason in (choice.finish_reason,)
    ]


async def model_problem(client: httpx.AsyncClient, token: str, name: str) -> str | None:
    """Why the relay knows no model by this name; `None` if it does, or if the account alone can tell."""
    if name.startswith(("@cf/", "@hf/")):
        return None
    headers = {"authorization": f"Bearer {token}"}
    try:
        response = await client.get(f"/v1/models/{quote(name)}", headers=headers, timeout=_LOOKUP_TIMEOUT)
    except httpx.HTTPError as exc:
        return f"The relay does not answer ({type(exc).__name__})."
    return None if response.status_code == 200 else _refusal(response.status_code, response.content)


def _refusal(status: int, body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refusal).error.message
    except msgspec.DecodeError:
        return f"The relay answered with status {status}."
