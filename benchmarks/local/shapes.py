"""Models with random weights, made on the spot: a small one in a folder, a large one on the device itself."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TURN, TURN_ENDS = "<|im_start|>", "<|im_end|>"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_WORDS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a Llama."""

    vocabulary: int
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    key_heads: int
    context: int
    in_folder: bool
    """Whether it is written to a folder; else it is made anew, of the same seed, wherever it is measured."""


SHAPES = {
    "10m": Shape(
        vocabulary=8192, hidden=256, feed_forward=768, layers=8, heads=4, key_heads=2, context=1024, in_folder=True
    ),
    "100m": Shape(
        vocabulary=16384, hidden=768, feed_forward=2048, layers=12, heads=12, key_heads=4, context=2048, in_folder=True
    ),
    "8b": Shape(
        vocabulary=128256,
        hidden=4096,
        feed_forward=14336,
        layers=32,
        heads=32,
        key_heads=8,
        context=8192,
        in_folder=False,
    ),
}
"""By what the command line calls them; the last is Llama 3's of that size."""


def make_model(shape: Shape, device: str, dtype: str) -> Any:
    """The same weights at every call on one kind of device."""
    import torch  # noqa: PLC0415 - it takes a second, and the parent does without
    import transformers  # noqa: PLC0415

    config = transformers.LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        max_position_embeddings=shape.context,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    torch.manual_seed(20261121)
    kind = {"auto": torch.bfloat16 if device == "cuda" else torch.float32}.get(dtype) or getattr(torch, dtype)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=kind, attn_implementation="sdpa")
    with torch.no_grad():
        model.lm_head.weight[:_SPECIAL] = 0  # nobody ends a turn before its time
    return model.eval()


def make_folder(shape: Shape, folder: Path) -> None:
    """Weights, tokenizer and chat template."""
    model = make_model(shape, "cpu", "float32")
    model.save_pretrained(folder)
    _tokenizer(shape.vocabulary).save_pretrained(folder)


_SPECIAL = 3


def _tokenizer(vocabulary: int) -> Any:
    """Byte-level BPE of invented words, filled up with tokens that no text has."""
    import tokenizers  # noqa: PLC0415 - as above
    import transformers  # noqa: PLC0415

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=_WORDS,
        special_tokens=["<|pad|>", TURN, TURN_ENDS],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([" ".join(_words(random.Random(1), 20000))], trainer)
    written = json.loads(bpe.to_str())
    entries = written["model"]["vocab"]
    entries.update({f"filler{i}": i for i in range(len(entries), vocabulary)})
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(written)),
        pad_token="<|pad|>",
        eos_token=TURN_ENDS,
        chat_template=_TEMPLATE,
    )


def _words(choice: random.Random, count: int) -> list[str]:
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    known = ["".join(choice.choices(syllables, k=choice.randrange(1, 4))) for _ in range(3000)]
    return choice.choices(known, k=count)


def make_prompts(folder: Path | None, vocabulary: int, tokens: int, count: int, seed: int) -> list[dict[str, Any]]:
    """Different ones, as text for a server and as ids for the others: `tokens` long, or a few more or less."""
    choice = random.Random(seed)
    if folder is None:
        return [{"text": None, "ids": [choice.randrange(9, vocabulary) for _ in range(tokens)]} for _ in range(count)]
    import transformers  # noqa: PLC0415 - as above

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    prompts = []
    for _ in range(count):
        words = _words(choice, tokens)
        while True:
            text = " ".join(words)
            ids = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
            ids = list(ids["input_ids"])
            if len(ids) <= tokens or len(words) == 1:
                break
            words = words[: len(words) - max(1, (len(ids) - tokens) // 4)]
        prompts.append({"text": text, "ids": ids})
    return prompts
