"""What lies in a model's folder, looked at before anything heavy is imported: whether it can be served at all, and how
its authors want it sampled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.local.own import missing_model

_OLD_GLM = "ChatGLMModel"
"""The class of the folders of ChatGLM 1 to 3, and of GLM-4's first ones: code for transformers of 2023."""
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_POINTER = b"version https://git-lfs"
_TOKENIZERS = ("*token*.*", "vocab.*", "merges.txt", "*.model", "*.tiktoken", "tekken.json")
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "tekken.json")  # mistral-common brings that of the last


class Refused(Exception):
    """This cannot be served; the message says why in one line, for all to read."""


class ModelFolder:
    """A folder with a `config.json` and weights. Raises Refused for one that the engine has no way to serve."""

    def __init__(self, path: Path, repository: str | None = None) -> None:
        if problem := missing_model(path, repository):
            raise Refused(problem)
        self.path = path
        self.config = read_config(path)
        self.generation = _read(path / "generation_config.json", optional=True)
        self.weights = sorted(path.glob("*.safetensors"))
        self._check()

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return sum(file.stat().st_size for file in self.weights)

    def check_tokenizer(self) -> None:
        """Whether anything looks like one: each family has names of its own beside the usual. Raises Refused."""
        if not any(any(self.path.glob(name)) for name in _TOKENIZERS):
            raise Refused(f"{self.path.name} has no tokenizer (tokenizer.json): fetch the model's other files too")

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be put to it."""
        settings = _read(self.path / "tokenizer_config.json", optional=True)
        return bool(settings.get("chat_template")) or any((self.path / name).exists() for name in _TEMPLATES)

    def check_weights(self) -> None:
        """Whether the files of weights are all here and whole; their heads are read. Raises Refused."""
        index = _read(self.path / "model.safetensors.index.json", optional=True).get("weight_map")
        shards = {str(name) for name in index.values()} if isinstance(index, dict) else set()
        if absent := sorted(shards - {file.name for file in self.weights}):
            raise Refused(f"{self.path.name} is not whole: {absent[0]} is not there, of {len(shards)} files of weights")
        for file in self.weights:
            _check_safetensors(file)

    def _check(self) -> None:
        architectures = self.config.get("architectures")
        if isinstance(architectures, list) and _OLD_GLM in architectures:
            raise Refused(
                f"{self.path.name} is of the class {_OLD_GLM}, whose code is too old for today's transformers: serve "
                "it through chatglm.cpp, or of GLM-4 take the folder that ends in -hf (docs/engines.md)"
            )
        if self.config.get("is_encoder_decoder") is True:
            raise Refused(f"{self.path.name} is an encoder-decoder model, which this engine does not run")
        if self.weights:
            return
        if pickled := [file.name for kind in _PICKLED for file in sorted(self.path.glob(kind))]:
            raise Refused(
                f"{self.path.name} has pickled weights only ({pickled[0]}), which could run code while they are "
                "loaded: take its safetensors"
            )
        raise Refused(f"{self.path.name} has no weights (*.safetensors)")

    def stop_ids(self) -> frozenset[int]:
        """The end tokens that configuration and generation settings name."""
        found: set[int] = set()
        for settings in (self.config, self.config.get("text_config"), self.generation):
            ids = settings.get("eos_token_id") if isinstance(settings, Mapping) else None
            found.update(id for id in (ids if isinstance(ids, list) else [ids]) if isinstance(id, int))
        return frozenset(found)


def read_config(folder: Path) -> dict[str, Any]:
    """Raises Refused."""
    return _read(folder / "config.json")


def _check_safetensors(file: Path) -> None:
    """Eight bytes are the length of a head in JSON, which says where the last tensor after it ends. Raises Refused."""
    where = f"{file.name} of {file.parent.name}"
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            first = opened.read(8)
            if first and _POINTER.startswith(first):
                raise Refused(f"{where} is a pointer of Git LFS and no weights: run git lfs pull in {file.parent}")
            length = int.from_bytes(first, "little")
            if len(first) == 8 and 8 + length <= size:
                head = json.loads(opened.read(length))
                end = max((part["data_offsets"][1] for name, part in head.items() if name != "__metadata__"), default=0)
                if 8 + length + end <= size:
                    return
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as exc:
        raise Refused(f"{where} cannot be read ({type(exc).__name__})") from exc
    raise Refused(f"{where} is cut off at {size} bytes: fetch it again")


def _read(file: Path, *, optional: bool = False) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        if optional:
            return {}
        raise Refused(f"there is no model in {file.parent} (no {file.name})") from None
    except (OSError, ValueError, RecursionError) as exc:
        raise Refused(f"{file} cannot be read ({type(exc).__name__})") from exc
    if not isinstance(value, dict):
        raise Refused(f"{file} holds no settings")
    return value
