"""Cloudflare's AI REST API as it is: requests and answers that are not ours to read, with the account put in.

What the answers cost is read on their way through; sources of its places as in `adapters.wire.workers_ai`.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote, unquote

import httpx
import msgspec

from adapters.base import Call
from adapters.canonical import Usage
from adapters.cloudflare_calls import CloudflareCalls, is_event_stream, late
from adapters.cloudflare_stream import STAND_IN, SecretFilter, Speech
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.http import as_ours, chunks_of, read_body
from adapters.wire.workers_ai_errors import parse_error
from adapters.wire.workers_ai_usage import Told, UsageTail, read_answer

Headers = list[tuple[bytes, bytes]]

_PATH = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/%]+")
_QUERY_SAFE = "!$%&'()*+,/:;=?@[]^`{|}\\"  # what is sent as it came; all else, percent-encoded, means the same
_SENT = (b"content-type", b"accept", b"x-session-affinity")
_SENT_PREFIXES = (b"cf-aig-", b"cf-consn-")
_RETURNED = (b"content-type", b"retry-after")
_RETURNED_PREFIXES = (b"cf-ai-", b"cf-aig-")
_GATEWAY = b"cf-aig-gateway-id"
_GATEWAY_TOKEN = b"cf-aig-authorization"  # callers of ours may have come in with their key in it
_SHORTEST_TOKEN = 12  # bytes; a shorter one, of a stand-in for Cloudflare, may be a word of an answer
_INFERENCE = ("run", "v1/")
_MOST_DECODED = 3  # times


class Forwarded:
    """An answer on its way through.

    `usage` is what it told of its cost, once `chunks` have ended; its tokens are 0 where it told neurons alone.
    """

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.chunks: AsyncIterator[bytes]
        self.usage: Usage | None = None


class CloudflareNative:
    """Passes calls below `/accounts/{id}/ai/` on to the account."""

    name = "cloudflare"

    def __init__(self, calls: CloudflareCalls) -> None:
        self._calls = calls
        account = calls.account
        self._gateway = {name.encode(): value.encode() for name, value in account.gateway_headers().items()}
        secrets = (account.api_token, account.gateway_token, account.account_id)
        self._secrets = tuple(secret.encode() for secret in secrets if secret)
        tokens = (account.api_token, account.gateway_token)
        self._tokens = tuple(token.encode() for token in tokens if token and len(token) >= _SHORTEST_TOKEN)

    @asynccontextmanager
    async def forward(
        self,
        method: str,
        path: str,
        query: bytes | str,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
        call: Call,
    ) -> AsyncIterator[Forwarded]:
        """One call, once its answer has begun; `path` is what follows `ai/`, percent-encoded as it was sent.

        Body and query go up unchanged, the answer comes back unchanged, whatever its status; only our tokens are taken
        out of it, and the account's id out of a failure. Nothing is tried again: whoever speaks Cloudflare's own
        language decides that itself.

        Raises InvalidRequest for a path that would leave the account's AI, RelayError where there is no answer or the
        account is known to have nothing left, and from `chunks` RelayError for an answer that breaks off.
        """
        asked = quote(query, safe=_QUERY_SAFE)
        url = self._url(path, asked)
        if path.startswith(_INFERENCE) and "queueRequest" not in asked:  # a batch may have been paid already
            self._calls.check_allocation()
        call.accept(self.name, ())
        async with AsyncExitStack() as stack:
            started = call.upstream_since = time.monotonic()
            try:
                async with asyncio.timeout(self._calls.patience(call)):
                    exchange = self._calls.send(method, url, self._headers(headers), body, call)
                    answer = await self._begin(await stack.enter_async_context(exchange))
            except TimeoutError:
                raise late() from None
            finally:
                call.upstream_seconds += time.monotonic() - started
                call.upstream_since = None
            yield answer

    def _url(self, path: str, query: str) -> httpx.URL:
        """Raises InvalidRequest for a path that means another place than it seems to, or an address beyond reason."""
        if not _PATH.fullmatch(path) or any(segment in ("", ".", "..") for segment in _segments(path)):
            raise InvalidRequest("The path of the call cannot be read.")
        try:
            return httpx.URL(f"{self._calls.root}{path}{'?' if query else ''}{query}")
        except httpx.InvalidURL:
            raise InvalidRequest("The address of the call is too long.") from None

    def _headers(self, given: Iterable[tuple[bytes, bytes]]) -> httpx.Headers:
        """The account's credentials, and of the caller's headers those that are about the call: no token is.

        A caller that names a gateway of its own goes through that one, without the token of ours.
        """
        theirs = [pair for pair in _chosen(given, _SENT, _SENT_PREFIXES) if pair[0] != _GATEWAY_TOKEN]
        if any(name == _GATEWAY and value != self._gateway.get(_GATEWAY) for name, value in theirs):
            return httpx.Headers([*self._calls.headers.raw, *theirs])
        theirs = [(name, value) for name, value in theirs if name not in self._gateway]
        return httpx.Headers([*self._calls.headers.raw, *self._gateway.items(), *theirs])

    async def _begin(self, response: httpx.Response) -> Forwarded:
        """What goes back at once: the status and the headers; JSON is read whole, all else as it comes."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise RelayError(Fault.UPSTREAM_ERROR, "The upstream compressed its answer, though it was told not to.")
        if not 200 <= response.status_code < 600:  # no server could send it on
            raise RelayError(Fault.UPSTREAM_ERROR, "The upstream answered with a status that HTTP does not know.")
        returned = _chosen(response.headers.raw, _RETURNED, _RETURNED_PREFIXES)
        headers = [(name, _without(self._secrets, value)) for name, value in returned]
        answer = Forwarded(response.status_code, headers)
        if response.status_code >= 300:
            body = await read_body(response)
            self._calls.learn(parse_error(response.status_code, body))
            answer.chunks = _whole(_without(self._secrets, body))
        elif _is_json(response):
            body = await read_body(response)
            told = read_answer(body)
            answer.usage = self._take(told, response)
            answer.chunks = _whole(_without(self._tokens if told.failure is None else self._secrets, body))
        else:
            answer.chunks = self._stream(answer, response)
        return answer

    async def _stream(self, answer: Forwarded, response: httpx.Response) -> AsyncIterator[bytes]:
        """The chunks as they come. Raises RelayError if they break off or fall silent."""
        tail, clean = UsageTail(), SecretFilter(self._tokens)
        try:
            async for chunk in self._unless_silent(response):
                tail.feed(chunk)
                if passed := clean.feed(chunk):
                    yield passed
        except httpx.TransportError as exc:
            raise as_ours(exc) from exc
        if held := clean.close():
            yield held
        answer.usage = self._take(tail.close() if is_event_stream(response) else Told(), response)

    async def _unless_silent(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The chunks. Raises RelayError for an event stream that says nothing for too long, though bytes may come."""
        limit = self._calls.timeouts.first_byte
        set_idle: Callable[[float], None] = response.extensions.get("set_idle", _no_timer)
        set_idle(limit)
        speech = Speech() if is_event_stream(response) else None
        begun, silent = False, 0.0
        waiting = time.monotonic()
        async for chunk in chunks_of(response):
            silent += time.monotonic() - waiting  # what the client took to read the last one does not count
            if speech is None or speech.feed(chunk):
                silent = 0.0
                if not begun:
                    begun, limit = True, self._calls.timeouts.idle
                    set_idle(limit)
            elif silent > limit:
                raise late()
            yield chunk
            waiting = time.monotonic()

    def _take(self, told: Told, response: httpx.Response) -> Usage | None:
        """The usage, with the neurons that a header may tell; a failure inside a success teaches like any other."""
        if told.failure is not None:
            self._calls.learn(told.failure)
        neurons = _neurons(response.headers.get("cf-ai-neurons"))
        usage = told.usage
        if neurons is None or (usage is not None and usage.neurons is not None):
            return usage
        return msgspec.structs.replace(usage or Usage(), neurons=neurons)


def _without(secrets: Iterable[bytes], text: bytes) -> bytes:
    for secret in secrets:
        text = text.replace(secret, STAND_IN)  # the same object where there is none
    return text


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _chosen(headers: Iterable[tuple[bytes, bytes]], names: Sequence[bytes], prefixes: tuple[bytes, ...]) -> Headers:
    """The headers of these names and prefixes, their names in lower case."""
    lower = [(name.lower(), value) for name, value in headers]
    return [(name, value) for name, value in lower if name in names or name.startswith(prefixes)]


def _no_timer(seconds: float) -> None:
    """For a transport that keeps no time between chunks."""


def _is_json(response: httpx.Response) -> bool:
    media_type: str = response.headers.get("content-type", "")
    return media_type.partition(";")[0].strip().lower() == "application/json"


def _segments(path: str) -> list[str]:
    """The path's segments as whoever decodes it once or more may see them."""
    for _ in range(_MOST_DECODED):
        path = unquote(path)
    return path.replace("\\", "/").split("/")


def _neurons(header: str | None) -> float | None:
    try:
        neurons = float(header or "")
    except ValueError:
        return None
    return neurons if 0 <= neurons < math.inf else None
