"""A streamed answer's events, in the batches in which they came, whichever upstream it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import httpx

from adapters.canonical import ChatEvent
from adapters.errors import Fault, RelayError
from adapters.http import as_ours

_DRAIN_SECONDS = 0.5  # for the last bytes after `[DONE]`, so that the connection can be used again
_SILENCE = "The upstream fell silent in the middle of its answer."


class Decoder(Protocol):
    """A push decoder of an upstream's stream; `feed` and `close` raise RelayError."""

    frames: int
    """Frames read so far; one that says nothing is a sign of life too."""
    done: bool
    failure: RelayError | None
    """What is to be raised after the events given last."""

    @property
    def complete(self) -> bool:
        """The upstream has said that the answer is whole; what may still come is its usage."""

    def feed(self, chunk: bytes, /) -> list[ChatEvent]: ...

    def close(self) -> list[ChatEvent]: ...


class Batches:
    """The events of a streamed answer, in the batches in which they came.

    A class rather than a generator: it can be left at any point without being closed, and a wait that
    runs out does not end it. Raises RelayError for a stream that breaks, falls silent or makes no sense.
    """

    def __init__(self, chunks: AsyncIterator[bytes], decoder: Decoder, idle: float) -> None:
        """`idle`: seconds between two frames after which the upstream has fallen silent."""
        self._next_chunk = chunks.__anext__
        self._decoder = decoder
        self._idle = idle
        self._clock = asyncio.get_running_loop().time
        self._prefetched: list[ChatEvent] | None = None
        self._ended = False

    def __aiter__(self) -> Batches:
        return self

    async def __anext__(self) -> list[ChatEvent]:
        if self._prefetched is not None:
            batch, self._prefetched = self._prefetched, None
            return batch
        if self._decoder.failure is not None:
            raise self._decoder.failure
        frames, since = self._decoder.frames, 0.0
        while not self._decoder.done and not self._ended:
            chunk = await self._read()
            events = self._close() if chunk is None else self._decoder.feed(chunk)
            if events:
                return events
            # The transport sees a silence of bytes; comments and halves of frames are silence as well.
            if frames != self._decoder.frames or not since:
                frames, since = self._decoder.frames, self._clock()
            elif self._clock() - since > self._idle:
                return self._silent()
        if not self._ended:
            await self._drain()
        raise StopAsyncIteration

    async def prefetch(self) -> None:
        """Wait for the first batch. Raises RelayError if there is none to come."""
        self._prefetched = await anext(self)

    def _close(self) -> list[ChatEvent]:
        self._ended = True
        return self._decoder.close()

    def _silent(self) -> list[ChatEvent]:
        """No frame has come for too long; that hurts only an answer which is not whole yet."""
        if self._decoder.complete:
            return self._close()
        raise RelayError(Fault.UPSTREAM_TIMEOUT, _SILENCE)

    async def _read(self) -> bytes | None:
        """The next chunk; `None` at the end. What breaks after the answer was whole has broken nothing."""
        try:
            return await self._next_chunk()
        except StopAsyncIteration:
            return None
        except httpx.TransportError as exc:
            if self._decoder.complete:
                return None
            if isinstance(exc, httpx.ReadTimeout):
                raise RelayError(Fault.UPSTREAM_TIMEOUT, _SILENCE) from exc
            raise as_ours(exc) from exc

    async def _drain(self) -> None:
        """Read what follows `[DONE]`, so that the connection can be used again."""
        self._ended = True
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while True:
                    await self._next_chunk()
        except (StopAsyncIteration, TimeoutError, httpx.TransportError):
            return  # the answer was whole; at worst the connection is lost


async def one_batch(events: list[ChatEvent]) -> AsyncIterator[list[ChatEvent]]:
    """A whole answer's events as a stream."""
    yield events
