"""What model folders say of themselves, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.folder import DenseCard, EmbeddingCard, kind_of, read_embedding_card

Files = dict[str, Any]


def written(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


KINDS: dict[str, tuple[Files, str]] = {
    "writes": ({"config.json": {"architectures": ["Qwen3ForCausalLM"]}}, "chat"),
    "writes, of old": ({"config.json": {"architectures": ["GPT2LMHeadModel"]}}, "chat"),
    "writes about pictures": ({"config.json": {"architectures": ["Gemma3ForConditionalGeneration"]}}, "chat"),
    "writes by code of its own": (
        {"config.json": {"architectures": ["ChatGLMModel"], "auto_map": {"AutoModelForCausalLM": "code.Model"}}},
        "chat",
    ),
    "reads": ({"config.json": {"architectures": ["BertModel"]}}, "embeddings"),
    "fills gaps": ({"config.json": {"architectures": ["XLMRobertaForMaskedLM"]}}, "embeddings"),
    "ChatGLM, the first": ({"config.json": {"architectures": ["ChatGLMModel"]}}, "chat"),
    "wrote once": ({"config.json": {"architectures": ["Qwen3ForCausalLM"]}, "modules.json": []}, "embeddings"),
}


@pytest.mark.parametrize(("files", "kind"), KINDS.values(), ids=KINDS)
def test_a_folder_tells_what_it_is_for(files: Files, kind: str, tmp_path: Path) -> None:
    assert kind_of(written(tmp_path, files)) == kind


NEITHER: dict[str, tuple[Files, str]] = {
    "nothing": ({}, r"config\.json cannot be read"),
    "no JSON": ({"config.json": "{"}, r"config\.json cannot be read"),
    "a classifier": (
        {"config.json": {"architectures": ["BertForSequenceClassification"]}},
        "its config.json says BertForSequenceClassification",
    ),
    "no architecture": ({"config.json": {}}, "its config.json says nothing"),
    "a list": ({"config.json": [1]}, "its JSON is malformed"),
    "a number for names": ({"config.json": {"architectures": 5}}, "its JSON is malformed"),
    "brackets without end": ({"config.json": "[" * 100_000}, r"config\.json cannot be read"),
}


@pytest.mark.parametrize(("files", "message"), NEITHER.values(), ids=NEITHER)
def test_a_folder_that_is_for_neither_is_refused(files: Files, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        kind_of(written(tmp_path, files))


def modules(*kinds: str) -> list[dict[str, Any]]:
    return [
        {"path": "" if i == 0 else f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]


PLAIN = modules("Transformer", "Pooling", "Normalize")
CARDS: dict[str, tuple[Files, EmbeddingCard]] = {
    "nothing": ({}, EmbeddingCard()),
    "the first token": (
        {"modules.json": PLAIN, "1_Pooling/config.json": {"pooling_mode_cls_token": True}},
        EmbeddingCard(poolings=("cls",)),
    ),
    "none is chosen": (
        {"modules.json": PLAIN, "1_Pooling/config.json": {"pooling_mode_cls_token": False}},
        EmbeddingCard(poolings=("mean",)),
    ),
    "two side by side": (
        {
            "modules.json": PLAIN,
            "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        },
        EmbeddingCard(poolings=("max", "mean")),
    ),
    "the newer names": (
        {
            "modules.json": [
                {"path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.Pooling"}
            ],
            "1_Pooling/config.json": {"pooling_mode": "lasttoken"},
        },
        EmbeddingCard(poolings=("lasttoken",)),
    ),
    "the newer names, several": (
        {"modules.json": PLAIN, "1_Pooling/config.json": {"pooling_mode": ["cls", "mean"]}},
        EmbeddingCard(poolings=("cls", "mean")),
    ),
    "a dense layer": (
        {
            "modules.json": modules("Transformer", "Pooling", "Dense"),
            "1_Pooling/config.json": {},
            "2_Dense/config.json": {
                "in_features": 8,
                "out_features": 4,
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            },
        },
        EmbeddingCard(dense=(DenseCard("2_Dense", 8, 4, False, "Identity"),)),
    ),
    "prompts": (
        {
            "config_sentence_transformers.json": {
                "prompts": {"query": "Find: ", "document": "", "passage": "Text: "},
                "default_prompt_name": "query",
            }
        },
        EmbeddingCard(prompts={"query": "Find: ", "passage": "Text: "}, default_prompt="query"),
    ),
    "an empty prompt by default": (
        {"config_sentence_transformers.json": {"prompts": {"document": ""}, "default_prompt_name": "document"}},
        EmbeddingCard(),
    ),
    "a length and lower case": (
        {
            "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": True},
            "tokenizer_config.json": {"model_max_length": 512},
        },
        EmbeddingCard(max_tokens=256, lower_case=True),
    ),
    "the tokenizer's length": (
        {"sentence_bert_config.json": {"max_seq_length": None}, "tokenizer_config.json": {"model_max_length": 512}},
        EmbeddingCard(max_tokens=512),
    ),
    "a length without a limit": ({"tokenizer_config.json": {"model_max_length": 10**30}}, EmbeddingCard()),
}


@pytest.mark.parametrize(("files", "card"), CARDS.values(), ids=CARDS)
def test_a_card_is_read_from_the_files_of_sentence_transformers(
    files: Files, card: EmbeddingCard, tmp_path: Path
) -> None:
    assert read_embedding_card(written(tmp_path, files)) == card


UNKNOWN: dict[str, tuple[Files, str]] = {
    "another module": ({"modules.json": modules("Transformer", "LSTM")}, "a module of kind LSTM"),
    "another pooling": (
        {"modules.json": PLAIN, "1_Pooling/config.json": {"pooling_mode": "attention"}},
        "pooling by attention",
    ),
    "a prompt that is left out": (
        {
            "modules.json": PLAIN,
            "1_Pooling/config.json": {"include_prompt": False},
            "config_sentence_transformers.json": {"prompts": {"query": "Find: "}},
        },
        "leaves out the prompt",
    ),
    "a dense layer of tokens": (
        {
            "modules.json": modules("Transformer", "Dense"),
            "1_Dense/config.json": {"in_features": 8, "out_features": 4, "module_input_name": "token_embeddings"},
        },
        "1_Dense: this kind of dense layer",
    ),
    "a residual": (
        {
            "modules.json": modules("Transformer", "Dense"),
            "1_Dense/config.json": {"in_features": 8, "out_features": 4, "use_residual": True},
        },
        "1_Dense: this kind of dense layer",
    ),
    "modules that are none": ({"modules.json": [1]}, "its JSON is malformed"),
    "modules without a kind": ({"modules.json": [{"path": ""}]}, "its JSON is malformed"),
    "prompts in a list": (
        {"modules.json": [], "config_sentence_transformers.json": ["query"]},
        "its JSON is malformed",
    ),
}


@pytest.mark.parametrize(("files", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_would_be_computed_otherwise_is_refused(files: Files, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        read_embedding_card(written(tmp_path, files))
