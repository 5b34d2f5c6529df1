"""`kind = "transformers"`: the keys that only engines of the relay's own have, and the processes that they mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from adapters.local import model_config, own
from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.folder import kind_of, read_embedding_card
from adapters.local.inference.options import QUANTIZATIONS, check_quantization, cuda_alone
from adapters.local.own import OwnModel, OwnOptions, own_command
from adapters.local.serving.folder import ModelFolder, Refused, read_config
from adapters.local.spec import EngineSpec
from proxy.local_models import is_repository, model_folder
from proxy.setting_table import choice, whole_number
from proxy.toml_tables import Key

_DEVICE = re.compile(r"auto|cpu|mps|cuda(?::\d{1,3})?")
_TYPES = ("auto", "bfloat16", "float16", "float32")


def _model(raw: object) -> str:
    """A folder's name may hold blanks."""
    if not isinstance(raw, str) or not raw.strip() or not raw.isprintable():
        raise ValueError
    return raw.strip()


def _devices(raw: object) -> tuple[str, ...]:
    devices = tuple(raw if isinstance(raw, list) else [raw])
    if not devices or len(set(devices)) < len(devices):
        raise ValueError
    if not all(isinstance(device, str) and _DEVICE.fullmatch(device) for device in devices):
        raise ValueError
    if len(devices) > 1 and not all(":" in device for device in devices):
        raise ValueError  # `auto` and `cuda` may be one of the others
    return devices


KEYS: tuple[Key, ...] = (
    Key("kind", choice("transformers"), "transformers, or no such key beside url or command"),
    Key("model", _model, "a folder or ORG/NAME"),
    Key("device", _devices, "auto, cpu, mps, cuda or cuda:0, or a list such as ['cuda:0', 'cuda:1']"),
    Key("dtype", choice(*_TYPES), ", ".join(_TYPES[:-1]) + f" or {_TYPES[-1]}"),
    Key("quantization", choice(*QUANTIZATIONS), ", ".join(QUANTIZATIONS[:-1]) + f" or {QUANTIZATIONS[-1]}"),
    Key("threads", whole_number(1, 4096), "a whole number from 1"),
)
ONLY_OWN = ("device", "dtype", "quantization", "threads")
NOT_OWN = ("url", "weights", "command", "port", "directory", "profile", "api_key", "api_key_env")
"""Keys that say where another program is, or how it is started and spoken to."""


class WrongModel(ValueError):
    """The message follows the key's name."""


def read_own(values: Mapping[str, object], folder: Path) -> list[EngineSpec]:
    """The engines that an entry means, one for each device. A relative folder starts at `folder`.

    `values` are those of the entry that could be read, under their keys. Raises WrongModel.
    """
    name = str(values["name"])
    written = str(values["model"])
    place, repository = _place(written, folder)
    models = values.get("models") or _own_names(written, place, repository)
    assert isinstance(models, dict)
    named = values.get("embeddings", ())
    assert isinstance(named, tuple)
    if set(named) not in (set(), set(models)):
        raise WrongModel("one model makes vectors or text: expected all of models in embeddings, or none")
    devices = values.get("device", ("auto",))
    assert isinstance(devices, tuple)
    members = [name] if len(devices) == 1 else [f"{name}-{i}" for i in range(len(devices))]
    fields = {key: values[key] for key in _FIELDS if key in values}
    choices = {key: values[key] for key in ("dtype", "quantization", "threads") if key in values}
    return [
        EngineSpec(
            name=member,
            profile=own.PROFILE,
            models=models,
            embeddings=named,
            own=OwnModel(folder=place, repository=repository, device=device, **choices),  # type: ignore[arg-type]
            group=name if len(devices) > 1 else None,
            **fields,  # type: ignore[arg-type]  # each was read by the parser of its key
        )
        for member, device in zip(members, devices, strict=True)
    ]


_FIELDS = (
    *("environment", "max_concurrency", "queue", "context_window", "keep_alive", "start_timeout", "memory"),
    "trust_remote_code",
)


def _place(written: str, folder: Path) -> tuple[Path, str | None]:
    """The folder, and the name of the model where it is one of the hub."""
    place = Path(os.path.normpath(folder / Path(written).expanduser()))
    if place.is_dir():
        return place, None
    if is_repository(written) and not written.startswith("."):
        return Path(), written
    where = f"{place} is a file; name its folder" if place.is_file() else f"there is no folder {place}"
    raise WrongModel(f"expected a folder that is there, or ORG/NAME: {where}")


def _own_names(written: str, place: Path, repository: str | None) -> dict[str, str]:
    name = repository or place.resolve().name.replace(" ", "-")
    return {name: name}


def installed(spec: EngineSpec, state_dir: Path) -> EngineSpec:
    """The engine with its command, now that it is known where pulled models lie."""
    model = spec.own
    if model is None:
        return spec
    if model.repository is not None:
        model = msgspec.structs.replace(model, folder=model_folder(state_dir, model.repository))
    model = msgspec.structs.replace(model, longest=_longest_context(model.folder))
    embeddings = spec.embeddings or (tuple(spec.models) if _makes_vectors(model.folder) else ())
    options = OwnOptions(
        model=model,
        names=tuple(dict.fromkeys(spec.models.values())),
        rows=spec.max_concurrency,
        queue=own.QUEUE if spec.queue is None else spec.queue,
        context=spec.context_window,
        embeddings=bool(embeddings),
        trust_remote_code=spec.trust_remote_code,
    )
    return msgspec.structs.replace(spec, own=model, embeddings=embeddings, command=own_command(options))


def _makes_vectors(folder: Path) -> bool:
    """By the folder's own word. One that is not there yet is taken for a model that chats."""
    try:
        return kind_of(folder) == "embeddings"
    except UnsupportedModel:
        return False


def _longest_context(folder: Path) -> int | None:
    """By the folder's own word, as far as there is one yet."""
    try:
        limits = [model_config.longest_context(read_config(folder))]
        if kind_of(folder) == "embeddings":
            limits.append(read_embedding_card(folder).max_tokens)
    except (UnsupportedModel, Refused):
        return None
    return min((limit for limit in limits if limit is not None), default=None)


def shown(model: OwnModel) -> dict[str, object]:
    """What was set of it, under the names of `relay.toml`."""
    keys: dict[str, object] = {"kind": "transformers", "model": model.repository or os.fspath(model.folder)}
    defaults = OwnModel(folder=model.folder)
    return keys | {key: value for key in ONLY_OWN if (value := getattr(model, key)) != getattr(defaults, key)}


def missing(spec: EngineSpec) -> str | None:
    """Why an engine of our own cannot run here, as words that follow its name; `None` if nothing speaks against it."""
    if spec.own is None:
        return None
    if own.missing_packages():
        return own.INSTALL
    try:
        folder = ModelFolder(spec.own.folder, spec.own.repository)
        if kind_of(spec.own.folder) == "embeddings":
            read_embedding_card(spec.own.folder)
        elif spec.embeddings:
            return f"{folder.path.name} answers in words: take its names out of embeddings"
        if alone := cuda_alone(spec.own.quantization, spec.own.device):
            return alone
        present = model_config.quantised_by(folder.config)
        check_quantization(spec.own.quantization, present, lambda name: bool(own.missing_packages([name])))
    except (UnsupportedModel, Refused) as exc:
        return str(exc)
    return None


def groups(specs: Iterable[EngineSpec]) -> dict[str, list[EngineSpec]]:
    """The engines by the name of their entry."""
    found: dict[str, list[EngineSpec]] = {}
    for spec in specs:
        found.setdefault(spec.upstream, []).append(spec)
    return found
