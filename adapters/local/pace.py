"""The supervisor's times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient the supervisor is. All times in seconds."""

    check_interval: float = 5.0
    jitter: float = 0.2
    """Share of the interval by which one check may come sooner or later."""
    check_timeout: float = 5.0
    recheck_interval: float = 0.5
    """Between the checks of an engine that a caller has reported or that has just failed one."""
    failures_allowed: int = 3
    hung_after: float = 300.0
    first_backoff: float = 1.0
    longest_backoff: float = 60.0
    good_run: float = 60.0
    backoff_patience: float = 5.0
    """A request waits for an engine that comes back sooner than this."""
    room_timeout: float = 60.0
    drain_timeout: float = 30.0
    recall_timeout: float = 2.0
    """For the processes that use an engine to say that they are not using it now."""
    survey_timeout: float = 2.0
    """For the worker processes to say how their replicas are."""
    survey_interval: float = 0.2
    """Between two such questions, while somebody waits for a replica to finish what it has."""
