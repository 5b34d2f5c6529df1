"""The engine: one thread owns model and cache; jobs come from event loops and join and leave at any step."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from adapters.local.inference.errors import EngineClosed, EngineDead, InferenceError, InvalidJob, JobFailed
from adapters.local.inference.free import use_device
from adapters.local.inference.model import BatchedModel, Piece
from adapters.local.inference.request import Finish, FinishReason, Job, Step, Token, check_job
from adapters.local.inference.run import Run
from adapters.local.inference.sampling import Sampler, constraint_failed
from adapters.local.inference.scheduler import Limits, Scheduler
from adapters.local.inference.stats import Meter, Stats
from adapters.local.inference.stream import JobStream, Outbox
from adapters.local.inference.upload import upload

log = logging.getLogger(__name__)

_SWITCH_INTERVAL = 0.0005
"""Seconds; Python's own is ten times as long. It is the process's, which runs an engine and little else."""


class Engine:
    """Continuous batching over one model. `start` it, `submit` jobs from event loops, `close` it."""

    def __init__(self, model: BatchedModel, limits: Limits, now: Callable[[], float] = time.monotonic) -> None:
        """`limits.rows` is at most the number of rows that the model's cache was made with."""
        self._model = model
        self._now = now
        self._scheduler: Scheduler[Run] = Scheduler(limits, model.cache, timed=not model.runs_ahead)
        self._sampler = Sampler(model.vocabulary, model.device)
        self._outbox = Outbox()
        self._meter = Meter()
        self._changed = threading.Condition()
        self._arrived: list[Run] = []
        self._some_cancelled = False
        self._end: InferenceError | None = None
        self._prompted = self._reused = 0
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)

    # ---------------------------------------------------------------- for those who use it, in any thread

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together."""
        return self._model.context

    @property
    def vocabulary(self) -> int:
        return self._model.vocabulary

    @property
    def dead(self) -> bool:
        """Whether it failed and only a new process helps."""
        return isinstance(self._end, EngineDead)

    def start(self) -> None:
        # The thread asks for the interpreter's lock after each of a step's hundreds of operations, and gets it from an
        # event loop at work only after this time. Measured with 32 streams: 5 % more tokens, half the p99 between them.
        sys.setswitchinterval(min(_SWITCH_INTERVAL, sys.getswitchinterval()))
        self._thread.start()

    def close(self) -> None:
        """End all jobs with EngineClosed and wait for the thread: at most one step, but not for the event loop."""
        with self._changed:
            self._end = self._end or EngineClosed("the engine was stopped")
            self._changed.notify()
        self._thread.join()

    def submit(self, job: Job) -> JobStream:
        """Begin a job, in a running event loop.

        Raises InvalidJob, PromptTooLong, QueueFull, EngineClosed, EngineDead.
        """
        return self.submit_all([job])[0]

    def submit_all(self, jobs: Sequence[Job]) -> list[JobStream]:
        """As `submit`: all of them or none."""
        limits = self._scheduler.limits
        if len(jobs) > (most := limits.rows + limits.queue):
            raise InvalidJob("n", f"this engine takes no more than {most} answers at once")
        for job in jobs:
            check_job(job, vocabulary=self.vocabulary, context=self.context)
        loop = asyncio.get_running_loop()
        runs = [Run(job, min(job.max_tokens, self.context - len(job.prompt_ids)), self._cancel, loop) for job in jobs]
        with self._changed:
            if self._end:
                raise type(self._end)(*self._end.args)
            self._scheduler.check_room(len(runs), len(self._arrived), self._now())
            self._arrived.extend(runs)
            self._changed.notify()
        return [run.stream for run in runs]

    def stats(self) -> Stats:
        rows = self._scheduler.rows
        with self._changed:
            waiting = len(self._scheduler.waiting) + len(self._arrived)
            rate = self._meter.rate(self._now())
        return Stats(
            running=len(rows.live),
            prefilling=len(rows.filling),
            waiting=waiting,
            kept=len(rows.kept),
            tokens_per_second=rate,
            generated_tokens=self._meter.total,
            prompt_tokens=self._prompted,
            reused_tokens=self._reused,
            cache_use=rows.cached_tokens / (rows.count * self.context),
            cache_bytes=self._model.cache.nbytes,
        )

    def _cancel(self, run: Run) -> None:
        run.cancelled = True
        self._some_cancelled = True  # in this order: the thread resets it before it looks

    # ---------------------------------------------------------------- its thread

    def _work(self) -> None:
        try:
            use_device(self._model.device)
            with torch.inference_mode():
                while self._collect():
                    self._step()
        except BaseException as exc:  # noqa: BLE001 - whatever it was, as a panic in Rust: those who wait must hear of it
            log.error("the engine failed", exc_info=exc)
            with self._changed:
                self._end = EngineDead(f"the engine failed: {type(exc).__name__}")
        self._end_all()

    def _collect(self) -> bool:
        """Waits for something to do and takes in what has arrived; false: it is time to end."""
        with self._changed:
            while not (self._arrived or self._scheduler.busy or self._end):
                self._changed.wait()
            arrived, self._arrived = self._arrived, []
            self._scheduler.waiting.extend(arrived)
        if any(run.cancelled for run in arrived):  # no `|=`: between its read and its write others may set it
            self._some_cancelled = True
        return self._end is None

    def _step(self) -> None:
        """One pass over prompts, one over all that decode. Before either, whoever was cancelled makes room."""
        self._make_room()
        if parts := self._scheduler.prefill():
            self._prefill(parts)
            if self._some_cancelled:
                self._make_room()
        if decoding := list(self._scheduler.rows.live):
            self._decode(decoding)

    def _make_room(self) -> None:
        """Who was cancelled leaves and hears of it; who has waited longest comes in."""
        if self._some_cancelled:
            self._some_cancelled = False
            for run in self._scheduler.cancelled():
                self._finish(run, "cancelled")
            self._outbox.send()
        for run in self._scheduler.admit(self._now()):
            self._prompted += run.prompt_tokens
            self._reused += run.reused

    def _prefill(self, parts: list[tuple[Run, int]]) -> None:
        """So many tokens more of each of these prompts, and an answer's first for those that are complete with it."""
        pieces = [Piece(run.index, run.cached, run.tokens[run.cached : run.cached + count]) for run, count in parts]
        begun = self._now()
        logits = None
        try:
            logits = self._model.prefill(pieces)
        except torch.OutOfMemoryError:  # of the device, which goes on; what those who decode have cached is untouched
            log.error("the device has no memory for a pass over prompts", exc_info=True)
        if logits is None:  # and no frame of the failure holds tensors any more
            self._without_memory(parts)
            return
        self._scheduler.prefilled(len(parts) * max(count for _, count in parts), self._now() - begun)
        for run, count in parts:
            run.cached += count
        complete = [i for i, (run, _) in enumerate(parts) if not run.missing]
        if complete:
            runs = [parts[i][0] for i in complete]
            for run in runs:
                self._sampler.join(run.state)
                self._scheduler.rows.promote(run)
            self._sample(runs, logits[upload(complete, logits.device)])

    def _without_memory(self, parts: list[tuple[Run, int]]) -> None:
        """There may be enough for each of these prompts alone; for one alone there is none."""
        if len(parts) > 1:
            for part in parts:
                self._prefill([part])
            return
        ((run, count),) = parts
        run.cached += count  # so much of its row may have been written, in some layers
        self._finish(run, "error", error=JobFailed("the device has no memory for this prompt"))
        self._outbox.send()

    def _decode(self, runs: list[Run]) -> None:
        logits = self._model.decode([run.tokens[-1] for run in runs], [run.cached for run in runs])
        for run in runs:
            run.cached += 1
        self._sample(runs, logits)

    def _sample(self, runs: list[Run], logits: Any) -> None:
        """One token each."""
        answers = self._sampler.sample(logits, [run.state for run in runs])
        for run, answer in zip(runs, answers, strict=True):
            self._answer(run, answer)
        with self._changed:
            self._meter.count(self._now(), len(runs))
        self._outbox.send()

    def _answer(self, run: Run, answer: Token | JobFailed) -> None:
        if isinstance(answer, JobFailed):
            self._finish(run, "error", error=answer)
            return
        run.tokens.append(answer.id)
        reason: FinishReason | None = None
        if answer.id in run.job.stop_ids:
            reason = "stop"
        elif run.job.constraint is not None:
            try:
                reason = "stop" if run.job.constraint.advance(answer.id) else None
            except Exception as exc:  # noqa: BLE001 - it is another's code, and belongs to one job
                self._finish(run, "error", answer, constraint_failed(exc))
                return
        if reason is None and run.generated == run.limit:
            reason = "length"
        if reason:
            self._finish(run, reason, answer)
        else:
            self._outbox.put(run.stream, Step(answer))

    def _finish(
        self, run: Run, reason: FinishReason, token: Token | None = None, error: InferenceError | None = None
    ) -> None:
        sound = reason != "error" and not run.missing
        if not sound and run.index >= 0:
            self._model.cache.clear(run.index, run.cached)  # nobody has seen whether it is finite
        self._scheduler.remove(run, self._now(), keep=sound)
        self._sampler.leave(run.state)
        self._tell_end(run, reason, token, error)

    def _end_all(self) -> None:
        """Nothing is computed any more: only tell."""
        rows = self._scheduler.rows
        with self._changed:
            left = [*rows.live, *rows.filling, *self._scheduler.waiting, *self._arrived]
            self._arrived = []
            rows.live, rows.filling = [], []
            self._scheduler.waiting.clear()
        for run in left:
            self._tell_end(run, "error", None, self._end)
        self._outbox.send()

    def _tell_end(self, run: Run, reason: FinishReason, token: Token | None, error: InferenceError | None) -> None:
        finish = Finish(reason, run.prompt_tokens, run.reused, run.generated, error)
        self._outbox.put(run.stream, Step(token, finish))
