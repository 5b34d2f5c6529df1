"""A project's wrangler files, read as wrangler reads them: configuration, environments, `.dev.vars` and `.env`.

Source of the rules: cloudflare/workers-sdk, packages/workers-utils/src/config, packages/wrangler/src/config/dot-env.ts
and packages/wrangler/src/dev/dev-vars.ts, as of wrangler 4.164. Reading is all the I/O there is, and nothing here
raises for a bad file: what wrangler would refuse is listed in `Project.errors`, by file and key, never by value, for
values may be secrets.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wrangler_compat.checks import Checker
from wrangler_compat.environments import resolve, resolve_redirected
from wrangler_compat.files import Files
from wrangler_compat.search import Location, find_config
from wrangler_compat.syntax import parse_config
from wrangler_compat.values import Table, kind
from wrangler_compat.variables import Choice, Variables, load_dev_vars, tool_variables, warn_about_missing, with_loaded

_RELAY_PREFIXES = ("CLOUDFLARE_", "RELAY_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What wrangler would make of a project in one environment.

    `dev_vars` are the variables of a local Worker: `vars`, then `.dev.vars` or the `.env` files next to the
    configuration. `tool_vars` are what the `.env` files of the working directory add to the environment of the tool
    itself; names that the real environment sets are not among them.
    """

    config_path: Path | None = None
    name: str | None = None
    account_id: str | None = None
    compatibility_date: str | None = None
    compatibility_flags: tuple[str, ...] = ()
    vars: Table = field(default_factory=dict, repr=False)
    ai: Table | None = None
    dev_vars: Table = field(default_factory=dict, repr=False)
    tool_vars: dict[str, str] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    shown_path: str | None = None
    """`config_path` as messages name it: relative to the working directory."""
    vars_origin: str = ""
    dev_origins: dict[str, str] = field(default_factory=dict)
    """The file of each of `dev_vars` that is from a file of variables."""
    tool_origins: dict[str, str] = field(default_factory=dict)

    def to_json_dict(self) -> dict[str, Any]:
        """All of it as plain JSON, but for `tool_vars`. Holds secrets."""
        return {
            "config_path": self.shown_path,
            "name": self.name,
            "account_id": self.account_id,
            "compatibility_date": self.compatibility_date,
            "compatibility_flags": list(self.compatibility_flags),
            "vars": self.vars,
            "ai": self.ai,
            "dev_vars": self.dev_vars,
            "warnings": list(self.warnings),
            "errors": list(self.errors),
        }


def read_project(
    directory: Path,
    *,
    config: Path | None = None,
    env: str | None = None,
    env_files: Sequence[Path] = (),
    script: Path | None = None,
    redirect: bool = False,
    environ: Mapping[str, str] = {},
) -> Project:
    """Read the project of the working directory `directory`.

    `config`, `env`, `env_files` and `script` are wrangler's arguments of those names; relative paths start from
    `directory`, those of `env_files` from the folder of the configuration as well. `env=""` means the top level,
    None leaves the choice to `CLOUDFLARE_ENV`. `redirect` follows a build tool's `.wrangler/deploy/config.json`, as
    `wrangler dev` and `deploy` do. `environ` is the process environment.
    """
    files = Files(Path(os.path.abspath(directory)))
    choice = Choice(env, tuple(env_files))
    tool = tool_variables(files, choice, environ)
    process = Variables({**environ, **tool.values}, tool.origins)
    named = files.directory / config if config is not None else None
    location = Location(named, named) if named is not None else find_config(files, script, redirect=redirect)
    path = location.config
    chosen = process.values.get("CLOUDFLARE_ENV") if env is None else env
    settings, vars_origin = _read_config(files, location, chosen)
    variables: Table = settings.get("vars") or {}
    base = location.user.parent if location.user is not None else files.directory
    loaded = load_dev_vars(files, base, choice, process, secrets=settings.get("secrets"))
    local = with_loaded(files, variables, loaded.values, settings.get("secrets"))
    warn_about_missing(files, base, choice.env_files)
    _warn_about_types(files, variables, vars_origin)
    return Project(
        config_path=path,
        name=settings.get("name"),
        account_id=settings.get("account_id"),
        compatibility_date=settings.get("compatibility_date"),
        compatibility_flags=tuple(settings.get("compatibility_flags") or ()),
        vars=variables,
        ai=settings.get("ai"),
        dev_vars=local,
        tool_vars=tool.values,
        warnings=tuple(dict.fromkeys(files.warnings)),
        errors=tuple(dict.fromkeys(files.errors)),
        shown_path=files.shown(path) if path is not None else None,
        vars_origin=vars_origin,
        dev_origins={name: origin for name, origin in loaded.origins.items() if name in local},
        tool_origins=tool.origins,
    )


def relay_values(project: Project) -> dict[str, tuple[str, str]]:
    """What the relay may take from a project: name to (value, where it stands).

    That is `account_id` and, over it, names that begin with `CLOUDFLARE_` or `RELAY_`: of `vars`, over these of the
    `.env` files of the working directory, over these of the files that local development reads.
    """
    found: dict[str, tuple[str, str]] = {}
    if project.account_id is not None:
        found["CLOUDFLARE_ACCOUNT_ID"] = (project.account_id, project.shown_path or "")
    layers: list[tuple[Mapping[str, Any], Mapping[str, str]]] = [
        (project.vars, dict.fromkeys(project.vars, project.vars_origin)),
        (project.tool_vars, project.tool_origins),
        (project.dev_vars, project.dev_origins),
    ]
    for values, origins in layers:
        for name, origin in origins.items():
            value = values[name]
            if name.startswith(_RELAY_PREFIXES) and isinstance(value, str):
                found[name] = (value, origin)
    return found


def _read_config(files: Files, location: Location, env: str | None) -> tuple[Table, str]:
    """The settings of the environment, and what to call the place of its `vars`."""
    path = location.config
    shown = files.shown(path) if path is not None else "wrangler configuration"
    try:
        raw = parse_config(files, path) if path is not None else {}
        return (resolve_redirected if location.redirected else resolve)(Checker(files, shown), raw, env)
    except RecursionError:
        files.errors.append(f"{shown}: nested too deeply")
        return {}, ""


def _warn_about_types(files: Files, variables: Table, origin: str) -> None:
    for name, value in variables.items():
        if name.startswith(_RELAY_PREFIXES) and not isinstance(value, str):
            files.warnings.append(f"{name} in {origin} is {kind(value)}, not a string, and not used by the relay")
