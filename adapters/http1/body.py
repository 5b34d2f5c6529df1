"""An answer's body, as httpx's stream."""

from __future__ import annotations

import asyncio

import httpx

from adapters.http1.answer import Answer
from adapters.http1.connection import Connection
from adapters.http1.silence import Silence


class Body(httpx.AsyncByteStream):
    """Each piece as soon as it is there, in the size in which it came; those that have piled up come as one.

    It can be left and read on at any point: a wait that is cancelled loses nothing. Its `__anext__` raises ReadError
    (cut off), RemoteProtocolError (malformed or incomplete) and ReadTimeout.
    """

    def __init__(self, answer: Answer, connection: Connection, idle: float | None) -> None:
        """`idle`: seconds that a wait may last."""
        loop = asyncio.get_running_loop()
        self._answer = answer
        self._pieces = answer.pieces
        self._connection = connection
        self._clock = loop.time
        self._silence = Silence(loop, self._fall_silent)
        self.set_idle(idle)

    def set_idle(self, seconds: float | None) -> None:
        """How long the peer may be silent from now on; `None`: for ever."""
        if not self._answer.complete:
            self._silence.limit(seconds)

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        pieces, answer = self._pieces, self._answer
        while not pieces:
            if answer.complete:
                self._silence.end()
                raise StopAsyncIteration
            if self._connection.failure is not None:
                self._silence.end()
                kind, text = self._connection.failure
                raise kind(text) from None
            self._silence.since = self._clock()
            try:
                await self._connection.wait()
            finally:
                self._silence.since = None
        if len(pieces) == 1:
            piece = pieces.pop()
        else:
            piece = b"".join(pieces)
            pieces.clear()
        if not answer.complete:  # else the connection may be with another exchange
            self._connection.taken()
        return piece

    async def aclose(self) -> None:
        self._silence.end()
        if not self._answer.complete:
            self._connection.abort()

    def _fall_silent(self) -> None:
        if self._pieces:  # they have come just now
            self.set_idle(self._silence.seconds)
        elif not self._answer.complete:
            self._connection.fail(httpx.ReadTimeout, "The upstream fell silent in the middle of its answer.")
