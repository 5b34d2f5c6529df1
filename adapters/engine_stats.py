"""What an engine's answers have taught: the ground on which one of several replicas is chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from adapters.canonical import ChatEvent, Finish, Usage
from adapters.errors import Fault, RelayError
from adapters.tokens import estimate_text

_WEIGHT = 0.2  # of the newest value in a moving average

_FAULTS = frozenset(
    {
        *(Fault.UPSTREAM_UNREACHABLE, Fault.UPSTREAM_ERROR, Fault.UPSTREAM_TIMEOUT, Fault.UPSTREAM_AUTH),
        *(Fault.UPSTREAM_MISCONFIGURED, Fault.RATE_LIMITED, Fault.OVERLOADED),
    }
)
"""Those that an engine is to blame for, rather than the request."""


class EngineStats:
    """One engine's record; plain attributes, for everybody to read. Seconds; averages are `None` before the first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.first_token: float | None = None
        """Moving average of the time to a stream's first event."""
        self.tokens_per_second: float | None = None
        """Moving average, of one answer."""
        self.duration: float | None = None
        """Moving average of a whole answer's time, streamed or not."""
        self.answers = 0
        self.failures = 0
        """How many of the engine's failures there were in a row."""
        self.last_error: Fault | None = None
        self.last_error_at: float | None = None
        self.rests_until = 0.0
        """The engine asked for no new work before then; on the clock of `clock`."""

    def wait_for(self, ahead: int, places: int) -> float:
        """An estimate of the seconds until `ahead` others have been answered, `places` of them at a time."""
        each = 5.0 if self.duration is None else self.duration
        return min(max(1.0, each * ahead / places), 30.0)

    def failed(self, error: RelayError) -> None:
        """Note a failure; a client's mistake is none of the engine's, nor is a limit of the client's own field."""
        if error.fault not in _FAULTS or (error.fault is Fault.RATE_LIMITED and error.param is not None):
            return
        self.failures += 1
        self.last_error, self.last_error_at = error.fault, self.clock()
        if error.retry_after is not None:
            self.rests_until = self.clock() + error.retry_after

    def answered(self, seconds: float, tokens: int, generating: float) -> None:
        """Note an answer: its time, its tokens, and the seconds that these took."""
        self.answers += 1
        self.failures = 0
        self.duration = _moved(self.duration, seconds)
        if tokens and generating > 0:
            self.tokens_per_second = _moved(self.tokens_per_second, tokens / generating)

    def began(self, seconds: float) -> None:
        """Note the time to the first event of a stream."""
        self.first_token = _moved(self.first_token, seconds)


class Watch:
    """Follows one answer for the record."""

    def __init__(self, stats: EngineStats) -> None:
        self._stats = stats
        self._started = stats.clock()
        self._first: float | None = None
        self._characters = 0

    def batch(self, events: Sequence[ChatEvent]) -> None:
        """Note the events of a stream as they come."""
        if self._first is None:
            self._first = self._stats.clock()
            self._stats.began(self._first - self._started)
        for event in events:
            if isinstance(event, Finish):
                self.whole(event.usage)
            else:
                self._characters += len(event.text) + len(event.reasoning)

    def whole(self, usage: Usage | None) -> None:
        """Note the end of an answer; without a count its tokens are estimated."""
        now = self._stats.clock()
        tokens = estimate_text(self._characters) if usage is None else usage.completion_tokens
        self._stats.answered(now - self._started, tokens, now - (self._first or self._started))

    def embedded(self) -> None:
        """Note the end of embeddings, which generate nothing."""
        self._stats.answered(self._stats.clock() - self._started, 0, 0.0)


def _moved(average: float | None, value: float) -> float:
    return value if average is None else average + _WEIGHT * (value - average)
