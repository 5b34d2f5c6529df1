"""What every call of Cloudflare's AI REST API has in common, whatever the task.

Sources: Cloudflare's SDKs and provider packages (2026-07, 2026-08), captures of the live API (to 2026-10).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import quote

import httpx
import msgspec

from adapters.base import Call
from adapters.catalogue import Model
from adapters.errors import Fault, RelayError
from adapters.http import exchange, read_body
from adapters.wire.workers_ai_errors import parse_error

DEFAULT_BASE_URL = "https://api.cloudflare.com/client/v4"

_RETRY_AFTER_MAX = 30.0


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where the calls go and what they are paid with. `base_url` has no slash at its end."""

    account_id: str
    api_token: str
    base_url: str = DEFAULT_BASE_URL
    gateway: str | None = None
    gateway_token: str | None = None

    def __repr__(self) -> str:
        return "Account(***)"

    def gateway_headers(self) -> dict[str, str]:
        """The AI Gateway to go through."""
        headers = {}
        if self.gateway:
            headers["cf-aig-gateway-id"] = self.gateway
        if self.gateway_token:
            headers["cf-aig-authorization"] = f"Bearer {self.gateway_token}"
        return headers


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. `first_byte` covers a whole answer that is not streamed, `idle` a gap between frames."""

    connect: float = 10
    first_byte: float = 130
    idle: float = 60


class CloudflareCalls:
    """Calls of one account, and what they have taught of it. One instance serves every task.

    `hop` marks our calls, so that one which comes back to us is known.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        account: Account,
        *,
        timeouts: Timeouts | None = None,
        hop: str = "",
        user_agent: str = "workers-ai-relay",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self.account = account
        self.root = f"{account.base_url}/accounts/{quote(account.account_id, safe='')}/ai/"
        self.headers = httpx.Headers(
            {
                "authorization": f"Bearer {account.api_token}",
                "host": httpx.URL(account.base_url).netloc.decode(),
                "accept-encoding": "identity",
                "user-agent": user_agent,
                "x-relay-hop": hop,
            }
        )
        """What every call carries; `_json_headers` are those of a model's call."""
        self._transport = transport
        self._now = now
        self._rests_until = 0.0  # Unix time; the account has no allocation left before it
        self._urls: dict[str, httpx.URL] = {}
        self._json_headers = httpx.Headers(
            {**self.headers, **account.gateway_headers(), "content-type": "application/json"}
        )

    def check_allocation(self) -> None:
        """Raises RelayError (QUOTA_EXHAUSTED) while the account is known to have nothing left for today."""
        if self._now() < self._rests_until:
            raise parse_error(429, b'{"errors":[{"code":3036,"message":""}]}')

    def patience(self, call: Call) -> float:
        """Seconds for the first byte, or for the whole of an answer that is not streamed."""
        return max(0.0, min(self.timeouts.first_byte, call.remaining()))

    async def run(self, model: Model, body: bytes, call: Call) -> bytes:
        """The whole answer of a model to a native body of JSON. Raises RelayError."""
        try:
            async with asyncio.timeout(self.patience(call)), self.post(model, body, call) as response:
                return await read_body(response)
        except TimeoutError:
            raise late() from None
        except RelayError as exc:
            self.learn(exc)
            raise

    @asynccontextmanager
    async def post(self, model: Model, body: bytes, call: Call) -> AsyncIterator[httpx.Response]:
        """A model's answer to a native body of JSON, once it has begun. Raises RelayError unless it is a success."""
        async with self.send("POST", self._url(model.id), self._headers_for(call), body, call) as response:
            if response.status_code != 200:
                raise _refusal(response, await read_body(response), model)
            yield response

    def send(
        self, method: str, url: httpx.URL, headers: httpx.Headers, body: bytes, call: Call
    ) -> AbstractAsyncContextManager[httpx.Response]:
        """One exchange, whatever its status. Raises RelayError if there is none."""
        limits = {"connect": min(self.timeouts.connect, self.patience(call))}
        return exchange(self._transport, method, url, headers, body, limits=limits)

    def learn(self, error: RelayError) -> None:
        """A spent allocation comes as a status, in a body or in a stream's first frame; it holds for every model."""
        error.redact(self.account.api_token)  # an upstream may echo anything
        if error.fault is Fault.QUOTA_EXHAUSTED:
            self._rests_until = _next_midnight(self._now())

    def _url(self, model: str) -> httpx.URL:
        """Slashes stay as they are: Cloudflare takes ids raw and as one escaped segment."""
        url = self._urls.get(model)
        if url is None:
            url = httpx.URL(f"{self.root}run/{quote(model, safe='@/')}")
            if len(self._urls) < 1000:  # ids come from callers
                self._urls[model] = url
        return url

    def _headers_for(self, call: Call) -> httpx.Headers:
        if call.affinity is None:
            return self._json_headers
        headers = self._json_headers.copy()
        headers["x-session-affinity"] = call.affinity
        return headers


def is_event_stream(response: httpx.Response) -> bool:
    media_type: str = response.headers.get("content-type", "")
    return media_type.lower().startswith("text/event-stream")


def late() -> RelayError:
    return RelayError(Fault.UPSTREAM_TIMEOUT, "Workers AI did not answer in time.")


def affinity_of(wish: str) -> str:
    """An opaque id for what a caller wants to be recognised by; the wish itself may be a name or an address."""
    return hashlib.sha256(wish.encode()).hexdigest()[:32]


def _refusal(response: httpx.Response, body: bytes, model: Model) -> RelayError:
    error = parse_error(response.status_code, body, context_window=model.context_window)
    if error.fault is Fault.RATE_LIMITED:
        error.retry_after = _retry_after(response.headers.get("retry-after"))
    return error


def _retry_after(header: str | None) -> float | None:
    """Cloudflare's wish in seconds, if it has one, within what clients wait for."""
    try:
        wish = float(header or "")
    except ValueError:
        return None
    return min(max(1.0, wish), _RETRY_AFTER_MAX)  # in this order "nan" becomes 1


def _next_midnight(now: float) -> float:
    today = dt.datetime.fromtimestamp(now, dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (today + dt.timedelta(days=1)).timestamp()
