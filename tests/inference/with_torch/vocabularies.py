"""Tokenizers of the usual kinds, trained on the spot, each with the same marker tokens."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import transformers
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

END = "<|im_end|>"
SPECIAL = ("<unk>", "<s>", END, "[CALLS]")
"""Texts of special tokens, in the order of their ids, which are the first."""
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""Texts of added tokens that are no special ones, as Qwen has them."""
TEXTS = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind; it isn't 1,234.5 times as quick.",
    '{"name": "get_weather", "arguments": {"city": "Zürich", "days": [1, 2, 3], "units": null, "exact": true}}',
    "Ein Satz mit Umlauten: äöüß. 天気は良いですね。 Привет, мир! \U0001f600\U0001f680",
    "    indented\n\tand    spaced  out\n\n",
)
_SIZE = 420
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _byte_level() -> Tokenizer:
    """GPT-2, Llama 3, Qwen."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


def _byte_fallback(*decoding: Any) -> Tokenizer:
    """BPE as sentencepiece does it, with tokens for bytes that no other token has."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), *decoding]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE, special_tokens=[*SPECIAL, *_BYTES], limit_alphabet=60, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    state = json.loads(made.to_str())  # training makes special tokens of bytes; in real files they are ordinary ones
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in _BYTES]
    return Tokenizer.from_str(json.dumps(state))


def _unigram() -> Tokenizer:
    """Sentencepiece's other model, with the blank as a part of the first word."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=_SIZE, special_tokens=list(SPECIAL), unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(TEXTS * 20, trainer)
    return made


def _word_piece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=_SIZE, special_tokens=list(SPECIAL), show_progress=False)
    made.train_from_iterator(TEXTS, trainer)
    return made


KINDS = {
    "byte-level": _byte_level,
    "byte fallback": lambda: _byte_fallback(decoders.Strip(" ", 1, 0)),
    "byte fallback that keeps the first blank": _byte_fallback,
    "unigram": _unigram,
    "word pieces": _word_piece,
}


@cache
def tokenizer(kind: str = "byte-level", special: tuple[str, ...] = ()) -> Any:
    """A fast tokenizer of `transformers`, the same in every test; with further special tokens of these texts."""
    made = KINDS[kind]()
    made.add_tokens([AddedToken(text, normalized=False) for text in MARKERS if text not in special])
    made.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, unk_token="<unk>")
