"""Steps in few shapes: what is computed in them, which there are, and how they are recorded."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapters.local.inference.attention import NAME
from adapters.local.inference.graphs import GraphRecorder
from adapters.local.inference.model import BatchedModel, Piece
from adapters.local.inference.steps import FixedSteps, doubling, row_sizes
from adapters.local.inference.upload import send, upload
from tests.inference.with_torch.tiny import VOCABULARY, generated, tiny

PROMPTS = [[(11 * i + j) % VOCABULARY for i in range(length)] for j, length in enumerate([90, 3, 40])]


class Seen:
    """A forward pass that notes its shapes and adds up its inputs."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []
        self.written: list[int] = []

    def __call__(self, ids: Any, see: Any, write: Any, length: int) -> Any:
        self.shapes.append((len(ids), length))
        self.written = write[:, 0].tolist()
        return ids * 1000 + see


def steps(forward: Any, **changes: Any) -> FixedSteps:
    usual: dict[str, Any] = {
        "rows": 6,
        "lengths": [64, 128, 200],
        "waste_position": 199,
        "device": "cpu",
        "record": lambda step: step,
    }
    return FixedSteps(forward, **usual | changes)


def test_a_step_has_the_next_shape_that_there_is_and_its_padding_writes_where_nobody_looks() -> None:
    seen = Seen()
    fixed = steps(seen)
    assert fixed.decode([7, 8, 9], [0, 63, 20]).tolist() == [[7000], [8063], [9020]]
    assert seen.written == [0, 63, 20, 199]
    assert fixed.decode([5], [64]).tolist() == [[5064]]
    assert fixed.decode([1] * 6, [2, 199, 2, 2, 2, 2])[1].tolist() == [1199]
    assert seen.written == [2, 199, 2, 2, 2, 2]
    assert seen.shapes == [(4, 64), (1, 128), (6, 200)]


def test_each_shape_is_recorded_once_and_on_its_own_tensors() -> None:
    recorded: list[Callable[[], Any]] = []

    def record(step: Callable[[], Any]) -> Callable[[], Any]:
        recorded.append(step)
        return step

    seen = Seen()
    fixed = steps(seen, record=record)
    fixed.record_all()
    assert (len(recorded), seen.shapes) == (4, [])  # 1, 2, 4 and 6 rows
    assert [fixed.decode([i], [i]).tolist() for i in (3, 4)] == [[[3003]], [[4004]]]
    assert recorded[-1]().tolist() == [[4004]]  # as a graph would: from what the tensors hold
    assert [len(step()) for step in recorded] == [6, 4, 2, 1]  # the largest first
    assert len(recorded) == 4


SIZES = [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (32, [1, 2, 4, 8, 16, 32]), (33, [1, 2, 4, 8, 16, 32, 33])]


@pytest.mark.parametrize(("rows", "sizes"), SIZES)
def test_sizes_are_powers_of_two_and_all_rows(rows: int, sizes: list[int]) -> None:
    assert row_sizes(rows) == sizes


def test_lengths_double_up_to_the_last() -> None:
    assert doubling(256, 1000) == [256, 512, 1000]
    assert doubling(256, 256) == [256]
    assert doubling(256, 80) == [80]


def test_rows_behind_the_live_ones_keep_what_they_hold() -> None:
    model = BatchedModel(copy.deepcopy(tiny()), rows=4, fixed=True)
    with torch.inference_mode():
        ids = model.prefill([Piece(row, 0, prompt) for row, prompt in zip((0, 1, 3), PROMPTS, strict=True)])
        tokens = [int(row.argmax()) for row in ids]
        held = [layer.keys[3, :, :40].clone() for layer in model.cache.layers]
        answer = [tokens[0]]
        for i in range(6):  # one row at work, then three: the last of the cache is padding now and then
            rows = 1 if i % 2 else 3
            logits = model.decode([answer[-1], *[1] * (rows - 1)], [90 + i, *[100] * (rows - 1)])
            answer.append(int(logits[0].argmax()))
        assert answer == generated(tiny(), PROMPTS[0], 7)
        for layer, keys in zip(model.cache.layers, held, strict=True):
            assert torch.equal(layer.keys[3, :, :40], keys)


def test_a_model_with_our_attention_still_generates_by_itself() -> None:
    model = copy.deepcopy(tiny("Gemma 3, mixed"))
    BatchedModel(model, rows=2, fixed=True)
    assert model.config._attn_implementation == NAME
    assert generated(model, PROMPTS[0], 9) == generated(tiny("Gemma 3, mixed"), PROMPTS[0], 9)
    assert BatchedModel(model, rows=2, fixed=True).vocabulary == VOCABULARY


# ---------------------------------------------------------------- recording


class _Stream:
    def __init__(self, name: str) -> None:
        self.name = name

    def wait_stream(self, other: _Stream) -> None:
        pass


class Cuda:
    """CUDA's streams and graphs, as far as a recorder sees them: a replay runs what was captured once more.

    As in torch, a recording that CUDA gives up neither goes back to the stream before nor leaves the pool of memory.
    """

    def __init__(self) -> None:
        self.on = [_Stream("the thread's own")]
        self.recordings: list[tuple[Any, str, str]] = []
        self.recorded: list[Any] = []
        self.in_pool: list[Any] = []
        self.mode: Any = 0
        self.invalid = False
        """Whether CUDA gives up the recording under way."""
        self.dead = False
        self.memory = self

    def Stream(self) -> _Stream:
        return _Stream("the recorder's")

    def current_stream(self) -> _Stream:
        return self.on[-1]

    def current_device(self) -> int:
        return 1

    def graph_pool_handle(self) -> str:
        return "the pool"

    def get_sync_debug_mode(self) -> Any:
        return self.mode

    def set_sync_debug_mode(self, mode: Any) -> None:
        self.mode = mode

    def synchronize(self) -> None:
        if self.dead:
            raise RuntimeError("an illegal memory access was encountered")

    def _cuda_endAllocateToPool(self, device: int, pool: str) -> None:
        if not self.in_pool:
            raise RuntimeError("not currently recording")
        assert self.in_pool.pop() == (device, pool)

    def wait(self) -> None:
        """What a step does that asks the device for a number."""
        if self.mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation\nand more")

    @contextmanager
    def stream(self, stream: _Stream) -> Iterator[None]:
        depth = len(self.on)
        self.on.append(stream)
        try:
            yield
        finally:
            del self.on[depth:]  # back to the stream before, whatever was set meanwhile

    def CUDAGraph(self) -> Any:
        return SimpleNamespace(replay=lambda: self.recorded[-1]())

    @contextmanager
    def graph(self, graph: Any, pool: Any, stream: _Stream, capture_error_mode: str) -> Iterator[None]:
        self.recordings.append((pool, stream.name, capture_error_mode))
        self.on.append(stream)
        self.in_pool.append((self.current_device(), pool))
        try:
            yield
        finally:
            if self.invalid:
                raise RuntimeError("operation failed due to a previous error during capture\nand more")
            self.in_pool.pop()
            self.on.pop()


def test_a_recorded_step_is_replayed_and_graphs_share_their_memory() -> None:
    cuda = Cuda()
    inputs, logits = torch.zeros(1), torch.zeros(1)
    runs = []

    def step() -> Any:
        runs.append((inputs.item(), cuda.current_stream().name))
        logits.copy_(inputs * 2)
        return logits

    cuda.recorded.append(step)
    record = GraphRecorder(cuda)
    replay = record(step)
    assert runs == [(0, "the recorder's")] * 3  # twice to warm up
    inputs.fill_(21)
    assert replay().item() == 42
    record(step)
    assert cuda.recordings == [("the pool", "the recorder's", "thread_local")] * 2
    assert (len(cuda.on), cuda.in_pool, cuda.mode) == (1, [], 0)


SAID = "steps cannot be recorded and are started kernel by kernel: "


def test_a_step_that_waits_for_the_device_is_found_before_it_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    cuda = Cuda()
    record = GraphRecorder(cuda)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert record(cuda.wait) == cuda.wait
    assert [entry.getMessage() for entry in caplog.records] == [SAID + "called a synchronizing CUDA operation"]
    assert (cuda.recordings, len(cuda.on), cuda.mode) == ([], 1, 0)


def test_after_a_recording_that_failed_steps_run_as_they_are_and_where_they_did(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cuda = Cuda()
    record = GraphRecorder(cuda)
    first = record(lambda: "logits")
    cuda.invalid = True
    with caplog.at_level(logging.WARNING):
        assert [record(lambda i=i: i)() for i in range(3)] == [0, 1, 2]  # type: ignore[misc]  # a default of its own
    assert [entry.getMessage() for entry in caplog.records] == [
        SAID + "operation failed due to a previous error during capture"
    ]
    assert [stream.name for stream in cuda.on] == ["the thread's own"]
    assert (cuda.in_pool, len(cuda.recordings)) == ([], 2)
    cuda.recorded.append(lambda: None)
    assert first() == "logits"  # what was recorded before is as good as it was


def test_memory_that_does_not_suffice_for_a_graph_ends_recording_alone() -> None:
    cuda = Cuda()
    record = GraphRecorder(cuda)
    runs: list[int] = []

    def step() -> str:
        runs.append(1)
        if len(runs) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "logits"

    assert record(step)() == "logits"
    assert (len(cuda.on), cuda.in_pool, len(runs)) == (1, [], 4)


def test_what_the_step_itself_raises_is_raised_and_so_is_a_device_that_failed() -> None:
    cuda = Cuda()
    with pytest.raises(ZeroDivisionError):
        GraphRecorder(cuda)(lambda: 1 // 0)
    assert len(cuda.on) == 1
    cuda.invalid = cuda.dead = True
    with pytest.raises(RuntimeError, match="illegal memory access"):
        GraphRecorder(cuda)(lambda: None)


# ---------------------------------------------------------------- uploads


class Host:
    """A tensor that notes how it goes to the device."""

    def __init__(self, device: str = "cpu", way: tuple[Any, ...] = ()) -> None:
        self.device = torch.device(device)
        self.way = way

    def pin_memory(self) -> Host:
        return Host(way=(*self.way, "pinned"))

    def to(self, device: Any, non_blocking: bool = False) -> Host:
        return Host(way=(*self.way, str(device), non_blocking))


def test_what_goes_to_cuda_is_pinned_so_that_nobody_waits() -> None:
    assert send(Host(), "cuda").way == ("pinned", "cuda", True)
    assert send(Host("cuda"), "cuda").way == ("cuda", False)
    assert send(Host(), torch.device("mps")).way == ("mps", False)
    assert upload([1, 2], "cpu", torch.float16).tolist() == [1, 2]
