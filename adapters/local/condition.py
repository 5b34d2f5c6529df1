"""What a look at an engine can show, and when enough has been seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum

from adapters.local.address import EngineAddress
from adapters.local.spec import EngineSpec


class Condition(Enum):
    """READY takes requests; LOADING answers, but takes none yet; SILENT is too slow; GONE refuses or makes no sense."""

    READY = "ready"
    LOADING = "loading"
    SILENT = "silent"
    GONE = "gone"


Probe = Callable[[EngineSpec, EngineAddress], Awaitable[Condition]]
"""Looks at an engine once, by whatever its profile says is right, and raises nothing. It is cancelled when it takes
longer than a check may, which counts as SILENT."""


class Checkup:
    """Decides after each check of a running engine whether it is to be given up.

    An engine that computes may answer nothing else meanwhile (chatglm.cpp's does not): silent while requests are open
    is busy. It hangs only if it has been so for `hung_after` seconds and callers have reported failures all the while.
    """

    def __init__(self, *, failures_allowed: int, hung_after: float) -> None:
        self._failures_allowed = failures_allowed
        self._hung_after = hung_after
        self._failures = 0
        self._reports = 0
        self._silent_since: float | None = None

    def report(self) -> None:
        """A caller could not use the engine."""
        self._reports += 1

    def sick(self, health: Condition, *, busy: bool, now: float) -> bool:
        """Whether the engine is to be given up; `now` in seconds of any clock."""
        if health is Condition.READY:
            self._failures = self._reports = 0
            self._silent_since = None
            return False
        if health is Condition.SILENT and busy:
            if self._silent_since is None:
                self._silent_since = now
            hung = now - self._silent_since >= self._hung_after
            return hung and self._reports >= self._failures_allowed
        self._failures += 1
        return self._failures >= self._failures_allowed
