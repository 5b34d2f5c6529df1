"""CUDA graphs: a step recorded once and started as one piece."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

log = logging.getLogger(__name__)

_WARM_UP = 2
"""Steps before the recorded one: kernels are loaded and chosen with the first."""


class GraphRecorder:
    """A `Recorder` whose graphs share their memory: of the logits of all of them the newest are good.

    A model that cannot be recorded, since it waits for the device in its middle, runs as it is; that is said once.
    """

    def __init__(self, cuda: Any = torch.cuda) -> None:
        self._cuda = cuda
        self._pool: Any = None
        self._usable = True

    def __call__(self, step: Callable[[], Any]) -> Callable[[], Any]:
        if not self._usable:
            return step
        try:
            return self._record(step)
        except RuntimeError as exc:
            self._usable = False
            log.warning("steps cannot be recorded and are started kernel by kernel: %s", str(exc).partition("\n")[0])
            return step

    def _record(self, step: Callable[[], Any]) -> Callable[[], Any]:
        cuda = self._cuda
        stream = cuda.Stream()
        stream.wait_stream(cuda.current_stream())
        with cuda.stream(stream):
            for _ in range(_WARM_UP):
                step()
        cuda.current_stream().wait_stream(stream)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph, pool=self._pool):
            logits = step()
        self._pool = self._pool or graph.pool()

        def replay() -> Any:
            graph.replay()
            return logits

        return replay
