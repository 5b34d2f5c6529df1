"""What a model folder says of itself, read from its JSON files; needs no torch.

Files of sentence-transformers: modules.json lists the steps after the transformer, each with a folder and a
config.json; config_sentence_transformers.json has the prompts, sentence_bert_config.json the longest input.
Read in its release 6.2 and its older names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from adapters.local.inference.errors import UnsupportedModel

Kind = Literal["chat", "embeddings"]
Pooling = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]

_CHAT = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ChatGLMModel")
_EMBEDDINGS = ("Model", "ForMaskedLM", "ForPreTraining")
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The names of old folders, in the order in which several are put side by side."""
_NO_LIMIT = 10**9
"""Tokenizers say some 10**30 where they know of none."""


@dataclass(frozen=True, slots=True)
class DenseCard:
    """One linear layer after pooling."""

    folder: str
    inputs: int
    outputs: int
    bias: bool
    activation: str
    """The last part of its name: Identity, Tanh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCard:
    """How the hidden states of an embedding model become a vector, and what is done to texts before."""

    poolings: tuple[Pooling, ...] = ("mean",)
    """Several are put side by side."""
    dense: tuple[DenseCard, ...] = ()
    max_tokens: int | None = None
    """As the folder says; the model's own positions may be fewer."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """What is put in front of a text, by purpose: mostly `query` and `document`."""
    default_prompt: str | None = None
    """A key of `prompts`."""
    lower_case: bool = False


def kind_of(folder: Path) -> Kind:
    """What a model folder is for, by its files. Raises UnsupportedModel where it is for neither or cannot be read."""
    with _of_our_shape(folder):
        config = _read(folder / "config.json")
        if (folder / "modules.json").exists():
            return "embeddings"
        architectures = [str(name) for name in config.get("architectures") or []]
        is_chat = any(name.endswith(_CHAT) for name in architectures)
        if is_chat or "AutoModelForCausalLM" in (config.get("auto_map") or {}):
            return "chat"
    if any(name.endswith(_EMBEDDINGS) for name in architectures):
        return "embeddings"
    raise UnsupportedModel(
        f"{folder} is no model for chats or embeddings: its config.json says {', '.join(architectures) or 'nothing'}"
    )


def read_embedding_card(folder: Path) -> EmbeddingCard:
    """Raises UnsupportedModel. A folder without modules.json is averaged over its tokens."""
    with _of_our_shape(folder):
        return _card(folder)


def _card(folder: Path) -> EmbeddingCard:
    settings = _read(folder / "config_sentence_transformers.json", {})
    bert = _read(folder / "sentence_bert_config.json", {})
    poolings: tuple[Pooling, ...] = ("mean",)
    dense: list[DenseCard] = []
    prompts: dict[str, str] = {k: v for k, v in (settings.get("prompts") or {}).items() if v}
    for module in _read(folder / "modules.json", []):
        name, path = str(module["type"]).rpartition(".")[2], str(module["path"])
        if name == "Pooling":
            config = _read(folder / path / "config.json")
            poolings = _poolings(config)
            if prompts and not config.get("include_prompt", True):
                raise UnsupportedModel("its pooling leaves out the prompt, which is not supported")
        elif name == "Dense":
            dense.append(_dense(path, _read(folder / path / "config.json")))
        elif name not in {"Transformer", "Normalize"}:  # vectors are normalised in any case
            raise UnsupportedModel(f"modules.json: a module of kind {name} is not supported")
    default = settings.get("default_prompt_name")
    return EmbeddingCard(
        poolings=poolings,
        dense=tuple(dense),
        max_tokens=_max_tokens(bert, _read(folder / "tokenizer_config.json", {})),
        prompts=prompts,
        default_prompt=default if default in prompts else None,
        lower_case=bool(bert.get("do_lower_case")),
    )


def _max_tokens(bert: dict[str, Any], tokenizer: dict[str, Any]) -> int | None:
    said = bert.get("max_seq_length") or tokenizer.get("model_max_length")
    return int(said) if isinstance(said, int | float) and 0 < said < _NO_LIMIT else None


def _poolings(config: dict[str, Any]) -> tuple[Pooling, ...]:
    modes = config.get("pooling_mode") or [mode for name, mode in _POOLINGS.items() if config.get(name)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if unknown := set(modes) - set(_POOLINGS.values()):
        raise UnsupportedModel(f"pooling by {', '.join(sorted(unknown))} is not supported")
    return tuple(modes)


def _dense(path: str, config: dict[str, Any]) -> DenseCard:
    others = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    if config.get("use_residual") or any(
        config.get(name, usual) not in {usual, None} for name, usual in others.items()
    ):
        raise UnsupportedModel(f"{path}: this kind of dense layer is not supported")
    activation = str(config.get("activation_function", "torch.nn.Tanh")).rpartition(".")[2]
    return DenseCard(path, config["in_features"], config["out_features"], config.get("bias", True), activation)


def _read(path: Path, default: Any = None) -> Any:
    """Raises UnsupportedModel where there is no such file and no `default`, or no JSON in it."""
    if default is not None and not path.exists():
        return default
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise UnsupportedModel(f"{path} cannot be read: {exc}") from exc


@contextmanager
def _of_our_shape(folder: Path) -> Iterator[None]:
    """Anybody may have written these files: one that holds other things than it should is no bug of ours."""
    try:
        yield
    except (AttributeError, KeyError, TypeError) as exc:
        raise UnsupportedModel(
            f"{folder} is no model folder as transformers writes them: its JSON is malformed"
        ) from exc
