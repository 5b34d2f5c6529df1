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


class Refused(Exception):
    """This cannot be served; the message says why in one line, for all to read."""


class ModelFolder:
    """A folder with a `config.json` and weights. Raises Refused for one that the engine has no way to serve."""

    def __init__(self, path: Path, repository: str | None = None) -> None:
        if problem := missing_model(path, repository):
            raise Refused(problem)
        self.path = path
        self.config = _read(path / "config.json")
        self.generation = _read(path / "generation_config.json", optional=True)
        self.weights = sorted(path.glob("*.safetensors"))
        self._check()

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return sum(file.stat().st_size for file in self.weights)

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


def _read(file: Path, *, optional: bool = False) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        if optional:
            return {}
        raise Refused(f"there is no model in {file.parent} (no {file.name})") from None
    except (OSError, ValueError) as exc:
        raise Refused(f"{file} cannot be read ({type(exc).__name__})") from exc
    if not isinstance(value, dict):
        raise Refused(f"{file} holds no settings")
    return value
