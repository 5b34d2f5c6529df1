"""Where settings come from: flags, environment, `relay.toml` and a project's wrangler files.

Reads and merges; what a value means is `proxy.setting_table`'s and `proxy.settings`' matter.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import platformdirs

from proxy.engine_table import Engines, read_engines
from proxy.model_rules import ModelTables, read_models
from proxy.setting_table import APP_NAME, SETTINGS
from proxy.toml_tables import is_name, is_table, nearest
from wrangler_compat.config import read_project, relay_values

_FILE_NAME = "relay.toml"
_BY_KEY = {setting.key: setting for setting in SETTINGS}
_BY_ENV = {setting.env: setting for setting in SETTINGS}
_BY_ATTRIBUTE = {setting.attribute: setting for setting in SETTINGS}
_TABLES = ("aliases", "models", "engines")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Which sources a command was told to use; enough for another process to load the same settings.

    `flags` maps a setting's attribute to what the command line said; `None` means that it said nothing.
    """

    config: str | None = None
    wrangler_config: str | None = None
    env: str | None = None
    flags: Mapping[str, object] = field(default_factory=dict)

    def as_flags(self) -> dict[str, object]:
        """The first argument of `load_settings`."""
        sources = {"config": self.config, "wrangler_config": self.wrangler_config, "env": self.env}
        return {**self.flags, **sources}

    @classmethod
    def from_flags(cls, flags: Mapping[str, object]) -> SourceOptions:
        """The inverse of `as_flags`. Raises KeyError for a flag that is no setting's."""
        named = {name: str(value) for name in ("config", "wrangler_config", "env") if (value := flags.get(name))}
        if flags.get("env") == "":
            named["env"] = ""  # wrangler's way to say "top level, whatever CLOUDFLARE_ENV holds"
        rest = {name: value for name, value in flags.items() if name not in ("config", "wrangler_config", "env")}
        for name in rest:
            _BY_ATTRIBUTE[name]
        return cls(**named, flags={name: value for name, value in rest.items() if value is not None})


class Value(NamedTuple):
    """What one source says of one setting. `name` is the setting as the user wrote it."""

    raw: object
    name: str
    origin: str
    base: Path
    """The folder that a relative path starts from."""
    discovered: bool = False
    """From a wrangler file that was found, not asked for."""


@dataclass(slots=True)
class Gathered:
    """The strongest value of each setting by its environment name, and all that is no plain value."""

    values: dict[str, Value] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    models: ModelTables = field(default_factory=ModelTables)
    engines: Engines = field(default_factory=Engines)
    table_origin: str = "default"
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def gather(options: SourceOptions, environ: Mapping[str, str], directory: Path) -> Gathered:
    """Merge all sources, the weakest first."""
    found = Gathered()
    _add_wrangler(found, options, environ, directory)
    _add_toml(found, options, environ, directory)
    _add_environ(found, environ, directory)
    for attribute, raw in options.flags.items():
        setting = _BY_ATTRIBUTE[attribute]
        found.values[setting.env] = Value(raw, setting.flag, f"flag {setting.flag}", directory)
    return found


def _add_wrangler(found: Gathered, options: SourceOptions, environ: Mapping[str, str], directory: Path) -> None:
    named = options.wrangler_config
    config = directory / Path(named).expanduser() if named else None
    if config is not None and not config.is_file():
        found.problems.append(f"--wrangler-config {named}: there is no such file")
        return
    project = read_project(directory, config=config, env=options.env, environ=environ)
    found.warnings += [str(warning) for warning in project.warnings]
    # A project that merely lies here may be broken in ways that do not concern the relay.
    (found.problems if named else found.warnings).extend(str(error) for error in project.errors)
    for name, (raw, origin) in relay_values(project).items():
        if name in _BY_ENV:
            if raw != "":
                found.values[name] = Value(raw, f"{name} in {origin}", origin, directory, discovered=not named)
        elif name.startswith("RELAY_"):
            found.warnings.append(f"{name} in {origin} is no setting of the relay{nearest(name, _BY_ENV)}")


def _add_environ(found: Gathered, environ: Mapping[str, str], directory: Path) -> None:
    for name, raw in environ.items():
        if name in _BY_ENV:
            # Empty is unset: that is what `${NAME:-}` in a compose file leaves behind.
            if raw != "":
                found.values[name] = Value(raw, name, "environment", directory)
        elif name.startswith("RELAY_"):
            found.warnings.append(f"{name} is no setting of the relay{nearest(name, _BY_ENV)}")


def config_file(options: SourceOptions, directory: Path) -> Path | None:
    """The `relay.toml` that counts; one that was named counts even if it is missing."""
    if options.config:
        return directory / Path(options.config).expanduser()
    return next((file for file in (directory / _FILE_NAME, user_file()) if file.is_file()), None)


def user_file() -> Path:
    """The `relay.toml` that counts in every folder without one of its own."""
    return platformdirs.user_config_path(APP_NAME, appauthor=False) / _FILE_NAME


def _add_toml(found: Gathered, options: SourceOptions, environ: Mapping[str, str], directory: Path) -> None:
    file = config_file(options, directory)
    if file is None:
        return
    shown = options.config or (_FILE_NAME if file.parent == directory else str(file))
    try:
        # tomllib refuses a byte-order mark, which editors on Windows write.
        content = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        found.problems.append(f"--config {shown}: there is no such file")
    except OSError as exc:
        found.problems.append(f"{shown}: cannot be read ({exc.strerror})")
    except UnicodeDecodeError:
        found.problems.append(f"{shown}: expected UTF-8 text")
    except tomllib.TOMLDecodeError as exc:
        found.problems.append(f"{shown}: expected TOML: {exc}")
    else:
        found.table_origin = shown
        _take_toml(found, content, shown, file.parent)
        _take_tables(found, content, shown, file.parent, environ)


def _take_toml(found: Gathered, content: dict[str, object], shown: str, folder: Path) -> None:
    for key, raw in content.items():
        if key in _BY_KEY:
            found.values[_BY_KEY[key].env] = Value(raw, f"{key} in {shown}", shown, folder)
        elif key not in _TABLES:
            found.problems.append(f"{key} in {shown}: no such setting{nearest(key, [*_BY_KEY, *_TABLES])}")


def _take_tables(
    found: Gathered, content: dict[str, object], shown: str, folder: Path, environ: Mapping[str, str]
) -> None:
    if "aliases" in content:
        _take_aliases(found, content["aliases"], shown)
    if "engines" in content:
        found.engines = read_engines(content["engines"], environ, folder, shown, found.problems, found.warnings)
    if "models" in content:  # candidates name engines
        found.models = read_models(content["models"], found.engines.named, shown, found.problems)


def _take_aliases(found: Gathered, raw: object, shown: str) -> None:
    if not is_table(raw):
        found.problems.append(f"[aliases] in {shown}: expected a table of names and model ids")
        return
    for alias, model in raw.items():
        if not is_name(alias) or not is_name(model):
            found.problems.append(f'"{alias}" in [aliases] in {shown}: expected the id of a model')
        else:
            found.aliases[alias] = model
    for alias in found.aliases:
        if _returns(alias, found.aliases):
            found.problems.append(f'"{alias}" in [aliases] in {shown}: expected a model, got a circle of aliases')


def _returns(alias: str, aliases: Mapping[str, str]) -> bool:
    """Does the chain that begins at `alias` come back to it?"""
    name = alias
    for _ in aliases:
        name = aliases.get(name, "")
        if name == alias:
            return True
    return False
