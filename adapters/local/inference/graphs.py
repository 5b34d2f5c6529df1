"""CUDA graphs: a step recorded once and started as one piece.

Facts about torch 2.8 to 2.13, read in torch/cuda/graphs.py and aten/src/ATen/cuda/CUDAGraph.cpp: a recording that CUDA
gives up leaves the thread on its side stream and the allocator in the recording; a step that waits for the device is
such a case, and `set_sync_debug_mode` finds it before anything is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

log = logging.getLogger(__name__)


class GraphRecorder:
    """A `Recorder` whose graphs share their memory: of the logits of all of them the newest are good.

    A model that cannot be recorded, since it waits for the device in its middle or since memory does not suffice, runs
    as it is from then on; that is said once. What was recorded before stays.
    """

    def __init__(self, cuda: Any = torch.cuda) -> None:
        self._cuda = cuda
        self._usable = True
        self._stream: Any = None
        self._pool: Any = None
        self._broken: Any = None

    def __call__(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """Raises what the step raises by itself."""
        if not self._usable:
            return step
        cuda = self._cuda
        if self._stream is None:
            # One for all: the matrix library keeps memory of its own for each stream that it was used on.
            self._stream, self._pool = cuda.Stream(), cuda.graph_pool_handle()
        with self._side_stream():
            step()  # kernels are compiled, loaded and chosen with the first
        try:
            with self._side_stream():
                with self._no_waiting():
                    step()
                return self._record(step)
        except RuntimeError as exc:
            self._usable = False
            cuda.synchronize()  # raises where it was the device that failed
            log.warning("steps cannot be recorded and are started kernel by kernel: %s", str(exc).partition("\n")[0])
            return step

    @contextmanager
    def _side_stream(self) -> Iterator[None]:
        """After all that was begun, and before all that will be; the thread's own stream in any case when it ends."""
        cuda = self._cuda
        own = cuda.current_stream()
        self._stream.wait_stream(own)
        try:
            with cuda.stream(self._stream):
                yield
        finally:
            own.wait_stream(self._stream)

    @contextmanager
    def _no_waiting(self) -> Iterator[None]:
        """Raises RuntimeError for an operation that waits for the device."""
        before = self._cuda.get_sync_debug_mode()
        self._cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            self._cuda.set_sync_debug_mode(before)

    def _record(self, step: Callable[[], Any]) -> Callable[[], Any]:
        cuda = self._cuda
        graph = cuda.CUDAGraph()
        try:
            # What other threads ask of CUDA meanwhile is no fault of this recording.
            with cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                logits = step()
        except RuntimeError:
            # The allocator would ask this graph about every later allocation, and never give back what it keeps.
            self._broken = graph
            with suppress(RuntimeError):  # it has ended: the step failed, and not the recording
                cuda.memory._cuda_endAllocateToPool(cuda.current_device(), self._pool)
            raise

        def replay() -> Any:
            graph.replay()
            return logits

        return replay
