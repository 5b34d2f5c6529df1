"""`adapters.local.serving.folder`: what is refused before anything is loaded."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from adapters.local.own import NOTE
from adapters.local.serving.folder import ModelFolder, Refused

LLAMA = {"architectures": ["LlamaForCausalLM"], "eos_token_id": 2}


def filled(folder: Path, config: Any = LLAMA, *files: str, generation: Any = None) -> Path:
    place = folder / "tiny"
    place.mkdir()
    (place / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if generation is not None:
        (place / "generation_config.json").write_text(json.dumps(generation))
    for file in files or ("model.safetensors",):
        (place / file).write_bytes(b"weights")
    return place


def test_a_folder_with_a_model_is_taken(tmp_path: Path) -> None:
    folder = ModelFolder(filled(tmp_path, LLAMA, "a.safetensors", "b.safetensors", "pytorch_model.bin"))
    assert (folder.size, folder.generation, folder.stop_ids()) == (14, {}, frozenset({2}))


END_TOKENS: dict[str, tuple[dict[str, Any], dict[str, Any], set[int]]] = {
    "none": ({}, {}, set()),
    "one and others": ({"eos_token_id": 1}, {"eos_token_id": [2, 3]}, {1, 2, 3}),
    "of the part that writes": ({"text_config": {"eos_token_id": 4}}, {}, {4}),
    "nothing": ({"eos_token_id": None}, {"eos_token_id": []}, set()),
}


@pytest.mark.parametrize(("config", "generation", "ids"), END_TOKENS.values(), ids=END_TOKENS)
def test_end_tokens_are_collected(tmp_path: Path, config: Any, generation: Any, ids: set[int]) -> None:
    assert ModelFolder(filled(tmp_path, config, generation=generation)).stop_ids() == ids


REFUSED: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "an old ChatGLM": (
        {"architectures": ["ChatGLMModel"]},
        (),
        "tiny is of the class ChatGLMModel, whose code is too old for today's transformers: serve it through "
        "chatglm.cpp, or of GLM-4 take the folder that ends in -hf (docs/engines.md)",
    ),
    "an encoder and a decoder": (
        {"is_encoder_decoder": True},
        (),
        "tiny is an encoder-decoder model, which this engine does not run",
    ),
    "pickles alone": (
        LLAMA,
        ("pytorch_model.bin",),
        "tiny has pickled weights only (pytorch_model.bin), which could run code while they are loaded: take its "
        "safetensors",
    ),
    "no weights": (LLAMA, ("tokenizer.json",), "tiny has no weights (*.safetensors)"),
    "no JSON": ("{", (), "FOLDER/config.json cannot be read (JSONDecodeError)"),
    "no object": ("[]", (), "FOLDER/config.json holds no settings"),
}


@pytest.mark.parametrize(("config", "files", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_served_is_refused_in_one_line(
    tmp_path: Path, config: Any, files: tuple[str, ...], words: str
) -> None:
    place = filled(tmp_path, config, *files)
    with pytest.raises(Refused) as caught:
        ModelFolder(place)
    assert str(caught.value) == words.replace("FOLDER", str(place))


def safetensors(*ends: int, data: int = 0) -> bytes:
    """A file whose tensors end at these bytes after its head, and which holds so many of them."""
    head = {f"w{i}": {"dtype": "U8", "shape": [1], "data_offsets": [0, end]} for i, end in enumerate(ends)}
    text = json.dumps({"__metadata__": {"format": "pt"}, **head}).encode()
    return len(text).to_bytes(8, "little") + text + b"x" * data


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4976698672\n"
WEIGHTS: dict[str, tuple[bytes, str | None]] = {
    "whole": (safetensors(3, 5, data=5), None),
    "without tensors": (safetensors(), None),
    "an end that is not there": (safetensors(3, 9, data=5), "a.safetensors of tiny is cut off at SIZE bytes"),
    "a part of the head": (safetensors(5)[:40], "a.safetensors of tiny is cut off at 40 bytes: fetch it again"),
    "nothing": (b"", "a.safetensors of tiny is cut off at 0 bytes: fetch it again"),
    "a pointer": (POINTER, "a.safetensors of tiny is a pointer of Git LFS and no weights: run git lfs pull in FOLDER"),
    "no JSON": ((4).to_bytes(8, "little") + b"{ooo", "a.safetensors of tiny cannot be read (JSONDecodeError)"),
    "no head": ((2).to_bytes(8, "little") + b"[]", "a.safetensors of tiny cannot be read (AttributeError)"),
}


@pytest.mark.parametrize(("content", "words"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_are_not_whole_are_refused(tmp_path: Path, content: bytes, words: str | None) -> None:
    place = filled(tmp_path, LLAMA, "a.safetensors")
    (place / "a.safetensors").write_bytes(content)
    folder = ModelFolder(place)
    if words is None:
        folder.check_weights()
        return
    with pytest.raises(
        Refused, match=re.escape(words.replace("FOLDER", str(place)).replace("SIZE", str(len(content))))
    ):
        folder.check_weights()


def test_a_file_of_weights_that_the_index_names_has_to_be_there(tmp_path: Path) -> None:
    place = filled(tmp_path, LLAMA, "a.safetensors")
    (place / "a.safetensors").write_bytes(safetensors())
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(Refused, match=r"tiny is not whole: b.safetensors is not there, of 2 files of weights"):
        ModelFolder(place).check_weights()
    (place / "b.safetensors").write_bytes(safetensors(2, data=2))
    ModelFolder(place).check_weights()


BESIDE: dict[str, tuple[dict[str, str], bool, bool]] = {
    "nothing": ({}, False, False),
    "a tokenizer": ({"tokenizer.json": "{}", "tokenizer_config.json": '{"chat_template": null}'}, True, False),
    "a template in its settings": ({"tokenizer_config.json": '{"chat_template": "{{ messages }}"}'}, True, True),
    "a template of its own": ({"chat_template.jinja": "", "spiece.model": ""}, True, True),
    "Mistral's": ({"tekken.json": "{}"}, True, True),
    "BERT's": ({"vocab.txt": ""}, True, False),
}


@pytest.mark.parametrize(("files", "tokenizer", "template"), BESIDE.values(), ids=BESIDE)
def test_what_lies_beside_the_weights_is_seen(
    tmp_path: Path, files: dict[str, str], tokenizer: bool, template: bool
) -> None:
    place = filled(tmp_path)
    for name, text in files.items():
        (place / name).write_text(text)
    folder = ModelFolder(place)
    assert folder.has_chat_template is template
    words = r"tiny has no tokenizer \(tokenizer.json\): fetch the model's other files too"
    with nullcontext() if tokenizer else pytest.raises(Refused, match=words):
        folder.check_tokenizer()


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"there is no model in .* \(no config.json\)"):
        ModelFolder(tmp_path)


def test_a_model_whose_pulling_was_cut_off_is_refused(tmp_path: Path) -> None:
    place = filled(tmp_path)
    with pytest.raises(Refused, match="a/b is not whole on this machine: relay models pull a/b"):
        ModelFolder(place, "a/b")
    (place / NOTE).write_text("{}")
    assert ModelFolder(place, "a/b").path == place


def test_a_pulled_model_without_a_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / NOTE).write_text("{}")
    with pytest.raises(Refused, match="no config.json"):
        ModelFolder(tmp_path, "a/b")
