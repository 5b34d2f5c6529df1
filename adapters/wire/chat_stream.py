"""What every chat stream from upstream has in common: where it ends, and what is told of it when it breaks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from adapters.canonical import ChatEvent, FinishReason
from adapters.errors import Fault, RelayError, UpstreamTruncated
from adapters.wire import sse


class ChatStreamReader(ABC):
    """A stream cut anywhere, to events; a subclass knows the form of its frames.

    `Finish` comes with `[DONE]`, or from `close` where a finish reason or the usage tail had shown that the answer is
    whole: some servers never send `[DONE]`.
    """

    upstream: ClassVar[str] = "upstream"
    """How messages call whoever speaks."""

    def __init__(self) -> None:
        self._sse = sse.SSEDecoder()
        self._reason: FinishReason | None = None
        self._reason_seen = self._tail_seen = False
        self.frames = 0
        """Frames read so far; one that says nothing is a sign of life too."""
        self.done = False
        self.failure: RelayError | None = None
        """What is to be raised after the events given last."""

    @property
    def complete(self) -> bool:
        """The upstream has said that the answer is whole; what may still come is its usage."""
        return self.done or self._reason_seen or self._tail_seen

    def feed(self, chunk: bytes) -> list[ChatEvent]:
        """Events completed by `chunk`. Raises RelayError for a frame that cannot be read or is an error.

        Events that came before such a frame are given first; the error is then in `failure`.
        """
        if self.failure is not None:
            raise self.failure
        try:
            payloads = self._sse.feed(chunk)
        except sse.FrameTooLong:
            raise RelayError(Fault.UPSTREAM_ERROR, f"The {self.upstream} sent a frame without an end.") from None
        return self._take(payloads)

    def close(self) -> list[ChatEvent]:
        """The upstream has ended. Raises UpstreamTruncated if it stopped before its answer was whole."""
        if self.failure is not None:
            raise self.failure
        if self.done:
            return []
        events = self._take(self._sse.close())
        if self.done or self.failure is not None:
            return events
        if self.complete:
            return [*events, *self._finish()]
        return self._fail(UpstreamTruncated(), events)

    def _take(self, payloads: list[bytes]) -> list[ChatEvent]:
        events: list[ChatEvent] = []
        try:
            for payload in payloads:
                if self.done:
                    break
                if payload.strip() != sse.DONE:
                    self._frame(payload, events)
                elif self.frames:
                    events += self._finish()
                else:
                    raise self._empty()
        except RelayError as exc:
            return self._fail(exc, events)
        return events

    def _fail(self, failure: RelayError, events: list[ChatEvent]) -> list[ChatEvent]:
        """Raise `failure`, or first give what came before it in the same read."""
        if not events:
            raise failure
        self.failure = failure
        return events

    @abstractmethod
    def _frame(self, payload: bytes, events: list[ChatEvent]) -> None:
        """Add what a frame says to `events`. Raises RelayError for one that cannot be read or is an error."""

    @abstractmethod
    def _finish(self) -> list[ChatEvent]:
        """What was held back, and `Finish`; sets `done`."""

    @abstractmethod
    def _empty(self) -> RelayError:
        """What an end without any frame is."""
