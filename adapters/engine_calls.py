"""What every call of an OpenAI-compatible engine has in common: address, key, limits, refusals."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
import msgspec

from adapters.base import Call
from adapters.cloudflare_calls import Timeouts
from adapters.errors import Fault, RelayError
from adapters.http import exchange, read_body
from adapters.local.own import TENANT
from adapters.profiles import Profile
from adapters.wire.openai_engine_errors import parse_engine_error

_RETRY_AFTER_MAX = 30.0
QUEUE = 64
"""How many may wait for a place, unless the operator says otherwise."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One engine at one address. `base_url` ends in `/v1`; for a Unix socket its host is only a name.

    `models` maps the names that clients use to the engine's own; a name that is not there is sent as it is.
    `context_window` is in tokens.
    """

    name: str
    base_url: str
    profile: Profile
    api_key: str | None = None
    models: Mapping[str, str] = {}
    max_concurrency: int | None = None
    queue: int = QUEUE
    context_window: int | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r})"  # the key, and perhaps the address, are nobody's to print


class EngineCalls:
    """Calls of one engine. `hop` marks them as ours, so that one which comes back to us is known."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        endpoint: Endpoint,
        *,
        timeouts: Timeouts | None = None,
        hop: str = "",
        user_agent: str = "workers-ai-relay",
    ) -> None:
        self.endpoint = endpoint
        self.timeouts = timeouts or Timeouts()
        self._transport = transport
        base = endpoint.base_url.rstrip("/")
        self._base = base
        self._chat = httpx.URL(f"{base}/chat/completions")
        self._embeddings = httpx.URL(f"{base}/embeddings")
        headers = {
            "host": httpx.URL(base).netloc.decode(),
            "accept-encoding": "identity",
            "user-agent": user_agent,
            "x-relay-hop": hop,
        }
        if endpoint.api_key:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        self._headers = httpx.Headers(headers)
        self._json_headers = httpx.Headers({**headers, "content-type": "application/json"})

    def patience(self, call: Call) -> float:
        """Seconds for the first byte, or for the whole of an answer that is not streamed."""
        return max(0.0, min(self.timeouts.first_byte, call.remaining()))

    @asynccontextmanager
    async def chat(self, body: bytes, call: Call) -> AsyncIterator[httpx.Response]:
        """A chat's answer, once it has begun. Raises RelayError unless it is a success."""
        async with self._post(self._chat, body, call) as response:
            yield response

    async def embed(self, body: bytes, call: Call) -> bytes:
        """The whole answer to a request for embeddings. Raises RelayError."""
        async with self._post(self._embeddings, body, call) as response:
            return await read_body(response)

    async def get(self, path: str, limit: float) -> tuple[int, bytes]:
        """Status and body of what lies at a path, where `/v1` stands for the base URL, whatever that ends in.

        `limit` in seconds bounds the connecting. Raises RelayError.
        """
        below = path.removeprefix("/v1")
        url = httpx.URL((self._base if below != path else self._base.removesuffix("/v1")) + below)
        async with exchange(self._transport, "GET", url, self._headers, limits={"connect": limit}) as response:
            return response.status_code, await read_body(response)

    def redact(self, error: RelayError) -> None:
        """An engine may echo anything."""
        if self.endpoint.api_key:
            error.redact(self.endpoint.api_key)

    @asynccontextmanager
    async def _post(self, url: httpx.URL, body: bytes, call: Call) -> AsyncIterator[httpx.Response]:
        limits = {"connect": min(self.timeouts.connect, self.patience(call))}
        headers = self._json_headers
        if self.endpoint.profile.tenants and call.tenant is not None:
            headers = headers.copy()
            headers[TENANT] = call.tenant
        async with exchange(self._transport, "POST", url, headers, body, limits=limits) as response:
            if response.status_code != 200:
                raise parse_engine_error(
                    response.status_code,
                    await read_body(response),
                    retry_after=retry_after(response.headers.get("retry-after")),
                    context_window=self.endpoint.context_window,
                    verbatim=self.endpoint.profile.verbatim_limits,
                )
            yield response


def late() -> RelayError:
    return RelayError(Fault.UPSTREAM_TIMEOUT, "The engine did not answer in time.")


def retry_after(header: str | None) -> float | None:
    """The engine's wish in seconds, if it has one, within what clients wait for."""
    try:
        wish = float(header or "")
    except ValueError:
        return None
    return None if math.isnan(wish) else min(max(1.0, wish), _RETRY_AFTER_MAX)
