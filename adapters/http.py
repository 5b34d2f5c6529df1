"""One HTTP exchange with an upstream: httpx's request and response objects, our errors.

All calls enter the transport directly. Requests are built from a prebuilt URL and prebuilt headers, which
costs 2 microseconds where a client's `post` costs 100 to 200.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from adapters.errors import Fault, RelayError

MAX_ANSWER = 64 * 2**20  # bytes of a whole answer; more than any model can say


def as_ours(exc: httpx.TransportError) -> RelayError:
    """httpx's exceptions as ours. Their texts may hold addresses, so none is passed on."""
    match exc:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return RelayError(Fault.UPSTREAM_UNREACHABLE, "The upstream could not be reached in time.")
        case httpx.TimeoutException():
            return RelayError(Fault.UPSTREAM_TIMEOUT, "The upstream did not answer in time.")
        case httpx.ConnectError() | httpx.ProxyError():
            return RelayError(Fault.UPSTREAM_UNREACHABLE, "The upstream could not be reached.")
    return RelayError(Fault.UPSTREAM_ERROR, "The connection to the upstream broke.")


@asynccontextmanager
async def exchange(
    transport: httpx.AsyncBaseTransport,
    method: str,
    url: httpx.URL,
    headers: httpx.Headers,
    body: bytes = b"",
    *,
    limits: dict[str, float] | None = None,
) -> AsyncIterator[httpx.Response]:
    """One call; leaving the block closes the response, which cancels what is still under way.

    `limits` are the transport's, in seconds: `connect`, `read`, `write`, `idle`.
    """
    request = httpx.Request(
        method, url, headers=headers, stream=httpx.ByteStream(body), extensions={"timeout": limits or {}}
    )
    try:
        response = await transport.handle_async_request(request)
    except httpx.TransportError as exc:
        raise as_ours(exc) from exc
    try:
        yield response
    finally:
        await response.aclose()  # also when the caller has gone: a call left running goes on costing money


async def read_body(response: httpx.Response, limit: int = MAX_ANSWER) -> bytes:
    """The whole body. Raises RelayError if it breaks off or passes `limit` bytes."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks_of(response):
            size += len(chunk)
            if size > limit:
                raise RelayError(Fault.UPSTREAM_ERROR, "The upstream's answer is too long.")
            chunks.append(chunk)
    except httpx.TransportError as exc:
        raise as_ours(exc) from exc
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def chunks_of(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it arrives, without httpx's own decoding around it."""
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):  # a test's whole body
        raise TypeError("the transport has to answer with an asynchronous stream")
    return stream.__aiter__()
