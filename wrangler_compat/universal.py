"""AI Gateway's universal request: a list of calls, tried in order until one is answered.

Source: Cloudflare's `gateway-core` package (cloudflare/ai, 2026-07). Here the one provider is Workers AI.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import msgspec

from adapters.base import Call, EventStream
from adapters.canonical import ChatEvent
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.wire.native.payload import Payload
from adapters.wire.validation import decode
from wrangler_compat.answers import Binary, Header, Inferred, Json, Stream, StreamEncoder, Through, Whole
from wrangler_compat.run import Ask, Runner
from wrangler_compat.seams import Forwarded

T = TypeVar("T", Whole, Stream, Through)

MOST_ENTRIES = 20
_LONGEST = 3600.0  # seconds
CHAT_PATH = "chat/completions"


class Entry(msgspec.Struct):
    """One call. `endpoint` is a model, `run/` and a model, or a path of the OpenAI-compatible surface."""

    provider: str
    endpoint: str = ""
    headers: dict[str, Any] = {}
    query: msgspec.Raw = msgspec.Raw(b"null")


_ENTRIES = msgspec.json.Decoder(list[Entry])


class Step:
    """Which entry answered: a header whose value is known when the answer begins."""

    def __init__(self) -> None:
        self.index = 0

    def __iter__(self) -> Iterator[Header]:
        yield (b"cf-aig-step", str(self.index).encode())


def read_entries(body: bytes) -> list[Entry]:
    """The body of a universal request. Raises InvalidRequest naming the field."""
    entries = decode(body, _ENTRIES)
    if not 1 <= len(entries) <= MOST_ENTRIES:
        raise InvalidRequest(f"Expected a list of 1 to {MOST_ENTRIES} requests, but got {len(entries)} instead.")
    return entries


def run_first(entries: Sequence[Entry], runner: Runner, call: Call, step: Step) -> Inferred:
    """What answers in the end. The first entry that can be read decides whether it comes whole or as a stream.

    Raises RelayError, that of the last entry, if none can be read.
    """
    answers: list[tuple[int, Inferred]] = []
    failure: RelayError | None = None
    for index, entry in enumerate(entries):
        try:
            answer = run_entry(entry, runner, call)
        except RelayError as exc:
            failure = exc
            continue
        limit = patience(entry.headers.get("cf-aig-request-timeout"))
        answers.append((index, answer if limit is None else within(limit, answer)))
    if not answers:
        raise failure or InvalidRequest("There is no request in the list.")
    match answers[0][1]:
        case Whole():
            return _first_whole(_of_kind(Whole, answers), step)
        case Stream():
            return _first_stream(_of_kind(Stream, answers), step)
    return Through(_first_through(_of_kind(Through, answers), step))


def _of_kind(kind: type[T], answers: Sequence[tuple[int, Inferred]]) -> list[tuple[int, T]]:
    return [(index, answer) for index, answer in answers if isinstance(answer, kind)]


def run_entry(entry: Entry, runner: Runner, call: Call) -> Inferred:
    """Raises InvalidRequest for another provider than Workers AI, and as the runner does."""
    body, path = bytes(entry.query), entry.endpoint.strip("/")
    if entry.provider == "compat" and path == CHAT_PATH:
        return runner.openai_chat(body, call)
    if entry.provider != "workers-ai":
        raise InvalidRequest(
            f"The provider '{entry.provider[:50]}' is not emulated: only 'workers-ai' is.", param="provider"
        )
    match path:
        case "v1/chat/completions":
            return runner.openai_chat(body, call)
        case "v1/embeddings":
            return runner.openai_embeddings(body, call)
    return runner.run(Ask(model=path, payload=Payload(body, "application/json"), headers=_JSON), call)


_JSON = ((b"content-type", b"application/json"),)


def patience(value: Any) -> float | None:
    """`cf-aig-request-timeout`, milliseconds as text or a number, in seconds; `None` for what is neither."""
    try:
        seconds = 0.0 if isinstance(value, bool) else float(value) / 1000
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if 0 < seconds <= _LONGEST else None


def within(limit: float, answer: Inferred) -> Inferred:
    """The same answer, or UPSTREAM_TIMEOUT if it has not begun after `limit` seconds."""
    match answer:
        case Whole(work):

            async def in_time() -> Json | Binary:
                async with _deadline(limit):
                    return await work()

            return Whole(in_time)
        case Stream(encoder, events):
            return Stream(encoder, _first_event_within(limit, events))
    return Through(_begun_within(limit, answer.upstream))


U = TypeVar("U")


@asynccontextmanager
async def _begun_within(limit: float, source: AbstractAsyncContextManager[U]) -> AsyncIterator[U]:
    async with AsyncExitStack() as stack:
        async with _deadline(limit):
            entered = await stack.enter_async_context(source)
        yield entered


@asynccontextmanager
async def _first_event_within(
    limit: float, source: AbstractAsyncContextManager[EventStream]
) -> AsyncIterator[EventStream]:
    async with AsyncExitStack() as stack:
        async with _deadline(limit):
            batches = await stack.enter_async_context(source)
            first = await anext(batches, None)
        yield _all_of(first, batches)


async def _all_of(first: list[ChatEvent] | None, rest: EventStream) -> EventStream:
    if first is not None:
        yield first
    async for batch in rest:
        yield batch


@asynccontextmanager
async def _deadline(limit: float) -> AsyncIterator[None]:
    timer = asyncio.timeout(limit)
    try:
        async with timer:
            yield
    except TimeoutError:
        if not timer.expired():
            raise
        raise RelayError(Fault.UPSTREAM_TIMEOUT, "The request took longer than cf-aig-request-timeout.") from None


def _first_whole(answers: Sequence[tuple[int, Whole]], step: Step) -> Whole:
    async def work() -> Json | Binary:
        for step.index, answer in answers[:-1]:
            try:
                return await answer.work()
            except RelayError:
                continue  # the next one is there for this
        step.index, last = answers[-1]
        return await last.work()

    return Whole(work)


def _first_stream(answers: Sequence[tuple[int, Stream]], step: Step) -> Stream:
    chosen = _Chosen(answers[0][1].encoder)

    @asynccontextmanager
    async def events() -> AsyncIterator[EventStream]:
        async with AsyncExitStack() as stack:
            yield await enter(stack)

    async def enter(stack: AsyncExitStack) -> EventStream:
        for step.index, answer in answers[:-1]:
            try:
                batches = await stack.enter_async_context(answer.events)
            except RelayError:
                continue
            chosen.encoder = answer.encoder
            return batches
        step.index, last = answers[-1]
        chosen.encoder = last.encoder
        return await stack.enter_async_context(last.events)

    return Stream(chosen, events())


@asynccontextmanager
async def _first_through(answers: Sequence[tuple[int, Through]], step: Step) -> AsyncIterator[Forwarded]:
    async with AsyncExitStack() as stack:
        yield await _enter_through(answers, step, stack)


async def _enter_through(answers: Sequence[tuple[int, Through]], step: Step, stack: AsyncExitStack) -> Forwarded:
    for step.index, answer in answers[:-1]:
        async with AsyncExitStack() as attempt:
            try:
                forwarded = await attempt.enter_async_context(answer.upstream)
            except RelayError:
                continue
            if forwarded.status < 400:
                stack.push_async_exit(attempt.pop_all())
                return forwarded
    step.index, last = answers[-1]
    return await stack.enter_async_context(last.upstream)


class _Chosen:
    """The encoder of the stream that was entered; before, only its keep-alives are asked for."""

    def __init__(self, encoder: StreamEncoder) -> None:
        self.encoder = encoder

    @property
    def media_type(self) -> bytes:
        return self.encoder.media_type

    def start(self) -> bytes:
        return self.encoder.start()

    def keep_alive(self) -> bytes:
        return self.encoder.keep_alive()

    def encode(self, events: Sequence[ChatEvent]) -> bytes:
        return self.encoder.encode(events)

    def error(self, body: bytes) -> bytes:
        return self.encoder.error(body)
