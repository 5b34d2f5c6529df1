"""The variables of a local Worker and of wrangler itself, from `.dev.vars` and `.env` files.

Source: cloudflare/workers-sdk, packages/wrangler/src/config/dot-env.ts and packages/wrangler/src/dev/dev-vars.ts, as
of wrangler 4.164.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wrangler_compat.bindings import required_secrets
from wrangler_compat.dotenv import ExpansionError, expand, parse_dotenv
from wrangler_compat.files import Files
from wrangler_compat.values import Table, quoted


@dataclass(frozen=True, slots=True)
class Choice:
    """Wrangler's arguments that decide which files of variables count."""

    env: str | None
    env_files: tuple[Path, ...]

    def env_paths(self, base: Path) -> list[Path]:
        """The `.env` files in the order in which the later wins."""
        if self.env_files:
            return [base / path for path in self.env_files]
        named = [f".env.{self.env}", f".env.{self.env}.local"] if self.env is not None else []
        return [base / name for name in (".env", ".env.local", *named)]

    def dev_vars_paths(self, base: Path) -> list[Path]:
        """The `.dev.vars` files of which the first that exists counts."""
        if self.env_files:
            return []
        named = [f".dev.vars.{self.env}"] if self.env is not None else []
        return [base / name for name in (*named, ".dev.vars")]


@dataclass(frozen=True, slots=True)
class Variables:
    """Names with their values, and where these stand."""

    values: dict[str, str]
    origins: dict[str, str]
    """The file of each value that is from a file."""


def tool_variables(files: Files, choice: Choice, environ: Mapping[str, str]) -> Variables:
    """What the `.env` files of the working directory add to the process environment."""
    loaded = _load_env_files(files, choice.env_paths(files.directory), environ)
    return Variables({name: loaded.values[name] for name in loaded.origins}, loaded.origins)


def load_dev_vars(files: Files, base: Path, choice: Choice, process: Variables, *, secrets: object) -> Variables:
    """`.dev.vars.NAME` or `.dev.vars`, unexpanded; without either, or with `--env-file`, the `.env` files."""
    for path in choice.dev_vars_paths(base):
        text = files.text(path)
        if text is not None:
            values = parse_dotenv(text)
            return Variables(values, dict.fromkeys(values, files.shown(path)))
    if not _switch(files, process.values, "CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV", default=True):
        return Variables({}, {})
    with_process = secrets is not None or _switch(
        files, process.values, "CLOUDFLARE_INCLUDE_PROCESS_ENV", default=False
    )
    outer = process if with_process else Variables({}, {})
    loaded = _load_env_files(files, choice.env_paths(base), outer.values)
    return Variables({**outer.values, **loaded.values}, {**outer.origins, **loaded.origins})


def with_loaded(files: Files, variables: Table, loaded: Mapping[str, str], secrets: object) -> Table:
    """`vars` and over them what was loaded: all of it, or what the configuration lists in `secrets`."""
    if secrets is None:
        return {**variables, **loaded}
    required = required_secrets(secrets)
    missing = [name for name in required if name not in loaded]
    if missing:
        files.warnings.append(f"required secrets are not set: {quoted(missing)}")
    return {**variables, **{name: loaded[name] for name in loaded if name in variables or name in required}}


def warn_about_missing(files: Files, base: Path, env_files: Sequence[Path]) -> None:
    """A warning for each of `--env-file` that is neither in the working directory nor in `base`."""
    for path in env_files:
        if not any(os.path.exists(folder / path) for folder in (files.directory, base)):
            files.warnings.append(f"{path}: there is no such file")


def _load_env_files(files: Files, paths: Sequence[Path], process: Mapping[str, str]) -> Variables:
    """The `.env` files merged, then expanded; a name that `process` sets keeps that value and has no origin."""
    merged: dict[str, str] = {}
    origins: dict[str, str] = {}
    for path in paths:
        # A folder called `.env` is somebody's Python environment; wrangler passes it by as well.
        text = None if os.path.isdir(path) else files.text(path)
        if text is not None:
            values = parse_dotenv(text)
            merged |= values
            origins |= dict.fromkeys(values, files.shown(path))
    try:
        expanded = expand(merged, process)
    except ExpansionError as exc:
        files.errors.append(f"{origins[exc.name]}: {exc}")
        return Variables({}, {})
    overruled = {name for name, value in merged.items() if process.get(name) and process[name] != value}
    return Variables(expanded, {name: origin for name, origin in origins.items() if name not in overruled})


def _switch(files: Files, process: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = process.get(name)
    if value is None:
        return default
    if value.lower() not in ("true", "false"):
        files.errors.append(f"{name} must be true or false")
        return default
    return value.lower() == "true"
