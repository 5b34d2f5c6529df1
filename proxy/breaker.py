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

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Learn from how the request inside ends; one that is given up says nothing."""
        trial = self._failures >= THRESHOLD
        self._trial = self._trial or trial
        try:
            yield
        except RelayError as exc:
            if exc.fault in _FAILURES:
                self._failed(trial)
            else:  # it answers, if only to refuse
                self._close()
            raise
        else:
            self._close()
        finally:
            if trial:
                self._trial = False

    def _failed(self, trial: bool) -> None:
        self._failures += 1
        if trial:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if self._failures >= THRESHOLD:
            self._until = self._clock() + self._pause

    def _close(self) -> None:
        self._failures = 0
        self._pause = FIRST_PAUSE


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
