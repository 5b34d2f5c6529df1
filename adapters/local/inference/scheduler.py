"""Who is computed next: a queue, places in the cache, and a bounded amount of prefill beside every decode step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from adapters.local.inference.errors import QueueFull
from adapters.local.inference.request import Job
from adapters.local.inference.rows import Mover, Row, Rows

SHARE = 64
"""Tokens. A job waits for another's prefill if it can take over at least so many of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is done at once."""

    rows: int = 32
    """Jobs that are computed at once; the cache has so many rows."""
    queue: int = 256
    """Jobs that wait beside them."""
    keep: int = 32
    """Finished rows that are kept for prompts that begin alike, in rows without a job."""
    chunk: int = 256
    """Tokens of prompts a step while others decode: the longest they are held up."""
    idle_chunk: int = 1024
    """The same while nobody decodes."""
    least_chunk: int = 32
    """And at least so many, for a pass over fewer reads the same weights."""
    seconds: float = 0.025
    """So long may a pass over prompts take beside others that decode, as far as `least_chunk` allows: who leaves is
    heard between two passes."""
    idle_seconds: float = 0.04
    """The same while nobody decodes."""


class Sequence(Row):
    """A job under way: its tokens are the prompt and what has been generated."""

    __slots__ = ("awaited", "began", "cancelled", "job", "limit", "prompt_tokens", "reused")

    def __init__(self, job: Job, limit: int) -> None:
        """`limit`: tokens that may be generated."""
        super().__init__(list(job.prompt_ids), salt=job.salt)
        self.job = job
        self.limit = limit
        self.prompt_tokens = len(self.tokens)
        self.reused = 0
        self.began = 0.0
        self.cancelled = False
        self.awaited: tuple[Row | None, int] = (None, 0)
        """Who computes its beginning, and how many tokens of it."""

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    @property
    def missing(self) -> int:
        """Tokens of the prompt that are yet to be computed."""
        return max(0, self.prompt_tokens - self.cached)


S = TypeVar("S", bound=Sequence)


class Scheduler(Generic[S]):
    """Decides; touches neither model nor clock. Used by the engine's thread alone, but for `check_room`."""

    def __init__(self, limits: Limits, mover: Mover, *, timed: bool = True) -> None:
        """`timed`: how long passes took tells how much the next may be; else a chunk is all that bounds it."""
        self.limits = limits
        self._timed = timed
        self.rows: Rows[S] = Rows(limits.rows, mover, limits.keep)
        self.waiting: deque[S] = deque()
        self._seconds_a_job = 1.0
        self._oldest_first = False
        self._tokens_a_second: float | None = None

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.rows.filling or self.rows.live)

    def check_room(self, jobs: int, arrived: int, now: float) -> None:
        """Whether so many may come, beside those that have `arrived` and were not looked at yet. Raises QueueFull."""
        room = self.limits.queue + self.rows.room - len(self.waiting) - arrived
        if jobs > room:
            raise QueueFull(self.wait_for(jobs - room, now))

    def wait_for(self, places: int, now: float) -> float:
        """Seconds until so many jobs have likely ended. What runs has lasted half of its time, as far as one knows."""
        ages = [now - sequence.began for sequence in (*self.rows.live, *self.rows.filling)]
        seconds_a_job = max(self._seconds_a_job, 2 * sum(ages) / len(ages) if ages else 0.0)
        return max(1.0, seconds_a_job * places / self.limits.rows)

    def cancelled(self) -> list[S]:
        """Those that were cancelled, wherever they are."""
        return [s for s in (*self.rows.live, *self.rows.filling, *self.waiting) if s.cancelled]

    def admit(self, now: float) -> list[S]:
        """Gives rows to those who have waited longest.

        One whose beginning is just being computed for another is passed over until it can be taken over.
        """
        admitted: list[S] = []
        for sequence in list(self.waiting):
            if not self.rows.room:
                break
            if self._awaits(sequence):
                continue
            self.waiting.remove(sequence)
            sequence.began = now
            self.rows.take(sequence)
            sequence.reused = sequence.cached
            admitted.append(sequence)
        return admitted

    def _awaits(self, sequence: S) -> bool:
        """Whether its beginning is just being computed for another.

        Whose that is, and how much of it, is remembered: prompts are long, and all that wait are asked in every step.
        """
        ahead, length = sequence.awaited
        if ahead in self.rows.filling and ahead.cached < length:
            return True
        ahead, length = self.rows.coming(sequence)
        if ahead is None or length < SHARE or length <= self.rows.shared(sequence)[1]:
            return False
        sequence.awaited = ahead, length
        return True

    def prefill(self) -> list[tuple[S, int]]:
        """The prompts to go on with in this step, and how many tokens of each: in bounds when padded to the first.

        The oldest prompt and the one that is done soonest take turns to be the first: nobody's short question waits
        for the long ones before it, and no long one waits for ever.
        """
        self._oldest_first = not self._oldest_first
        filling = self.rows.filling if self._oldest_first else sorted(self.rows.filling, key=lambda s: s.missing)
        budget = self._budget()
        parts: list[tuple[S, int]] = []
        width = 0
        for sequence in filling:
            count = min(sequence.missing, width or budget)
            width = width or count
            if (len(parts) + 1) * width > budget:
                break
            if count * 2 >= width:  # else more padding than prompt
                parts.append((sequence, count))
        return parts

    def prefilled(self, tokens: int, seconds: float) -> None:
        """A pass over so many tokens, padding included, has taken so long. One over few tells nothing of many."""
        if tokens < self.limits.least_chunk:
            return
        rate = tokens / max(seconds, 1e-6)
        known = self._tokens_a_second
        self._tokens_a_second = rate if known is None else known + 0.3 * (rate - known)

    def _budget(self) -> int:
        limits = self.limits
        most, seconds = (limits.chunk, limits.seconds) if self.rows.live else (limits.idle_chunk, limits.idle_seconds)
        if not self._timed:
            return most
        # The first is a small one: of a large model, on a CPU, an unbounded one would take minutes.
        return min(most, max(limits.least_chunk, int((self._tokens_a_second or 0) * seconds)))

    def remove(self, sequence: S, now: float, *, keep: bool) -> None:
        """It has ended, or given up waiting. `keep` what is cached of it for others."""
        if sequence.index < 0:
            self.waiting.remove(sequence)
            return
        self.rows.leave(sequence, keep)
        self._seconds_a_job += 0.1 * (now - sequence.began - self._seconds_a_job)
