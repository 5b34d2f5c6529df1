"""Write tiny models for the two engines. Runs alone, with numpy, gguf and sentencepiece.

    python models.py FOLDER

Each model knows one text: attention and feed-forward add nothing, and the output layer points from each token to the
one that follows it in the text. What an engine does with the tokens (templates, limits, calls, grammars) is its own.
Tokens outside the text are followed by any token, so a grammar has something to choose from.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import gguf
import numpy as np
import sentencepiece

Matrix = np.ndarray[Any, np.dtype[np.float32]]
SPACE = "\u2581"  # how sentencepiece writes a blank
END = "</s>"
SUN = ("<0xF0>", "<0x9F>", "<0x8C>", "<0xA4>")  # one character in four tokens
BYTES = [f"<0x{value:02X}>" for value in range(256)]
# The order of chatglm.cpp's `ChatGLM3Tokenizer`: these follow the pieces of the sentencepiece model.
SPECIAL = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", *(f"<|{who}|>" for who in "system user assistant".split()))
CALL_ENDS = "<|observation|>"

# No token comes twice in a text: it could have only one successor.
SENTENCE = (*"The| weather| in| Oslo| is| mild|,| about| seven| degrees|.| ".replace(" ", SPACE).split("|"), *SUN)
CHATGLM_TEXTS = {
    "talker": ("\n", *SENTENCE, END),
    "endless": ("\n", *SENTENCE, "\n"),
    "caller": ("get_weather\n", f"{SPACE}```python\n", "tool_call(", "city=", "'Oslo',", f"{SPACE}days=2)", "\n```"),
    "rambling-caller": ("get_weather\n", f"{SPACE}```python\n", "tool_call(\n", "city=", "'Oslo'\n)", "\n```"),
}
THOUGHT = ("<think>", "\nSomebody", f"{SPACE}asks", f"{SPACE}for", f"{SPACE}it.\n", "</think>", "\n\n")
CALL = (
    *("<tool_call>", '\n{"name":', f'{SPACE}"get_weather",', f'{SPACE}"arguments":', f'{SPACE}{{"city":'),
    *(f'{SPACE}"Os', 'lo",', f'{SPACE}"days":', f"{SPACE}2", "}}\n", "</tool_call>"),
)
TURN, TURN_ENDS = "<|im_start|>", "<|im_end|>"
LLAMA_TEXTS = {
    "talker": ("\n", *SENTENCE, TURN_ENDS),
    "endless": ("\n", *SENTENCE, "\n"),
    "thinker": ("\n", *THOUGHT, *SENTENCE, TURN_ENDS),
    "caller": ("\n", *CALL, TURN_ENDS),
}
TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}You may call these functions:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
A call is a JSON object inside tags:
<tool_call>
{"name": <name>, "arguments": <object>}
</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% elif message.role == 'assistant' %}<|im_start|>assistant
{%- if message.reasoning_content %}
<think>
{{ message.reasoning_content }}
</think>

{%- endif %}
{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% elif message.role != 'system' or not tools %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


class Shape(NamedTuple):
    """Sizes of a model; `feed_forward` decides how slow it is."""

    hidden: int = 64
    heads: int = 4
    groups: int = 2  # heads of keys and values
    layers: int = 2
    feed_forward: int = 128
    context: int = 16384

    @property
    def head(self) -> int:
        return self.hidden // self.heads


SLOW = Shape(hidden=256, heads=8, groups=2, layers=6, feed_forward=4096)
"""Some hundred tokens a second: slow enough to be watched, stopped and killed at work."""


class Successors(NamedTuple):
    """The two matrices in which a model's text is kept."""

    embedding: Matrix
    output: Matrix


def successors(vocabulary: int, hidden: int, text: Iterable[int], silent: Iterable[int]) -> Successors:
    """Matrices by which each token of `text` calls for the next one; `silent` tokens are never chosen by chance."""
    random = np.random.default_rng(20261121)
    embedding = random.standard_normal((vocabulary, hidden)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    output = random.standard_normal(embedding.shape).astype(np.float32) * 0.02
    ids = list(text)
    for token, following in zip(ids, ids[1:], strict=False):
        output[following] += embedding[token] * 4
    # What all tokens have in common, so that some can be refused whatever came before.
    embedding[:, -1], output[:, -1] = 1, 0
    output[sorted(set(silent) - set(ids)), -1] = -8
    return Successors(embedding, output)


# ---------------------------------------------------------------- chatglm.cpp


def write_chatglm(path: Path, name: str, shape: Shape) -> None:
    """A ChatGLM3 in chatglm.cpp's own format: sizes, a sentencepiece model, tensors in 32-bit floats."""
    proto = _sentencepiece(set().union(*CHATGLM_TEXTS.values()) - {END, *SUN, ",", "."})
    pieces = sentencepiece.SentencePieceProcessor(model_proto=proto)
    special = (*SPECIAL, CALL_ENDS)
    first = pieces.get_piece_size()
    ids = {**{pieces.id_to_piece(i): i for i in range(first)}, **{name: first + i for i, name in enumerate(special)}}
    ends = CALL_ENDS if "caller" in name else None
    text = ["<|assistant|>", *CHATGLM_TEXTS[name], *([ends] if ends else [])]
    vocabulary = first + len(special)
    silent = [ids[token] for token in ("<unk>", "<s>", END, *BYTES, *special)]
    weights = successors(vocabulary, shape.hidden, [ids[token] for token in text], silent)
    with path.open("wb") as file:
        file.write(b"ggml" + struct.pack("<i", 3))  # ChatGLM3
        sizes = (vocabulary, shape.hidden, shape.heads, shape.groups, shape.layers, shape.feed_forward)
        # Version 2, 32-bit floats; no virtual tokens; the ids that end an answer and that fill one up.
        file.write(struct.pack("<8if i f 3i", 2, 0, *sizes, 1e-5, 0, 10000.0, shape.context, ids[END], 0))
        file.write(struct.pack("<i", len(proto)) + proto)
        for tensor, values in _chatglm_tensors(shape, weights):
            _write_tensor(file, tensor, values)


def _sentencepiece(words: set[str]) -> bytes:
    """A BPE model with a piece for each of the words, each letter of ASCII and each byte."""
    model = BytesIO()
    letters = "".join(map(chr, range(33, 127)))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([letters, " ".join(letters)]),
        model_writer=model,
        model_type="bpe",
        vocab_size=1000,
        hard_vocab_limit=False,
        user_defined_symbols=sorted(words),
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    return model.getvalue()


def _chatglm_tensors(shape: Shape, weights: Successors) -> Iterable[tuple[str, Matrix]]:
    query_key_value = shape.hidden + 2 * shape.groups * shape.head
    layer = {
        "input_layernorm.weight": _ones(shape.hidden),
        "self_attention.query_key_value.weight": _zeros(query_key_value, shape.hidden),
        "self_attention.query_key_value.bias": _zeros(query_key_value),
        "self_attention.dense.weight": _zeros(shape.hidden, shape.hidden),
        "post_attention_layernorm.weight": _ones(shape.hidden),
        "mlp.dense_h_to_4h.weight": _zeros(2 * shape.feed_forward, shape.hidden),
        "mlp.dense_4h_to_h.weight": _zeros(shape.hidden, shape.feed_forward),
    }
    yield "transformer.embedding.word_embeddings.weight", weights.embedding
    for number in range(shape.layers):
        for name, values in layer.items():
            yield f"transformer.encoder.layers.{number}.{name}", values
    yield "transformer.encoder.final_layernorm.weight", _ones(shape.hidden)
    yield "transformer.output_layer.weight", weights.output


def _write_tensor(file: IO[bytes], name: str, values: Matrix) -> None:
    file.write(struct.pack("<i", len(name)) + name.encode())
    file.write(struct.pack(f"<{values.ndim + 2}i", values.ndim, *values.shape, 0))
    file.seek(-file.tell() % 16, 1)  # the data is aligned
    file.write(values.tobytes())


# ---------------------------------------------------------------- llama.cpp


def write_llama(path: Path, name: str, shape: Shape) -> None:
    """A Llama as GGUF, with a sentencepiece-like vocabulary and a template for chats, calls and thoughts."""
    words = sorted(set().union(*LLAMA_TEXTS.values()) - {TURN_ENDS, *SUN})
    control, letters = [TURN, TURN_ENDS], [chr(code) for code in range(33, 127) if chr(code) not in words]
    kinds = {
        **dict.fromkeys(("<unk>",), gguf.TokenType.UNKNOWN),
        **dict.fromkeys(("<s>", END), gguf.TokenType.CONTROL),
        **dict.fromkeys(BYTES, gguf.TokenType.BYTE),
        **dict.fromkeys([SPACE, *letters], gguf.TokenType.NORMAL),
        **dict.fromkeys(words, gguf.TokenType.USER_DEFINED),
        **dict.fromkeys(control, gguf.TokenType.CONTROL),
    }
    ids = {token: number for number, token in enumerate(kinds)}
    silent = [ids[token] for token in ("<unk>", "<s>", END, TURN, *BYTES)]
    weights = successors(len(ids), shape.hidden, [ids[token] for token in LLAMA_TEXTS[name]], silent)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"tiny {name}")
    _add_sizes(writer, shape, len(ids))
    writer.add_tokenizer_model("llama")
    # What llama.cpp prints is the token's text, with blanks in the place of sentencepiece's sign for them.
    writer.add_token_list([token.replace(SPACE, " ") if kinds[token] == _DEFINED else token for token in kinds])
    writer.add_token_scores([0.0] * len(ids))
    writer.add_token_types(list(kinds.values()))
    writer.add_bos_token_id(ids["<s>"])
    writer.add_eos_token_id(ids[TURN_ENDS])
    writer.add_unk_token_id(ids["<unk>"])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)
    for tensor, values in _llama_tensors(shape, weights):
        writer.add_tensor(tensor, values)
    for step in _WRITING:
        step(writer)


_DEFINED = gguf.TokenType.USER_DEFINED
_WRITING: tuple[Callable[[Any], None], ...] = (
    gguf.GGUFWriter.write_header_to_file,
    gguf.GGUFWriter.write_kv_data_to_file,
    gguf.GGUFWriter.write_tensors_to_file,
    gguf.GGUFWriter.close,
)


def _add_sizes(writer: Any, shape: Shape, vocabulary: int) -> None:
    writer.add_vocab_size(vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.groups)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)


def _llama_tensors(shape: Shape, weights: Successors) -> Iterable[tuple[str, Matrix]]:
    key_value = shape.groups * shape.head
    layer = {
        "attn_norm": _ones(shape.hidden),
        "attn_q": _zeros(shape.hidden, shape.hidden),
        "attn_k": _zeros(key_value, shape.hidden),
        "attn_v": _zeros(key_value, shape.hidden),
        "attn_output": _zeros(shape.hidden, shape.hidden),
        "ffn_norm": _ones(shape.hidden),
        "ffn_gate": _zeros(shape.feed_forward, shape.hidden),
        "ffn_up": _zeros(shape.feed_forward, shape.hidden),
        "ffn_down": _zeros(shape.hidden, shape.feed_forward),
    }
    yield "token_embd.weight", weights.embedding
    for number in range(shape.layers):
        for name, values in layer.items():
            yield f"blk.{number}.{name}.weight", values
    yield "output_norm.weight", _ones(shape.hidden)
    yield "output.weight", weights.output


def _zeros(*shape: int) -> Matrix:
    return np.zeros(shape, np.float32)


def _ones(size: int) -> Matrix:
    return np.ones(size, np.float32)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for texts, ending, write in ((CHATGLM_TEXTS, "bin", write_chatglm), (LLAMA_TEXTS, "gguf", write_llama)):
        for name in texts:
            write(folder / f"{name}.{ending}", name, SLOW if name == "endless" else Shape())


if __name__ == "__main__":
    main()
