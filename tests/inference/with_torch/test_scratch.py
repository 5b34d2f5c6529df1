"""What passes take beside weights and cache."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapters.local.inference import scratch
from adapters.local.inference.model import BatchedModel, Piece, split_pieces
from adapters.local.inference.scratch import scratch_bytes
from adapters.local.own import OwnModel, OwnOptions
from adapters.local.serving.loading import _room as choose
from adapters.local.serving.room import Room
from tests.inference.with_torch.tiny import ARCHITECTURES, VOCABULARY, tiny

MB = 2**20


class Memory:
    """A device whose allocator has seen these peaks, one after the other, above 7 MB that stay."""

    def __init__(self, *peaks: int) -> None:
        self.peaks = list(peaks)
        self.calls: list[str] = []

    def synchronize(self) -> None:
        self.calls.append("wait")

    def reset_peak_memory_stats(self) -> None:
        self.calls.append("reset")

    def memory_allocated(self) -> int:
        return 7 * MB

    def max_memory_allocated(self) -> int:
        self.calls.append("peak")
        return (7 + self.peaks.pop(0)) * MB


# One prompt, several prompts, a step, the sampling of its tokens.
PEAKS = {"prompts": (300, 400, 50, 100, 450), "tokens": (30, 40, 50, 100, 150)}


@pytest.mark.parametrize("peaks", PEAKS.values(), ids=PEAKS)
def test_passes_take_turns_but_for_recorded_steps(peaks: tuple[int, ...]) -> None:
    memory = Memory(*peaks[:4])
    assert scratch_bytes(copy.deepcopy(tiny()), rows=3, context=100, chunk=40, cuda=memory) == pytest.approx(
        peaks[4] * MB * 1.1 + 512 * MB, abs=1
    )
    assert memory.calls == ["wait", "reset", "wait", "peak"] * 4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_largest_passes_are_run_and_the_model_goes_on_as_before(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    forward = scratch._Passes._forward

    def noted(self: Any, positions: Any, *args: Any, **kwargs: Any) -> Any:
        logits = forward(self, positions, *args, **kwargs)
        assert logits.shape == (len(positions), VOCABULARY)
        assert int(positions.max()) == 99
        shapes.append(tuple(positions.shape))
        return logits

    monkeypatch.setattr(scratch._Passes, "_forward", noted)
    monkeypatch.setattr(scratch, "LOOKED_AT", 250)
    model = copy.deepcopy(tiny(name))
    scratch_bytes(model, rows=3, context=100, chunk=40, cuda=Memory(0, 0, 0, 0))
    assert shapes == [(1, 40), (2, 20), (3, 1), (3, 1)]
    prompt = [Piece(0, 0, list(range(50)))]
    with torch.inference_mode():
        logits = BatchedModel(model, rows=1).prefill(prompt)
        torch.testing.assert_close(logits, BatchedModel(tiny(name), rows=1).prefill(prompt))


ROOMS: dict[str, tuple[str, Room, list[tuple[int, int]]]] = {
    "on CUDA it leaves what passes take": ("cuda:0", Room(2, 8192), [(4, 8192)]),
    "elsewhere free memory is without them": ("cpu", Room(4, 8192), []),
}


@pytest.mark.parametrize(("device", "room", "measured"), ROOMS.values(), ids=ROOMS)
def test_a_cache_is_made_for_what_is_left(
    device: str, room: Room, measured: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def taken(model: Any, *, rows: int, context: int, chunk: int) -> int:
        asked.append((rows, context))
        return 2 * 8192 * 1000

    monkeypatch.setattr("adapters.local.inference.free.free_bytes", lambda device: 4 * 8192 * 1000)
    monkeypatch.setattr("adapters.local.inference.model.token_bytes", lambda model: 1000)
    monkeypatch.setattr("adapters.local.inference.scratch.scratch_bytes", taken)
    options = OwnOptions(model=OwnModel(folder=Path("/models/x")), names=("x",))
    assert choose(SimpleNamespace(device=torch.device(device)), options, 8192) == room
    assert asked == measured


def piece(row: int, start: int, count: int) -> Piece:
    return Piece(row, start, [1] * count)


SPLITS: dict[str, tuple[list[Piece], list[int]]] = {
    "one, however long": ([piece(0, 20000, 9)], [1]),
    "short ones": ([piece(row, 0, 512) for row in range(32)], [32]),
    "more than fit": ([piece(row, 0, 512) for row in range(33)], [32, 1]),
    "one looks far": ([piece(0, 8000, 20), piece(1, 0, 20), piece(2, 0, 20), piece(3, 0, 20)], [2, 2]),
    "the last looks far": ([piece(0, 0, 20), piece(1, 0, 20), piece(2, 9000, 20)], [2, 1]),
}


@pytest.mark.parametrize(("pieces", "counts"), SPLITS.values(), ids=SPLITS)
def test_prompts_are_computed_together_as_long_as_they_look_at_little(pieces: list[Piece], counts: list[int]) -> None:
    parts = split_pieces(pieces)
    assert list(map(len, parts)) == counts
    assert [piece for part in parts for piece in part] == pieces


def test_several_passes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [Piece(row, 0, [(7 * row + i) % VOCABULARY for i in range(30 + row)]) for row in range(4)]
    with torch.inference_mode():
        expected = BatchedModel(tiny(), rows=4).prefill(pieces)
        monkeypatch.setattr("adapters.local.inference.model.LOOKED_AT", 64)
        got = BatchedModel(tiny(), rows=4).prefill(pieces)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
