"""The checks of `relay doctor` on engines: all that can be known of them without starting one."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.filesize import decimal

from adapters.local.spec import EngineSpec
from proxy.commands.checks import Check, Status
from proxy.commands.engine_check import Check as Answered
from proxy.commands.engine_check import check_engine
from proxy.settings import Settings

_PATIENCE = 3.0  # seconds for each answer of a remote engine
_MODEL_FLAGS = ("-m", "--model", "--model-path", "serve")
_MODEL_FILES = (".gguf", ".ggml", ".bin", ".safetensors")
_INSTALL = (
    "Install it, or name its whole path in command: the relay's PATH may be shorter than your shell's, "
    "under systemd for one."
)


async def examine_engines(settings: Settings, surroundings: Mapping[str, str]) -> list[Check]:
    """One for each engine with a command, one for each address of a remote one, and those on memory. Raises nothing.

    Engines of the relay's own are in own_engine_diagnosis.
    """
    remote = [engine for engine in settings.engines if engine.urls]
    commands = [engine for engine in settings.engines if engine.command and engine.own is None]
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(check_engine(engine, engine.urls, settings.connect_timeout, _PATIENCE))
            for engine in remote
        ]
    return [
        *(_local(engine, surroundings) for engine in commands),
        *(_remote(engine, found) for engine, task in zip(remote, asked, strict=True) for found in task.result()),
        *_memory(settings, machine_memory()),
    ]


def _remote(engine: EngineSpec, found: Answered) -> Check:
    status: Status = "ok" if found.fine else "warning" if found.passing else "failed"
    return Check(name="engine", status=status, text=f"{engine.name}: {found.url} {found.text}", advice=found.advice)


def _local(engine: EngineSpec, surroundings: Mapping[str, str]) -> Check:
    name = engine.name
    folder = engine.directory or Path.cwd()
    program = engine.command[0]
    path = engine.environment.get("PATH", surroundings.get("PATH"))
    if "/" in program:
        file = folder / program
        if not file.is_file():
            return _failed(name, f"its command {file} is not there", _INSTALL)
        if not os.access(file, os.X_OK):
            return _failed(name, f"its command {file} cannot be executed", f"chmod +x {file}")
    elif shutil.which(program, path=path) is None:
        return _failed(name, f"its command {program!r} is not found", _INSTALL)
    for model in _model_paths(engine):
        if not (folder / model).exists():
            home = "No shell takes part, so write the home folder in full. " if model.startswith("~") else ""
            return _failed(name, f"its model {folder / model} is not there", f"{home}Correct the path, or fetch it.")
    return Check(name="engine", status="ok", text=f"{name}: {program} is here; the first request starts it")


def _failed(name: str, text: str, advice: str) -> Check:
    return Check(name="engine", status="failed", text=f"{name}: {text}", advice=advice)


def _model_paths(engine: EngineSpec) -> Iterator[str]:
    """What of command and environment is the path of a model, rather than a name that the engine looks up."""
    words = engine.command
    values = [value for flag, value in zip(words, words[1:], strict=False) if flag in _MODEL_FLAGS]
    values += [word.partition("=")[2] for word in words if word.partition("=")[0] in _MODEL_FLAGS]
    if "MODEL" in engine.environment:  # chatglm.cpp's
        values.append(engine.environment["MODEL"])
    for value in values:
        if value.startswith(("/", "./", "../", "~")) or value.endswith(_MODEL_FILES):
            yield value


def _memory(settings: Settings, machine: int) -> Iterator[Check]:
    budget, local = settings.engines_memory, [engine for engine in settings.engines if engine.is_local]
    told = [(engine, engine.memory) for engine in local if engine.memory is not None]
    if not local:
        return
    gpu = "That is right only where it is a GPU's memory."
    if budget is not None and budget > machine:
        text = f"{settings.names['engines_memory']} is {decimal(budget)}, this machine has {decimal(machine)}"
        yield Check(name="memory", status="warning", text=text, advice=gpu)
    for engine, size in told:
        if budget is None and size > machine:
            text = f"{engine.name} takes {decimal(size)}, this machine has {decimal(machine)}"
            yield Check(name="memory", status="warning", text=text, advice=gpu)
    if budget is None:
        return
    if uncounted := [engine.name for engine in local if engine.memory is None]:
        text = f"{', '.join(uncounted)}: without memory in relay.toml, and so not counted"
        advice = f"Say what each takes, or {settings.names['engines_memory']} does not hold."
        yield Check(name="memory", status="warning", text=text, advice=advice)
    else:
        yield Check(name="memory", status="ok", text=_fit([size for _, size in told], budget))


def _fit(sizes: Sequence[int], budget: int) -> str:
    turns = "" if sum(sizes) <= budget else "; they take turns, those without work make room"
    return f"engines take {decimal(sum(sizes))} of {decimal(budget)}{turns}"


def machine_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
