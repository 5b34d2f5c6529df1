"""The check of `relay doctor` on an engine of the relay's own: what files and devices tell, with nothing loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.filesize import decimal

from adapters.local.inference.options import cuda_alone
from adapters.local.main_memory import free_for_cache
from adapters.local.model_config import token_bytes
from adapters.local.own import OwnModel
from adapters.local.serving.folder import ModelFolder, Refused
from adapters.local.serving.room import choose_room
from adapters.local.spec import EngineSpec
from proxy.commands.checks import Check
from proxy.commands.engine_diagnosis import machine_memory
from proxy.own_engines import missing

_DEV = Path("/dev")
_GPUS = ("nvidia[0-9]*", "kfd", "dxg")
"""What drivers put there: NVIDIA's, AMD's, and that of Linux inside of Windows."""
_COMMANDS = ("make ", "relay ", "pip ")
_OTHER = "Put the model there, or name another folder."
_WHAT_RUNS = "Name another folder: docs/engines.md says what runs."


def check_own_engine(name: str, group: Sequence[EngineSpec]) -> Check:
    """Is everything here that it needs, and fit for it? `group` is the engine on each of its devices."""
    models = [engine.own for engine in group if engine.own is not None]
    model = models[0]
    if problem := missing(group[0]):
        return _failed(name, problem)
    folder = ModelFolder(model.folder, model.repository)
    try:
        folder.check_weights()
        folder.check_tokenizer()
        can_chat = folder.has_chat_template
    except Refused as exc:
        return _failed(name, str(exc))
    if absent := [each.device for each in models if not _is_likely_here(each.device)]:
        text = f"{name}: no device {', '.join(absent)} is seen on this machine"
        return Check(name="engine", status="warning", text=text, advice="Look at its driver, or set device = 'cpu'.")
    if not can_chat and not group[0].embeddings:
        text = f"{name}: {folder.path.name} has no chat template, so it cannot chat"
        advice = "Take the variant of the model that was trained for conversations (its name ends in -Instruct or -it)."
        return Check(name="engine", status="warning", text=text, advice=advice)
    if _in_main_memory(model) and (problem := cuda_alone(model.quantization, "cpu")):
        text, _, advice = problem.partition(": ")
        return Check(name="engine", status="warning", text=f"{name}: {text}", advice=f"{_capital(advice)}.")
    if _in_main_memory(model) and folder.size > machine_memory():
        text = f"{name}: its weights take {decimal(folder.size)}, this machine has {decimal(machine_memory())}"
        return Check(name="engine", status="warning", text=text, advice="Take a smaller model, or set quantization.")
    if _in_main_memory(model) and (problem := _cache_too_large(group[0], model, folder)):
        text, _, advice = problem.partition(": ")
        return Check(name="engine", status="warning", text=f"{name}: {text}", advice=f"{_capital(advice)}.")
    return Check(name="engine", status="ok", text=f"{name}: {model.repository or model.folder} is here")


def _failed(name: str, problem: str) -> Check:
    words, _, remedy = problem.partition(": ")
    if not remedy:
        advice = _OTHER if words.startswith("there is no model") else _WHAT_RUNS
    elif remedy.startswith(_COMMANDS):
        advice = f"Run {remedy}"
    else:
        advice = f"{_capital(remedy)}."
    return Check(name="engine", status="failed", text=f"{name}: {words}", advice=advice)


def _cache_too_large(engine: EngineSpec, model: OwnModel, folder: ModelFolder) -> str | None:
    """What the engine would say of the cache that was asked for, were it started now, as far as its files tell."""
    own = model.longest or engine.context_window
    size = token_bytes(folder.config, model.dtype)
    if engine.embeddings or own is None or size is None:
        return None
    free = free_for_cache(taken=folder.size)
    try:
        choose_room(rows=engine.max_concurrency, context=engine.context_window, own=own, token_bytes=size, free=free)
    except Refused as exc:
        return str(exc)
    return None


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _is_likely_here(device: str) -> bool:
    """Whether there may be such a device; torch alone would know, and takes seconds to be asked."""
    if device == "mps":
        return sys.platform == "darwin"
    return not device.startswith("cuda") or sys.platform != "linux" or _sees_a_gpu()


def _sees_a_gpu() -> bool:
    return any(any(_DEV.glob(name)) for name in _GPUS)


def _in_main_memory(model: OwnModel) -> bool:
    return model.device in {"cpu", "mps"} or (model.device == "auto" and sys.platform == "linux" and not _sees_a_gpu())
