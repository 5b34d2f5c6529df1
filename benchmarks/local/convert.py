"""`python -m benchmarks.local.convert FOLDER FILE`: a Llama's folder as GGUF in F16, for llama-server.

Takes gguf, numpy and safetensors. llama.cpp wants the rows of the query's and key's matrices in pairs, as the original
Llama has them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGES = ("gguf", "numpy", "safetensors")
_WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def convert(folder: Path, file: Path) -> None:
    import gguf  # noqa: PLC0415 - no part of what is installed
    import numpy  # noqa: PLC0415
    import safetensors  # noqa: PLC0415

    config = json.loads((folder / "config.json").read_text())
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(str(file), "llama")
    _describe(writer, config)
    _tokenizer(writer, json.loads((folder / "tokenizer.json").read_text()), gguf)
    with safetensors.safe_open(folder / "model.safetensors", "np") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - it is no mapping
            tensor = tensors.get_tensor(name).astype(numpy.float32)
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                count = heads if name.endswith("q_proj.weight") else key_heads
                size = tensor.shape[0] // count // 2
                tensor = tensor.reshape(count, 2, size, -1).swapaxes(1, 2).reshape(tensor.shape)
            writer.add_tensor(_name(name), tensor if tensor.ndim == 1 else tensor.astype(numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(name: str) -> str:
    if name in _WHOLE:
        return _WHOLE[name]
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    assert found is not None, name
    return f"blk.{found[1]}.{_LAYER[found[2]]}.weight"


def _describe(writer: Any, config: dict[str, Any]) -> None:
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])


def _tokenizer(writer: Any, tokenizer: dict[str, Any], gguf: Any) -> None:
    vocabulary = tokenizer["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    kinds = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(tokens))]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(max(special))
    writer.add_add_bos_token(False)


def missing_packages(python: str) -> str | None:
    """What `python` lacks for it."""
    code = f"import sys, importlib.util as i; sys.exit(' '.join(n for n in {_PACKAGES} if not i.find_spec(n)) or None)"
    lacks = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stderr.strip()
    return f"{python} has no {lacks}, which conversion takes" if lacks else None


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
