"""A job under way, with its sampler's state and the one who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from adapters.local.inference.request import Job
from adapters.local.inference.sampling import SamplerState
from adapters.local.inference.scheduler import Sequence
from adapters.local.inference.stream import JobStream


class Run(Sequence):
    __slots__ = ("state", "stream")

    def __init__(self, job: Job, limit: int, cancel: Callable[[Run], None], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(job, limit)
        self.stream = JobStream(loop, lambda: cancel(self))
        self.state = SamplerState(job)
