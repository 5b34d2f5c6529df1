"""Requests in and whole answers out, straight on ASGI: what every endpoint needs and no more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from adapters.wire.json_cost import JsonCost
from proxy.dialects import Refusal

BODY_LATE = "relay.body_late"
"""In the state of a request whose body does not come: the server sets it, and wakes who waits with an empty piece."""
_FEW = 2**17
"""Bytes of a body that are decoded in no time, whatever they are."""


class ClientLeft(Exception):
    """The caller has closed the connection; there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The request's whole body. Raises HTTPException 408, 413 past `limit` bytes, 415, RelayError, and ClientLeft."""
    chunks: list[bytes] = []
    size = 0
    cost: JsonCost | None = None
    async for chunk in body_chunks(scope, receive, limit):
        chunks.append(chunk)
        size += len(chunk)
        if cost is not None:
            cost.feed(chunk)
        elif size > _FEW:
            cost = JsonCost()
            cost.feed(b"".join(chunks))
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def body_chunks(scope: Scope, receive: Receive, limit: int) -> AsyncGenerator[bytes]:
    """The request's body as it comes. Raises HTTPException 408, 413 past `limit` bytes, 415, and ClientLeft."""
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
        more = message.get("more_body", False)
        if more and not chunk and BODY_LATE in scope.get("state", ()):
            raise HTTPException(408, headers={"Connection": "close"})
        size += len(chunk)
        if size > limit:
            raise HTTPException(413)
        yield chunk
        if not more:
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
