"""Folders of small models with random weights and trained tokenizers, as `save_pretrained` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""Tokens of their own that are no special tokens, as in Qwen 3."""

TEMPLATE = """\
{%- if tools %}{{ '<|im_start|>system\\n# Tools\\nYou have <tools>\\n' }}\
{%- for tool in tools %}{{ tool | tojson }}{{ '\\n' }}{%- endfor %}\
{{ '</tools>. Answer with <tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>' }}\
{{ '<|im_end|>\\n' }}{%- endif %}\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}{{ message.content or '' }}\
{%- for call in message.tool_calls or [] %}{{ '\\n<tool_call>\\n{"name": "' + call.function.name }}\
{{ '", "arguments": ' }}{{ call.function.arguments | tojson }}{{ '}\\n</tool_call>' }}{%- endfor %}\
{{- '<|im_end|>\\n' }}{%- endfor %}\
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"""
"""ChatML with calls as Hermes 2 Pro and Qwen 2.5 write them."""


def make_chat_folder(folder: Path, *, vocabulary: int = 800, context: int = 512, **shape: Any) -> Path:
    """A Llama that writes nonsense."""
    tokenizer = _tokenizer(vocabulary)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    sizes = {
        **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "max_position_embeddings": context, "initializer_range": 0.1},
    }
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"), **(sizes | shape)
    )
    torch.manual_seed(11)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_embedding_folder(folder: Path, *, context: int = 64) -> Path:
    """A BERT whose vectors are the means of their tokens, with the files of sentence-transformers."""
    tokenizer = _tokenizer(400)
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=context,
    )
    torch.manual_seed(11)
    transformers.BertModel(config).save_pretrained(folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


def _tokenizer(vocabulary: int) -> Any:
    """Byte-level BPE, learnt from a few sentences: most texts are many small tokens."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([_TEXT] * 3, trainer)
    bpe.add_tokens([tokenizers.AddedToken(marker, special=False, normalized=False) for marker in MARKERS])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")


_TEXT = """\
The same long beginning of a question that many ask in turn. Hello, what is the weather in Rome or Oslo today? Answer
with one JSON object: {"name": "get_weather", "arguments": {"city": "Oslo"}}. <tool_call> and </tool_call> are around a
call, and a system, a user and an assistant take turns. Stories, words, numbers such as 12, 345 and 67.8; some twice.
"""
