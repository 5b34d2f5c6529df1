"""Requests in and whole answers out, straight on ASGI: what every endpoint needs and no more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from proxy.dialects import Refusal


class ClientLeft(Exception):
    """The caller has closed the connection; there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The request's whole body. Raises HTTPException 413 past `limit` bytes, 415, and ClientLeft."""
    chunks = [chunk async for chunk in body_chunks(scope, receive, limit)]
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def body_chunks(scope: Scope, receive: Receive, limit: int) -> AsyncGenerator[bytes]:
    """The request's body as it comes. Raises as `read_body` does."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise HTTPException(413)
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise HTTPException(415)
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise HTTPException(413)
        yield chunk
        if not message.get("more_body", False):
            return


async def send_body(
    send: Send,
    body: bytes,
    *,
    status: int = 200,
    media_type: bytes = b"application/json",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """One answer, its length told."""
    start = [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Refusal) -> None:
    await send_body(send, problem.body(), status=problem.status, headers=problem.headers)
