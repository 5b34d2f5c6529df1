"""What a `config.json` says of a model's size, for those who must not import torch: how long its context is, and what a
token takes in the cache.

The names are those of transformers' configurations; GPT-2 and its like have older ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_WIDTH = ("hidden_size", "n_embd", "d_model")
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_NO_LIMIT = 10**9
"""What is said to be more means that there is none."""


def longest_context(config: Mapping[str, Any]) -> int | None:
    """Tokens, as `adapters.local.inference.model.own_context` has it of a loaded model; `None` if it does not say."""
    text = _text_config(config)
    own = _number(text, _CONTEXT)
    ropes = (text.get(key) for key in ("rope_parameters", "rope_scaling"))
    rope: dict[str, Any] = next((rope for rope in ropes if isinstance(rope, dict)), {})
    if own and str(rope.get("rope_type") or rope.get("type")) in {"dynamic", "longrope"}:
        before = ("original_max_position_embeddings",)
        own = min(own, _number(rope, before) or own, _number(text, before) or own)
    return own


def token_bytes(config: Mapping[str, Any], dtype: str) -> int | None:
    """Bytes of one token's keys and values in all layers; `None` if it does not say.

    `dtype` is a type's name, or `auto` for the one that the weights have.
    """
    text = _text_config(config)
    own = text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype")
    size = _BYTES.get(str(own if dtype == "auto" else dtype))
    layers, heads, width = _number(text, _LAYERS), _number(text, _HEADS), _number(text, _WIDTH)
    if size is None or layers is None or heads is None:
        return None
    head = _number(text, ("head_dim",)) or (width or 0) // heads
    return layers * 2 * (_number(text, ("num_key_value_heads",)) or heads) * head * size or None


def quantised_by(config: Mapping[str, Any]) -> str | None:
    """By which method the folder's weights are quantised already."""
    method = config.get("quantization_config")
    return str(method.get("quant_method")) if isinstance(method, dict) else None


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a model that sees or hears too, the part that writes."""
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def _number(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    values = (config.get(name) for name in names)
    return next((value for value in values if type(value) is int and 0 < value < _NO_LIMIT), None)
