"""One HTTP exchange with an upstream: httpx's request and response objects, our errors.

All calls enter the transport directly. Requests are built from a prebuilt URL and prebuilt headers, which
costs 2 microseconds where a client's `post` costs 100 to 200.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx

from adapters.errors import Fault, RelayError

MAX_ANSWER = 64 * 2**20  # bytes of a whole answer; more than any model can say


@contextmanager
def foreign_errors() -> Iterator[None]:
    """httpx's exceptions as ours. Their texts may hold addresses, so none is passed on."""
    try:
        yield
    except httpx.TimeoutException as exc:
        if isinstance(exc, httpx.ConnectTimeout | httpx.PoolTimeout):
            raise RelayError(Fault.UPSTREAM_UNREACHABLE, "The upstream could not be reached in time.") from exc
        raise RelayError(Fault.UPSTREAM_TIMEOUT, "The upstream did not answer in time.") from exc
    except (httpx.ConnectError, httpx.ProxyError) as exc:
        raise RelayError(Fault.UPSTREAM_UNREACHABLE, "The upstream could not be reached.") from exc
    except httpx.TransportError as exc:
        raise RelayError(Fault.UPSTREAM_ERROR, "The connection to the upstream broke.") from exc


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
    with foreign_errors():
        response = await transport.handle_async_request(request)
    try:
        yield response
    finally:
        await response.aclose()  # also when the caller has gone: a call left running goes on costing money


async def read_body(response: httpx.Response, limit: int = MAX_ANSWER) -> bytes:
    """The whole body. Raises RelayError if it breaks off or passes `limit` bytes."""
    chunks: list[bytes] = []
    size = 0
    with foreign_errors():
        async for chunk in chunks_of(response):
            size += len(chunk)
            if size > limit:
                raise RelayError(Fault.UPSTREAM_ERROR, "The upstream's answer is too long.")
            chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def chunks_of(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it arrives, without httpx's own decoding around it."""
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):  # a test's whole body
        raise TypeError("the transport has to answer with an asynchronous stream")
    return stream.__aiter__()
