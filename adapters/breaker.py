"""Circuit breakers: an upstream that keeps failing is left alone for a while, then tried with one request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adapters.errors import Fault, RelayError

THRESHOLD = 3  # failures in a row
FIRST_PAUSE = 5.0  # seconds; twice as long after each failed trial
LONGEST_PAUSE = 60.0
_MOST = 1000  # models come from callers

_FAIR = 10.0  # seconds; who gives an upstream less, and waits in vain, has learnt nothing of it
_MOST_OF_IT = 0.6  # some of what a caller gives may be kept for who is asked next

_WAITS = frozenset((Fault.UPSTREAM_TIMEOUT, Fault.UPSTREAM_UNREACHABLE))
_FAILURES = frozenset((Fault.UPSTREAM_ERROR, Fault.UPSTREAM_TIMEOUT, Fault.UPSTREAM_UNREACHABLE))


class Breaker:
    """Closed while all is well, open after `THRESHOLD` failures in a row, then half open for a single trial."""

    __slots__ = ("_clock", "_failures", "_pause", "_trial", "_until")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._until = 0.0
        self._trial = False

    @property
    def admits(self) -> bool:
        """Whether a request may be sent that way now."""
        return self._failures < THRESHOLD or (not self._trial and self._clock() >= self._until)

    @property
    def is_open(self) -> bool:
        """Whether it has seen too many failures, and no good trial since."""
        return self._failures >= THRESHOLD

    @property
    def pause(self) -> float:
        """Seconds until the next trial; 0 where none has to be waited for."""
        return max(0.0, self._until - self._clock()) if self.is_open else 0.0

    @contextmanager
    def watching(self, given: float = float("inf")) -> Iterator[None]:
        """Learn from how the request inside ends; one that is given up says nothing.

        `given` is for how many seconds its caller waits: one in a hurry must not shut out all the others.
        """
        with self.beginning(given):
            yield
        self.close()

    @contextmanager
    def beginning(self, given: float = float("inf")) -> Iterator[None]:
        """As `watching`, where an answer has only begun by the end of the block: how it ends is for `close` or `broke`.

        A trial is over by then, for an answer may take its time.
        """
        trial = self.is_open
        self._trial = self._trial or trial
        started = self._clock()
        try:
            yield
        except RelayError as exc:
            if exc.fault in _WAITS and given < _FAIR and self._clock() - started >= _MOST_OF_IT * given:
                pass
            elif exc.fault in _FAILURES:
                self._failed(trial)
            else:  # it answers, if only to refuse
                self.close()
            raise
        else:
            if trial:
                self.close()
        finally:
            if trial:
                self._trial = False

    def broke(self, error: RelayError) -> None:
        """Learn of an answer that had begun well and ended in an error."""
        if error.fault in _FAILURES:
            self._failed(trial=False)

    def close(self) -> None:
        """All is well."""
        self._failures = 0
        self._pause = FIRST_PAUSE

    def _failed(self, trial: bool) -> None:
        self._failures += 1
        if trial:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if self._failures >= THRESHOLD:
            self._until = self._clock() + self._pause


class Breakers:
    """One for each upstream and model: a model that fails must not shut out the others beside it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._breakers: dict[tuple[str, str], Breaker] = {}

    def of(self, upstream: str, model: str) -> Breaker:
        key = (upstream, model)
        breaker = self._breakers.get(key)
        if breaker is None:
            if len(self._breakers) >= _MOST:
                self._breakers.pop(next(iter(self._breakers)))
            breaker = self._breakers[key] = Breaker(self._clock)
        return breaker

    def count_open(self) -> dict[str, int]:
        """By upstream: how many of its models are left alone now, or tried."""
        counts: dict[str, int] = {}
        for (upstream, _), breaker in self._breakers.items():
            counts[upstream] = counts.get(upstream, 0) + breaker.is_open
        return counts
