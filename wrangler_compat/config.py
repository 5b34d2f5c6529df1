"""A project's wrangler files, read as wrangler reads them: configuration, environments, `.dev.vars` and `.env`.

Source of the rules: cloudflare/workers-sdk, packages/workers-utils/src/config, packages/wrangler/src/config/dot-env.ts
and packages/wrangler/src/dev/dev-vars.ts, as of wrangler 4.164. Reading is all the I/O there is, and nothing here
raises for a bad file: what wrangler would refuse is listed in `Project.errors`, by file and key, never by value, for
values may be secrets.
"""

from __future__ import annotations

import datetime
import math
import os
import re
import stat
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wrangler_compat.dotenv import ExpansionError, expand, parse_dotenv
from wrangler_compat.jsonc import JsoncError, parse_jsonc

_FILE_NAMES = ("wrangler.json", "wrangler.jsonc", "wrangler.toml")
_RELAY_PREFIXES = ("CLOUDFLARE_", "RELAY_")

# `name` is inherited with a suffix, all others as they are.
_INHERITABLE = frozenset(
    """account_id compatibility_date compatibility_flags main base_dir rules route routes triggers assets limits
    placement build workers_dev preview_urls migrations exports logfwdr no_bundle minify keep_names first_party_worker
    find_additional_modules preserve_file_names jsx_factory jsx_fragment tsconfig logpush upload_source_maps
    observability access cache compliance_region python_modules previews""".split()
)
_NOT_INHERITABLE = tuple(
    """vars secrets ai define services unsafe kv_namespaces r2_buckets d1_databases durable_objects workflows queues
    vectorize ai_search ai_search_namespaces websearch agent_memory hyperdrive browser images stream media send_email
    analytics analytics_engine_datasets dispatch_namespaces mtls_certificates tail_consumers streaming_tail_consumers
    pipelines k2 secrets_store_secrets artifacts flagship worker_loaders ratelimits vpc_services vpc_networks
    version_metadata containers cloudchamber connect unsafe_hello_world""".split()
)
_TOP_LEVEL_ONLY = frozenset(
    """env $schema dev site alias wasm_modules text_blobs data_blobs send_metrics dependencies_instrumentation
    keep_vars addresses pages_build_output_dir""".split()
)
_IN_ENVIRONMENT = frozenset({"name", *_INHERITABLE, *_NOT_INHERITABLE})
_IN_DEV = frozenset(
    """ip port inspector_port inspector_ip local_protocol upstream_protocol host enable_containers container_engine
    generate_types""".split()
)
# Keys whose bindings share one name space in the Worker's `env`.
_BINDINGS = tuple(
    """data_blobs durable_objects kv_namespaces send_email queues d1_databases vectorize ai_search_namespaces ai_search
    websearch agent_memory hyperdrive r2_buckets logfwdr services analytics_engine_datasets text_blobs browser
    analytics ai images stream media version_metadata unsafe vars wasm_modules dispatch_namespaces mtls_certificates
    workflows pipelines k2 secrets_store_secrets artifacts ratelimits assets unsafe_hello_world flagship worker_loaders
    vpc_services vpc_networks""".split()
)
_REMOVED = {
    "legacy_env": "is no longer supported; remove it (each environment is a Worker of its own, NAME-ENVIRONMENT)",
    "node_compat": 'is no longer supported; use the compatibility flag "nodejs_compat"',
}

_NAME = re.compile(r"(?:[a-z0-9_][a-z0-9_-]*)?")
# What `new Date()` takes is wider still and differs from engine to engine.
_DATE = re.compile(r"\s*\d{4}(?:[-/](?:0?[1-9]|1[0-2])(?:[-/](?:0?[1-9]|[12]\d|3[01]))?)?(?:[T ]\S+)?\s*")
_TOML_MESSAGE = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)
# The longer marks first: the UTF-32 one begins like the UTF-16 one.
_WIDE_MARKS = {
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\xfe\xff": "UTF-16",
    b"\xff\xfe": "UTF-16",
}

Table = dict[str, Any]
"""An object of a configuration file: any JSON value, and in TOML dates and times."""


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
    environ: Mapping[str, str] = {},
) -> Project:
    """Read the project of the working directory `directory`.

    `config`, `env`, `env_files` and `script` are wrangler's arguments of those names; relative paths start from
    `directory`, those of `env_files` from the folder of the configuration as well. `env=""` means the top level,
    None leaves the choice to `CLOUDFLARE_ENV`. `environ` is the process environment.
    """
    files = _Files(Path(os.path.abspath(directory)))
    choice = _Choice(env, tuple(env_files))
    tool = _tool_variables(files, choice, environ)
    process = _Variables({**environ, **tool.values}, tool.origins)
    path = files.directory / config if config is not None else _find_config(files, script)
    settings, vars_origin = _read_config(files, path, process.values.get("CLOUDFLARE_ENV") if env is None else env)
    variables: Table = settings.get("vars") or {}
    base = path.parent if path is not None else files.directory
    loaded = _load_dev_vars(files, base, choice, process, secrets=settings.get("secrets"))
    local = _with_loaded(files, variables, loaded.values, settings.get("secrets"))
    _warn_about_missing(files, base, choice.env_files)
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


# Files


class _Files:
    """Reads each file once, and collects what is wrong with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self._texts: dict[Path, str | None] = {}

    def shown(self, path: Path) -> str:
        try:
            return os.path.relpath(path, self.directory)
        except ValueError:  # Windows: another drive
            return str(path)

    def text(self, path: Path) -> str | None:
        """The text of a file; None where there is none, or where it cannot be read (an error)."""
        if path not in self._texts:
            self._texts[path] = self._read(path)
        return self._texts[path]

    def _read(self, path: Path) -> str | None:
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as exc:  # ValueError: a null character in the name
            self.errors.append(f"{self.shown(path)}: cannot be read ({_reason(exc)})")
            return None
        mark = next((name for mark, name in _WIDE_MARKS.items() if data.startswith(mark)), None)
        if mark is not None:
            self.errors.append(f"{self.shown(path)}: {mark} text; save it as UTF-8")
            return None
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as exc:
            line = data.count(b"\n", 0, exc.start) + 1
            self.warnings.append(f"{self.shown(path)}:{line}: not UTF-8; what cannot be read became U+FFFD")
            return data.decode("utf-8", "replace")


def _reason(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)


def _find_config(files: _Files, script: Path | None) -> Path | None:
    """The nearest `wrangler.json` here or above; only if there is none at all a `.jsonc`, then a `.toml`.

    Where a folder cannot be looked into, the search ends: a file further up might be another project's.
    """
    start = Path(os.path.abspath(files.directory / script)).parent if script is not None else files.directory
    for name in _FILE_NAMES:
        for folder in (start, *start.parents):
            path = folder / name
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    return path
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError) as exc:
                files.errors.append(f"{files.shown(path)}: cannot be read ({_reason(exc)})")
                return None
    return None


def _read_config(files: _Files, path: Path | None, env: str | None) -> tuple[Table, str]:
    """The settings of the environment, and what to call the place of its `vars`."""
    shown = files.shown(path) if path is not None else "wrangler configuration"
    try:
        raw = _parse_config(files, path, shown) if path is not None else {}
        return _resolve(_Checker(files, shown), raw, env)
    except RecursionError:
        files.errors.append(f"{shown}: nested too deeply")
        return {}, ""


def _parse_config(files: _Files, path: Path, shown: str) -> Table:
    """The object in the file, `{}` if it holds none. By its suffix: any other than these three is not even read."""
    if not path.name.endswith((".json", ".jsonc", ".toml")):
        return {}
    faults = len(files.errors)
    text = files.text(path)
    if text is None:
        if len(files.errors) == faults:
            files.errors.append(f"{shown}: cannot be read (No such file or directory)")
        return {}
    text = text.removeprefix("\ufeff")
    try:
        raw = tomllib.loads(text) if path.name.endswith(".toml") else parse_jsonc(text)
    except JsoncError as exc:
        files.errors.append(f"{shown}{f':{exc.line}' if exc.line else ''}: {exc}")
        return {}
    except ValueError as exc:  # TOMLDecodeError, or an integer of thousands of digits
        found = _TOML_MESSAGE.fullmatch(str(exc))
        line = (found[2] or text.count("\n") + 1) if found else None
        files.errors.append(f"{shown}{f':{line}' if line else ''}: {found[1] if found else 'not valid TOML'}")
        return {}
    if not isinstance(raw, dict):
        files.errors.append(f"{shown}: must hold an object, not {_kind(raw)}")
        return {}
    return raw


# Environments


def _resolve(check: _Checker, raw: Table, env: str | None) -> tuple[Table, str]:
    """The settings of one environment: its own, the inherited ones, nothing else of the top level."""
    top = check.section(raw, "", known=_IN_ENVIRONMENT | _TOP_LEVEL_ONLY)
    environments = raw.get("env")
    if environments is not None and not isinstance(environments, dict):
        check.error(f'"env" must be an object, not {_kind(environments)}')
        environments = None
    origin = check.vars_origin("")
    if not env or (environments is None or env not in environments) and "pages_build_output_dir" in raw:
        # A Pages project has "preview" and "production" whether the file names them or not.
        settings = top
    elif environments is not None and env in environments:
        settings = _named_environment(check, raw, top, environments[env], env)
        origin = check.vars_origin(env)
    else:
        _report_missing(check, environments, env)
        settings = {**top, "name": _suffixed(top, env)}
    check.dev(raw.get("dev"))
    check.unique_bindings({**{key: raw[key] for key in _TOP_LEVEL_ONLY if key in raw}, **settings})
    return settings, origin


def _named_environment(check: _Checker, raw: Table, top: Table, section: object, env: str) -> Table:
    where = f"env.{env}"
    if not isinstance(section, dict):
        check.error(f'"{where}" must be an object, not {_kind(section)}')
        section = {}
    own = check.section(section, where, known=_IN_ENVIRONMENT, inherited=raw)
    for key in _NOT_INHERITABLE:
        if key in raw and key not in section:
            check.warn(f'"{key}" is set at the top level, but not in "{where}", which does not inherit it')
    if isinstance(own.get("vars"), dict) and isinstance(top.get("vars"), dict):
        missing = [name for name in top["vars"] if name not in own["vars"]]
        if missing:
            check.warn(f'"{where}.vars" does not inherit these of the top level: {_quoted(missing)}')
    inherited = {key: value for key, value in top.items() if key in _INHERITABLE}
    return {**inherited, "name": _suffixed(top, env), **own}


def _report_missing(check: _Checker, environments: Table | None, env: str) -> None:
    if environments is None:
        check.warn(f'there is no environment "{env}"; the top level is used for it')
    else:
        defined = f"it has {_quoted(environments)}" if environments else "it has none"
        check.error(f'there is no environment "{env}"; {defined}')


def _suffixed(top: Table, env: str) -> str | None:
    return f"{top['name']}-{env}" if top.get("name") else None


# Checks


class _Checker:
    """Compares the sections of one configuration file with what wrangler takes."""

    def __init__(self, files: _Files, shown: str) -> None:
        self._files = files
        self._shown = shown

    def error(self, text: str) -> None:
        self._files.errors.append(f"{self._shown}: {text}")

    def warn(self, text: str) -> None:
        self._files.warnings.append(f"{self._shown}: {text}")

    def vars_origin(self, env: str) -> str:
        table = f"env.{env}.vars" if env else "vars"
        return f"{self._shown} [{table}]" if self._shown.endswith(".toml") else f"{self._shown} {table}"

    def section(self, raw: Table, where: str, *, known: Iterable[str], inherited: Table | None = None) -> Table:
        """A copy of the top level or of `env.NAME`, with None for each value that is an error."""
        prefix = f"{where}." if where else ""
        section = dict(raw)
        if section.get("account_id") == "":
            self.warn(f'"{prefix}account_id" is empty and ignored')
            del section["account_id"]
        for key, reason in _REMOVED.items():
            # In an environment, wrangler takes `legacy_env` for a key that it does not know.
            if key in section and not (where and key == "legacy_env"):
                self.error(f'"{prefix}{key}" {reason}')
                del section[key]
        if "unsafe" in section and not (inherited and "unsafe" in inherited):
            self.warn(f'"{prefix}unsafe" is experimental and may change or break at any time')
        for key, check in _CHECKS.items():
            if key in section and (problem := check(section[key])) is not None:
                self.error(f'"{prefix}{key}" {problem}')
                section[key] = None
        if section.get("vars") is not None:
            section["vars"] = self._variables(section["vars"], f"{prefix}vars")
        if section.get("ai") is not None:
            section["ai"] = _plain(section["ai"])
        if section.get("secrets") is not None:
            self._unknown(section["secrets"], f"{prefix}secrets", ("required",))
        self._unknown(section, where or "top-level", known)
        return section

    def _variables(self, raw: Table | list[Any], where: str) -> Table:
        # An array is an object too in JavaScript, and wrangler lets it pass.
        items = raw if isinstance(raw, dict) else {str(index): value for index, value in enumerate(raw)}
        for name, value in items.items():
            if isinstance(value, datetime.date | datetime.time):
                self.error(f'"{where}.{name}" is a TOML date; put it in quotes')
        return {k: _plain(v) for k, v in items.items() if not isinstance(v, datetime.date | datetime.time)}

    def dev(self, raw: object) -> None:
        if isinstance(raw, dict):
            self._unknown(raw, "dev", _IN_DEV)

    def _unknown(self, section: Table, where: str, known: Iterable[str]) -> None:
        unexpected = [key for key in section if key not in known]
        if unexpected:
            self.warn(f'unexpected in "{where}": {_quoted(unexpected)}')

    def unique_bindings(self, settings: Table) -> None:
        uses = Counter((name, key) for key in _BINDINGS for name in _binding_names(key, settings.get(key)))
        uses.update((name, "secrets") for name in _required_secrets(settings.get("secrets")))
        by_name: dict[str, list[str]] = {}
        for name, key in uses.elements():
            by_name.setdefault(name, []).append(key)
        for name, keys in by_name.items():
            if len(keys) > 1:
                self.error(f'the binding name "{name}" is used more than once ({", ".join(keys)})')


def _check_name(value: object) -> str | None:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return None
    return "must be lower-case letters, digits, - and _ and not begin with -"


def _check_string(value: object) -> str | None:
    return None if isinstance(value, str) else f"must be a string, not {_kind(value)}"


def _check_date(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be a string, not {_kind(value)}"
    if "\N{EN DASH}" in value or "\N{EM DASH}" in value:
        return "must have hyphens, not dashes"
    return None if _DATE.fullmatch(value) else "must be a date (YYYY-MM-DD)"


def _check_strings(value: object) -> str | None:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return None
    return "must be a list of strings"


def _check_ai(value: object) -> str | None:
    if not isinstance(value, dict):
        return f"must be an object, not {_kind(value)}"
    if not isinstance(value.get("binding"), str):
        return 'must have a string "binding"'
    return None if isinstance(value.get("remote", False), bool) else 'must have a boolean "remote", or none'


def _check_vars(value: object) -> str | None:
    return None if isinstance(value, dict | list) else f"must be an object, not {_kind(value)}"


def _check_secrets(value: object) -> str | None:
    if not isinstance(value, dict):
        return f"must be an object, not {_kind(value)}"
    problem = _check_strings(value.get("required", []))
    return f'has a "required" that {problem}' if problem else None


_CHECKS: dict[str, Callable[[object], str | None]] = {
    "name": _check_name,
    "account_id": _check_string,
    "compatibility_date": _check_date,
    "compatibility_flags": _check_strings,
    "ai": _check_ai,
    "vars": _check_vars,
    "secrets": _check_secrets,
}


def _binding_names(key: str, value: object) -> Iterator[str]:
    """The names under which the bindings of one key appear, whichever of wrangler's forms the key has."""
    if key == "queues" and isinstance(value, dict):
        value = value.get("producers")
    if isinstance(value, list):
        names = [item.get("binding") if isinstance(item, dict) else None for item in value]
        # One entry of another kind, and wrangler leaves the whole list to the check of that key.
        if all(isinstance(name, str) for name in names):
            yield from (str(name) for name in names)
    elif isinstance(value, dict):
        listed = value.get("bindings")
        if key == "vars":
            yield from value
        elif isinstance(listed, list) and all(
            isinstance(item, dict) and isinstance(item.get("name"), str) for item in listed
        ):
            yield from (str(item["name"]) for item in listed)
        elif isinstance(value.get("binding"), str):
            yield value["binding"]
        else:
            yield from value


def _required_secrets(secrets: object) -> list[str]:
    required = secrets.get("required") if isinstance(secrets, dict) else None
    return required or []


def _plain(value: Any) -> Any:
    """A value as JSON would carry it: dates as text, no infinity."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _kind(value: object) -> str:
    """What a value is, in words that do not show it."""
    kinds: dict[type, str] = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return kinds.get(type(value), "a TOML date")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


# Variables


@dataclass(frozen=True, slots=True)
class _Choice:
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
class _Variables:
    values: dict[str, str]
    origins: dict[str, str]
    """The file of each value that is from a file."""


def _load_env_files(files: _Files, paths: Sequence[Path], process: Mapping[str, str]) -> _Variables:
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
        return _Variables({}, {})
    overruled = {name for name, value in merged.items() if process.get(name) and process[name] != value}
    return _Variables(expanded, {name: origin for name, origin in origins.items() if name not in overruled})


def _tool_variables(files: _Files, choice: _Choice, environ: Mapping[str, str]) -> _Variables:
    """What the `.env` files of the working directory add to the process environment."""
    loaded = _load_env_files(files, choice.env_paths(files.directory), environ)
    return _Variables({name: loaded.values[name] for name in loaded.origins}, loaded.origins)


def _load_dev_vars(files: _Files, base: Path, choice: _Choice, process: _Variables, *, secrets: object) -> _Variables:
    """`.dev.vars.NAME` or `.dev.vars`, unexpanded; without either, or with `--env-file`, the `.env` files."""
    for path in choice.dev_vars_paths(base):
        text = files.text(path)
        if text is not None:
            values = parse_dotenv(text)
            return _Variables(values, dict.fromkeys(values, files.shown(path)))
    if not _switch(files, process.values, "CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV", default=True):
        return _Variables({}, {})
    with_process = secrets is not None or _switch(
        files, process.values, "CLOUDFLARE_INCLUDE_PROCESS_ENV", default=False
    )
    outer = process if with_process else _Variables({}, {})
    loaded = _load_env_files(files, choice.env_paths(base), outer.values)
    return _Variables({**outer.values, **loaded.values}, {**outer.origins, **loaded.origins})


def _with_loaded(files: _Files, variables: Table, loaded: Mapping[str, str], secrets: object) -> Table:
    """`vars` and over them what was loaded: all of it, or what the configuration lists in `secrets`."""
    if secrets is None:
        return {**variables, **loaded}
    required = _required_secrets(secrets)
    missing = [name for name in required if name not in loaded]
    if missing:
        files.warnings.append(f"required secrets are not set: {_quoted(missing)}")
    return {**variables, **{name: loaded[name] for name in loaded if name in variables or name in required}}


def _switch(files: _Files, process: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = process.get(name)
    if value is None:
        return default
    if value.lower() not in ("true", "false"):
        files.errors.append(f"{name} must be true or false")
        return default
    return value.lower() == "true"


def _warn_about_missing(files: _Files, base: Path, env_files: Sequence[Path]) -> None:
    for path in env_files:
        if not any(os.path.exists(folder / path) for folder in (files.directory, base)):
            files.warnings.append(f"{path}: there is no such file")


def _warn_about_types(files: _Files, variables: Table, origin: str) -> None:
    for name, value in variables.items():
        if name.startswith(_RELAY_PREFIXES) and not isinstance(value, str):
            files.warnings.append(f"{name} in {origin} is {_kind(value)}, not a string, and not used by the relay")
