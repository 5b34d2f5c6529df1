"""`adapters.local.serving.folder`: what is refused before anything is loaded."""

from __future__ import annotations

import json
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
