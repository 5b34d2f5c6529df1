"""`adapters.local.model_config`: what a folder tells without torch; with torch it is compared with real models."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.local.model_config import longest_context, quantised_by, token_bytes

CONTEXTS: dict[str, tuple[dict[str, Any], int | None]] = {
    "the usual": ({"max_position_embeddings": 4096}, 4096),
    "of the part that writes": (
        {"text_config": {"max_position_embeddings": 8192}, "max_position_embeddings": 77},
        8192,
    ),
    "GPT-2's": ({"n_positions": 1024}, 1024),
    "stretched for all alike": (
        {
            "max_position_embeddings": 131072,
            "rope_scaling": {"rope_type": "llama3", "original_max_position_embeddings": 8192},
        },
        131072,
    ),
    "stretched for the long alone": (
        {
            "max_position_embeddings": 131072,
            "rope_scaling": {"type": "longrope"},
            "original_max_position_embeddings": 4096,
        },
        4096,
    ),
    "stretched, in newer words": (
        {
            "max_position_embeddings": 9000,
            "rope_parameters": {"rope_type": "dynamic", "original_max_position_embeddings": 4096},
        },
        4096,
    ),
    "nothing": ({}, None),
    "nonsense": ({"max_position_embeddings": "long", "text_config": 5, "rope_scaling": [1]}, None),
    "stretched in no way of ours": ({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": ["yarn"]}}, 4096),
    "no limit": ({"max_position_embeddings": 10**30, "n_positions": True}, None),
}


@pytest.mark.parametrize(("config", "tokens"), CONTEXTS.values(), ids=CONTEXTS)
def test_how_long_its_context_is(config: dict[str, Any], tokens: int | None) -> None:
    assert longest_context(config) == tokens


LLAMA = {"num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 2048}
SIZES: dict[str, tuple[dict[str, Any], str, int | None]] = {
    "in the type of the weights": (LLAMA | {"torch_dtype": "bfloat16"}, "auto", 16 * 2 * 8 * 64 * 2),
    "in that of another place": ({"dtype": "float16", "text_config": LLAMA}, "auto", 16 * 2 * 8 * 64 * 2),
    "in another type": (LLAMA | {"dtype": "bfloat16"}, "float32", 16 * 2 * 8 * 64 * 4),
    "with heads of their own size": (LLAMA | {"head_dim": 128}, "float16", 16 * 2 * 8 * 128 * 2),
    "GPT-2's": ({"n_layer": 12, "n_head": 12, "n_embd": 768}, "float32", 12 * 2 * 768 * 4),
    "of an unknown type": (LLAMA, "auto", None),
    "of unknown width": ({"n_layer": 12, "n_head": 12}, "float32", None),
    "of unknown depth": ({"n_head": 12, "n_embd": 768}, "float32", None),
    "nonsense": ({"num_hidden_layers": [1], "num_attention_heads": True}, "float32", None),
    "of no size at all": (LLAMA | {"num_hidden_layers": 10**400}, "float32", None),
}


@pytest.mark.parametrize(("config", "dtype", "bytes"), SIZES.values(), ids=SIZES)
def test_what_a_token_takes_in_the_cache(config: dict[str, Any], dtype: str, bytes: int | None) -> None:
    assert token_bytes(config, dtype) == bytes


def test_by_what_it_is_quantised() -> None:
    assert quantised_by({"quantization_config": {"quant_method": "awq"}}) == "awq"
    assert quantised_by({}) is None
