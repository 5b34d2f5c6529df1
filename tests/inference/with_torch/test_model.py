"""Loading a folder, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from adapters.local.inference.cache import RowCache, RowLayer, View
from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.loading import best_device, load_model
from adapters.local.inference.masks import Masks
from adapters.local.inference.model import BatchedModel, Piece
from adapters.local.inference.options import ModelOptions
from adapters.local.inference.sampling import least_kept
from tests.inference.with_torch.tiny import CONTEXT, SHAPE, VOCABULARY, generated, tiny

PROMPT = list(range(30, 90))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny().save_pretrained(path)
    return path


def test_a_folder_is_loaded_on_the_best_device_in_its_own_type(folder: Path) -> None:
    model = load_model(folder, ModelOptions(threads=1))
    assert (model.device.type, model.dtype, model.training) == (best_device(), torch.float32, False)
    assert generated(model.to("cpu"), PROMPT, 8) == generated(tiny(), PROMPT, 8)


def test_a_type_can_be_asked_for(folder: Path) -> None:
    model = load_model(folder, ModelOptions(device="cpu", dtype="bfloat16", threads=1))
    assert model.dtype == torch.bfloat16
    batched = BatchedModel(model, rows=2, context=70)
    assert batched.cache.layers[0].keys.dtype == torch.bfloat16
    # 3 layers of keys and values, 2 rows, 2 heads of 16 numbers of 2 bytes, 70 tokens in blocks of 16
    assert batched.cache.nbytes == 3 * 2 * 2 * 2 * 16 * 2 * 80


@pytest.mark.parametrize("dtype", ["float99", "nn"])
def test_an_unknown_type_is_refused(folder: Path, dtype: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"dtype: torch has no type '{dtype}'"):
        load_model(folder, ModelOptions(device="cpu", dtype=dtype, threads=1))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="cannot be loaded"):
        load_model(tmp_path, ModelOptions(threads=1))


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, False, "cuda"), (False, True, "mps"), (True, True, "cuda"), (False, False, "cpu")],
)
def test_cuda_comes_before_mps_and_mps_before_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device() == device


def test_the_context_is_the_shorter_of_the_models_and_the_wanted() -> None:
    assert BatchedModel(tiny(), rows=1).context == CONTEXT
    assert BatchedModel(tiny(), rows=1, context=100).context == 100
    assert BatchedModel(tiny(), rows=1, context=1000).context == CONTEXT
    assert BatchedModel(tiny(), rows=1).vocabulary == VOCABULARY


def test_a_model_that_does_not_say_its_context_needs_one() -> None:
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.BloomConfig(vocab_size=50, hidden_size=32, n_layer=1, n_head=2)
    )
    with pytest.raises(UnsupportedModel, match="how long its context is"):
        BatchedModel(model, rows=1)


ROPES: dict[str, tuple[str, dict[str, Any], int]] = {
    "two sets of angles": (
        "Phi3Config",
        {
            "rope_type": "longrope",
            "short_factor": [1.0] * 8,
            "long_factor": [2.0] * 8,
        },
        64,
    ),
    "angles by the longest": ("LlamaConfig", {"rope_type": "dynamic", "factor": 4.0}, CONTEXT),
    "the same for all": ("LlamaConfig", {"rope_type": "linear", "factor": 4.0}, CONTEXT),
}


@pytest.mark.parametrize(("kind", "rope", "context"), ROPES.values(), ids=ROPES)
def test_a_context_ends_where_the_longest_job_would_change_the_others(
    kind: str, rope: dict[str, Any], context: int
) -> None:
    outside = {"original_max_position_embeddings": 64} if kind == "Phi3Config" else {}
    config = getattr(transformers, kind)(**SHAPE, rope_parameters={"rope_theta": 1e4} | rope, **outside)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert BatchedModel(model, rows=1).context == context


def test_attention_with_other_masks_is_refused() -> None:
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.LlamaConfig(**SHAPE), attn_implementation="eager"
    )
    with pytest.raises(UnsupportedModel, match="attention by eager"):
        BatchedModel(model, rows=1)


def _mamba() -> Any:
    return transformers.AutoModelForCausalLM.from_config(
        transformers.MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, state_size=4)
    )


def _t5() -> Any:
    config = transformers.T5Config(vocab_size=50, d_model=32, d_ff=32, num_layers=1, num_heads=2, d_kv=16)
    return transformers.T5ForConditionalGeneration(config)


@pytest.mark.parametrize(
    ("make", "message"), [(_mamba, "a cache of kind"), (_t5, "encoder-decoder")], ids=["state space", "encoder-decoder"]
)
def test_models_with_another_kind_of_state_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        BatchedModel(make().eval(), rows=1, context=64)


def test_layers_that_see_in_another_way_are_refused() -> None:
    config = transformers.LlamaConfig()
    config.layer_types = ["full_attention", "chunked_attention"]
    with pytest.raises(UnsupportedModel, match="layers of kind chunked_attention"):
        Masks(config)


def test_the_cache_answers_what_transformers_asks_of_it() -> None:
    cache = BatchedModel(tiny(), rows=1, context=100).cache
    cache.view.length = 64
    layer = cache.layers[0]
    assert (layer.get_seq_length(), layer.get_max_length(), layer.get_mask_sizes(1)) == (64, 112, (64, 0))
    assert RowCache(2, 1, 100, 64).nbytes == 0


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_row_takes_memory_only_as_it_is_filled_and_cleared() -> None:
    cache = RowCache(1, 8, 2**16, 64)
    (layer,) = cache.layers
    states = torch.zeros(1, 4, 1, 64)
    before = resident()
    layer.lazy_initialization(states, states)
    layer.keys[:, :, :3] = 1
    cache.clear(5, 2)
    assert cache.nbytes > 2**30
    assert resident() - before < 2**24  # pages of 2 MB would be 128 MB, a whole row as much
    assert (layer.keys[5, 0, :4, 0].tolist(), layer.keys[4, 0, :4, 0].tolist()) == ([0, 0, 1, 0], [1, 1, 1, 0])


def test_rows_that_are_no_neighbours_are_prefilled_together_and_padding_is_seen_by_nobody() -> None:
    model = BatchedModel(tiny(), rows=4)
    other = BatchedModel(tiny(), rows=4)
    with torch.inference_mode():
        model.cache.layers[0].keys.fill_(1e4)  # what earlier jobs left
        together = model.prefill([Piece(3, 0, PROMPT), Piece(0, 0, PROMPT[:35]), Piece(2, 0, PROMPT[:9])])
        alone = [other.prefill([Piece(0, 0, ids)])[0] for ids in (PROMPT, PROMPT[:35], PROMPT[:9])]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-4, rtol=1e-4)


def test_the_cache_lies_where_the_model_computes() -> None:
    layer = RowLayer(View(), 2, 64)
    states = torch.empty(1, 3, 1, 8, dtype=torch.float16, device="meta")
    layer.lazy_initialization(states, states)
    assert (layer.keys.shape, layer.keys.device.type, layer.values.dtype) == ((2, 3, 64, 8), "meta", torch.float16)


def test_a_model_elsewhere_than_on_the_cpu_is_loaded_and_drawn_from_there(folder: Path) -> None:
    model = load_model(folder, ModelOptions(device="meta", threads=1))
    assert model.device.type == "meta"
    chances = torch.empty(2, 9, device="meta")
    bound = least_kept(chances, torch.empty(2, 1, device="meta"), torch.empty(2, 1, device="meta"))
    assert (bound.shape, bound.device.type) == ((2, 1), "meta")
