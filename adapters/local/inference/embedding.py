"""Vectors for many callers at once: one thread owns the model, and merges what waits into batches of alike lengths."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from adapters.local.inference.encoder import Encoder
from adapters.local.inference.errors import (
    EngineClosed,
    EngineDead,
    InferenceError,
    InputTooLong,
    InvalidJob,
    JobFailed,
    QueueFull,
)
from adapters.local.inference.folder import EmbeddingCard
from adapters.local.inference.options import ModelOptions
from adapters.local.inference.progress import OnProgress

log = logging.getLogger(__name__)

Vector = list[float]


class _Request:
    """Some texts of one caller, who waits for all of their vectors."""

    def __init__(self, texts: Sequence[Sequence[int]], loop: asyncio.AbstractEventLoop) -> None:
        self.texts = texts
        self.loop = loop
        self.vectors: list[Vector | None] = [None] * len(texts)
        self.answer: asyncio.Future[list[Vector]] = loop.create_future()
        self.over = False
        """Answered, failed or given up."""

    def put(self, index: int, vector: Vector) -> None:
        self.vectors[index] = vector
        if not self.over and None not in self.vectors:
            self._settle(self.answer.set_result, self.vectors)

    def fail(self, error: InferenceError) -> None:
        if not self.over:
            self._settle(self.answer.set_exception, error)

    def _settle(self, settle: Callable[[Any], None], what: Any) -> None:
        self.over = True

        def now() -> None:
            if not self.answer.done():  # it may have been cancelled meanwhile
                settle(what)

        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(now)


class _Text:
    __slots__ = ("ids", "index", "request")

    def __init__(self, request: _Request, index: int) -> None:
        self.request = request
        self.index = index
        self.ids = request.texts[index]


class EmbeddingModel:
    """`start` it, await `embed` in event loops, `close` it."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        batch_tokens: int = 8192,
        queue_tokens: int = 2**20,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`batch_tokens`: computed at once, padding counted; `queue_tokens`: that wait beside them."""
        self._encoder = encoder
        self._batch_tokens = batch_tokens
        self._queue_tokens = queue_tokens
        self._now = now
        self._changed = threading.Condition()
        self._waiting: list[_Text] = []
        self._waiting_tokens = 0
        self._tokens_per_second = 1000.0
        self._end: InferenceError | None = None
        self._thread = threading.Thread(target=self._work, name="embedding", daemon=True)

    @classmethod
    def load(cls, folder: Path, options: ModelOptions, on_progress: OnProgress | None = None) -> EmbeddingModel:
        """Raises UnsupportedModel. Takes seconds to minutes: not for the event loop. Nothing is downloaded."""
        return cls(Encoder.load(folder, options, on_progress))

    @property
    def card(self) -> EmbeddingCard:
        """What is to be done to texts before they are tokens: prompts, lower case."""
        return self._encoder.card

    @property
    def max_tokens(self) -> int:
        """Of one text."""
        return self._encoder.max_tokens

    @property
    def vocabulary(self) -> int:
        return self._encoder.vocabulary

    @property
    def size(self) -> int:
        """Of a vector that is not cut."""
        return self._encoder.size

    @property
    def dead(self) -> bool:
        """Whether it failed and only a new process helps."""
        return isinstance(self._end, EngineDead)

    @property
    def waiting(self) -> int:
        """Texts."""
        return len(self._waiting)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Fail all callers with EngineClosed and wait for the thread: at most one batch, but not for the event loop."""
        with self._changed:
            self._end = self._end or EngineClosed("the model was stopped")
            self._changed.notify()
        self._thread.join()

    async def embed(self, texts: Sequence[Sequence[int]], dimensions: int | None = None) -> list[Vector]:
        """A unit vector for each text, special tokens included in it; `dimensions`: cut to so many, and scaled again.

        Raises InvalidJob, InputTooLong, QueueFull, JobFailed, EngineClosed, EngineDead.
        """
        self._check(texts, dimensions)
        request = _Request(texts, asyncio.get_running_loop())
        tokens = sum(map(len, texts))
        with self._changed:
            if self._end:
                raise type(self._end)(*self._end.args)
            # One that is larger than the queue is let in when nobody waits: else it never would be.
            if self._waiting and self._waiting_tokens + tokens > self._queue_tokens:
                excess = self._waiting_tokens + tokens - self._queue_tokens
                raise QueueFull(max(1.0, min(excess, self._waiting_tokens) / self._tokens_per_second))
            self._waiting.extend(_Text(request, index) for index in range(len(texts)))
            self._waiting_tokens += tokens
            self._changed.notify()
        try:
            vectors = await request.answer
        finally:
            request.over = True
        return vectors if dimensions is None else [cut(vector, dimensions) for vector in vectors]

    def _check(self, texts: Sequence[Sequence[int]], dimensions: int | None) -> None:
        if not texts:
            raise InvalidJob("input", "there must be a text at least")
        for text in texts:
            if not text:
                raise InvalidJob("input", "a text has at least one token")
            if len(text) > self.max_tokens:
                raise InputTooLong(len(text), self.max_tokens)
            if min(text) < 0 or max(text) >= self.vocabulary:
                raise InvalidJob("input", f"a token is not in 0..{self.vocabulary - 1}")
        if dimensions is not None and not 1 <= dimensions <= self.size:
            raise InvalidJob("dimensions", f"must be in 1..{self.size}")

    # ---------------------------------------------------------------- its thread

    def _work(self) -> None:
        with torch.inference_mode():
            while batch := self._collect():
                began = self._now()
                self._compute(batch)
                seconds = max(self._now() - began, 1e-6)
                rate = sum(len(text.ids) for text in batch) / seconds
                self._tokens_per_second += 0.2 * (rate - self._tokens_per_second)
        with self._changed:
            left, self._waiting = self._waiting, []
        for text in left:
            text.request.fail(self._end or EngineClosed("the model was stopped"))

    def _collect(self) -> list[_Text]:
        """Waits for texts; none: it is time to end."""
        with self._changed:
            while not self._end:
                self._waiting = [text for text in self._waiting if not text.request.over]
                if self._waiting:
                    batch = choose(self._waiting, self._batch_tokens)
                    taken = set(map(id, batch))
                    self._waiting = [text for text in self._waiting if id(text) not in taken]
                    self._waiting_tokens = sum(len(text.ids) for text in self._waiting)
                    return batch
                self._waiting_tokens = 0
                self._changed.wait()
        return []

    def _compute(self, batch: list[_Text]) -> None:
        """Halves a batch that fails, so that a text which is too much alone fails alone."""
        try:
            vectors = self._encoder.encode([text.ids for text in batch])
        except torch.AcceleratorError as exc:
            log.error("the device failed", exc_info=exc)
            with self._changed:
                self._end = EngineDead(f"the device failed: {type(exc).__name__}")
            for text in batch:
                text.request.fail(self._end)
            return
        except Exception as exc:  # noqa: BLE001 - whatever it was, the caller must hear of it, and the others go on
            if len(batch) > 1:
                self._compute(batch[: len(batch) // 2])
                self._compute(batch[len(batch) // 2 :])
                return
            log.warning("a text could not be embedded: %s", type(exc).__name__)
            batch[0].request.fail(JobFailed(f"the text could not be embedded: {type(exc).__name__}"))
            return
        finite = vectors.isfinite().all(-1).tolist()
        for text, vector, sound in zip(batch, vectors.tolist(), finite, strict=True):
            if sound:
                text.request.put(text.index, vector)
            else:
                text.request.fail(JobFailed("the model gave numbers that are not finite"))


def choose(waiting: Sequence[_Text], budget: int) -> list[_Text]:
    """The one that has waited longest, and those of nearest length that fit a batch of `budget` tokens with it."""
    first = waiting[0]
    others = sorted(waiting[1:], key=lambda text: abs(len(text.ids) - len(first.ids)))
    batch, width = [first], len(first.ids)
    for text in others:
        width = max(width, len(text.ids))
        if (len(batch) + 1) * width > budget:
            break
        batch.append(text)
    return batch


def cut(vector: Vector, dimensions: int) -> Vector:
    """Its first numbers, of length 1 again."""
    part = vector[:dimensions]
    length = sum(number * number for number in part) ** 0.5
    return [number / length for number in part] if length else part
