"""Every key of `[[engines]]` on one screen, and what the entries mean."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from adapters.local.spec import EngineSpec
from adapters.profiles import CHOICES, PROFILES
from proxy import own_engines
from proxy.model_rules import UPSTREAMS
from proxy.own_engines import WrongModel, read_own
from proxy.setting_table import base_url, boolean, choice, memory, number, path, text, whole_number
from proxy.toml_tables import Key, is_name, is_table, read_table

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACES = ("{port}", "{socket}")
_LONGEST_NAME = 200  # characters of a model's name
_FOR_EVER = ("forever", -1, "-1")


def _engine_name(raw: object) -> str:
    if not isinstance(raw, str) or not _NAME.fullmatch(raw) or raw.casefold() in UPSTREAMS:
        raise ValueError
    return raw


def _url(raw: object) -> str:
    """A base URL as adapters want it: a bare address gets the `/v1` under which all of these servers answer."""
    value = text(raw)
    if value.startswith("unix:"):
        socket = "/" + value.removeprefix("unix:").lstrip("/")
        if not value.startswith("unix:/") or socket == "/":
            raise ValueError
        return f"unix:{socket}"
    value = base_url(value)
    if value.endswith(("/chat/completions", "/completions", "/models", "/embeddings")):
        raise ValueError
    return value if urlsplit(value).path else f"{value}/v1"


def _urls(raw: object) -> tuple[str, ...]:
    urls = tuple(_url(item) for item in (raw if isinstance(raw, list) else [raw]))
    if not urls or len(set(urls)) < len(urls):
        raise ValueError
    return urls


def _weights(raw: object) -> tuple[float, ...]:
    weights = tuple(_weight(item) for item in _list(raw))
    if not weights:
        raise ValueError
    return weights


def _weight(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw) or not 0 < raw <= 1e6:
        raise ValueError
    return float(raw)


def _list(raw: object) -> list[object]:
    if not isinstance(raw, list):
        raise ValueError
    return raw


def _command(raw: object) -> tuple[str, ...]:
    words = shlex.split(raw) if isinstance(raw, str) else _list(raw)
    if not words or not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0]:
        raise ValueError
    return tuple(str(word) for word in words)


def _environment(raw: object) -> dict[str, str]:
    if not is_table(raw):
        raise ValueError
    for name, value in raw.items():
        if not _VARIABLE.fullmatch(name) or isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        if "\0" in str(value):
            raise ValueError
    return {name: str(value) for name, value in raw.items()}


def _variable(raw: object) -> str:
    if not isinstance(raw, str) or not _VARIABLE.fullmatch(raw):
        raise ValueError
    return raw


def _names(raw: object) -> tuple[str, ...]:
    names = [name for name in _list(raw) if is_name(name) and len(name) <= _LONGEST_NAME]
    if len(names) < len(_list(raw)) or len(set(names)) < len(names):
        raise ValueError
    return tuple(names)


def _models(raw: object) -> dict[str, str]:
    """Names that clients ask for to the engine's own."""
    if not is_table(raw):
        return {name: name for name in _names(raw)}
    _names(list(raw))
    for own in raw.values():
        if not isinstance(own, str) or not own.strip() or not own.isprintable():
            raise ValueError
    return {name: str(own) for name, own in raw.items()}


def _keep_alive(raw: object) -> float | None:
    """`None` is for ever."""
    if isinstance(raw, str | int | float) and not isinstance(raw, bool) and raw in _FOR_EVER:
        return None
    return _seconds_from_zero(raw)


def _seconds_from_zero(raw: object) -> float:
    value = number(0, 10**9)(raw)
    assert isinstance(value, float)
    return value


_PROFILES_TEXT = " or ".join(", ".join(CHOICES).rsplit(", ", 1))
_MODEL_NAMES_TEXT = f"names of models, none twice, without spaces and of at most {_LONGEST_NAME} characters"

KEYS: tuple[Key, ...] = (
    Key(
        "name",
        _engine_name,
        "a name of its own of letters, digits, '.', '_' and '-', at most 64, that begins with a letter or a digit, "
        "and not cloudflare or simulator",
    ),
    *own_engines.KEYS,
    Key(
        "url",
        _urls,
        "a base URL such as http://127.0.0.1:8000/v1 or unix:/path without name, password or query, "
        "or a list of them, none twice",
    ),
    Key("weights", _weights, "a list of numbers above 0, one for each url"),
    Key("command", _command, "a command line, as a text or as a list of its words"),
    Key("port", whole_number(1, 65535), "a whole number from 1 to 65535"),
    Key("directory", path, "a folder"),
    Key(
        "environment",
        _environment,
        "a table of variables and texts such as { CUDA_VISIBLE_DEVICES = '0' }",
        secret=True,
    ),
    Key("api_key", text, "printable ASCII text without spaces", secret=True),
    Key("api_key_env", _variable, "the name of an environment variable", secret=True),
    Key("profile", choice(*CHOICES), _PROFILES_TEXT),
    Key("models", _models, f"a list of {_MODEL_NAMES_TEXT}, or a table of such names and the engine's own"),
    Key("embeddings", _names, f"a list of {_MODEL_NAMES_TEXT}"),
    Key("max_concurrency", whole_number(1, 100_000), "a whole number from 1"),
    Key("queue", whole_number(0, 1_000_000), "a whole number from 0"),
    Key("context_window", whole_number(1, 10**9), "a whole number of tokens from 1"),
    Key("keep_alive", _keep_alive, "a number of seconds from 0, or 'forever'"),
    Key("start_timeout", number(0.001, 10**6), "a number of seconds above 0"),
    Key("memory", memory, "a size such as 20GiB"),
    Key("trust_remote_code", boolean, "true or false"),
)
_ONLY_LOCAL = ("port", "directory", "environment", "keep_alive", "start_timeout", "memory")
"""What says how the relay runs an engine: without effect on one that runs elsewhere."""
_SPEC_FIELDS = (
    "profile",
    "weights",
    "port",
    "environment",
    "models",
    "embeddings",
    "max_concurrency",
    "queue",
    "context_window",
    "keep_alive",
    "start_timeout",
    "memory",
    "trust_remote_code",
)
"""Keys whose value goes into a field of the same name as it was read."""


class Engines(msgspec.Struct):
    """The entries that are sound, and every name that was given, whose entry may be broken (`None`)."""

    specs: list[EngineSpec] = []
    named: dict[str, EngineSpec | None] = {}


def read_engines(
    raw: object, environ: Mapping[str, str], folder: Path, shown: str, problems: list[str], warnings: list[str]
) -> Engines:
    """Read `[[engines]]`. A relative `directory` starts at `folder`; `shown` is how the file is called."""
    engines = Engines()
    if not isinstance(raw, list) or not all(is_table(entry) for entry in raw):
        problems.append(f"engines in {shown}: expected entries that begin with [[engines]]")
        return engines
    taken: set[str] = set()
    for index, table in enumerate(raw):
        entry = _Entry(table, f"engines[{index}]", shown, problems)
        specs = entry.read(environ, folder, warnings)
        name = entry.values.get("name")
        if not isinstance(name, str):
            continue
        names = {name, *(spec.name for spec in specs)}  # they become folders' names, and some file systems take no
        if same := sorted(own for own in names if own.casefold() in taken):  # notice of case
            entry.problem("name", f"another engine is called {same[0]!r} too")
            continue
        taken |= {own.casefold() for own in names}
        engines.named[name] = specs[0] if specs else None
        engines.specs += specs
    return engines


class _Entry:
    """One `[[engines]]` table while it is read."""

    def __init__(self, table: dict[str, object], prefix: str, shown: str, problems: list[str]) -> None:
        self._table = table
        self._prefix = prefix
        self._shown = shown
        self._problems = problems
        self._known = len(problems)
        self.values = read_table(table, KEYS, prefix, shown, problems)

    def problem(self, key: str, text: str) -> None:
        self._problems.append(f"{self._prefix}.{key} in {self._shown}: {text}")

    def read(self, environ: Mapping[str, str], folder: Path, warnings: list[str]) -> list[EngineSpec]:
        """The engine, or several of our own; none after the problems were told."""
        if "name" not in self._table:
            self.problem("name", "missing")
        self._check_kind()
        if "kind" in self._table:
            if "models" in self._table:
                self._check_models()
            return self._own(folder)
        spec = self._foreign(environ, folder, warnings)
        return [] if spec is None else [spec]

    def _own(self, folder: Path) -> list[EngineSpec]:
        if len(self._problems) > self._known:
            return []
        try:
            return read_own(self.values, folder)
        except WrongModel as exc:
            self.problem("model", str(exc))
            return []

    def _foreign(self, environ: Mapping[str, str], folder: Path, warnings: list[str]) -> EngineSpec | None:
        """An engine by its address or its command."""
        if "command" in self.values:
            self._check_command()
        self._check_weights()
        self._check_models()
        directory = self._directory(folder)
        api_key = self._api_key(environ)
        if "url" in self._table:
            warnings += [
                f"{self._prefix}.{key} in {self._shown} has no effect on an engine with a url"
                for key in _ONLY_LOCAL
                if key in self._table
            ]
        total = PROFILES[str(self.values.get("profile", "openai"))].form.total_limit
        if total is not None and "context_window" not in self._table:
            warnings.append(
                f"{self._prefix}.context_window in {self._shown} is missing: it has to be the engine's own MAX_LENGTH "
                f"({total} is taken), for this engine ends when an answer gets longer"
            )
        if len(self._problems) > self._known:
            return None
        fields = {key: self.values[key] for key in _SPEC_FIELDS if key in self.values}
        return EngineSpec(
            name=str(self.values["name"]),
            urls=_strings(self.values.get("url", ())),
            command=_strings(self.values.get("command", ())),
            directory=directory,
            api_key=api_key,
            **fields,  # type: ignore[arg-type]  # each was read by the parser of its key
        )

    def _check_kind(self) -> None:
        """What kind of engine it is, by the keys that only one kind has."""
        if "kind" in self._table:
            for key in own_engines.NOT_OWN:
                if key in self._table:
                    self.problem(key, "has no meaning beside kind = 'transformers'")
            if "kind" in self.values and "model" not in self._table:
                self.problem("model", "missing: kind = 'transformers' needs a folder or ORG/NAME")
            return
        if "model" in self._table:
            self.problem("model", "needs kind = 'transformers'; a url or a command has models")
            return
        for key in own_engines.ONLY_OWN:
            if key in self._table:
                self.problem(key, "needs kind = 'transformers'")
        given = [key for key in ("url", "command") if key in self._table]
        if len(given) != 1:
            found = "both" if given else "neither"
            self._problems.append(f"{self._prefix} in {self._shown}: expected url or command, found {found}")

    def _check_command(self) -> None:
        words = _strings(self.values["command"])
        if "port" not in self._table and not any(place in word for word in words for place in _PLACES):
            self.problem("command", "expected {port} or {socket} in it, or a port beside it: where shall it listen?")

    def _check_weights(self) -> None:
        urls, weights = _strings(self.values.get("url", ())), self.values.get("weights")
        known = "url" in self.values or "url" not in self._table
        if known and isinstance(weights, tuple) and len(weights) != len(urls):
            self.problem("weights", f"expected one for each url, so {len(urls)} of them, got {len(weights)}")

    def _check_models(self) -> None:
        models = self.values.get("models", {})
        if "embeddings" not in self.values or not is_table(models):
            return
        if strange := [name for name in _strings(self.values["embeddings"]) if name not in models]:
            self.problem("embeddings", f"expected names out of models, got {', '.join(strange)}")

    def _directory(self, folder: Path) -> Path | None:
        directory = self.values.get("directory")
        if not isinstance(directory, Path):
            return None
        directory = folder / directory
        if not directory.is_dir():
            self.problem("directory", "expected a folder that is there")
        return directory

    def _api_key(self, environ: Mapping[str, str]) -> str | None:
        if "api_key" in self._table and "api_key_env" in self._table:
            self.problem("api_key", "expected it or api_key_env, not both")
            return None
        variable = self.values.get("api_key_env")
        if not isinstance(variable, str):
            key = self.values.get("api_key")
            return key if isinstance(key, str) else None
        try:
            return text(environ.get(variable))
        except ValueError:
            found = "holds no printable ASCII text without spaces" if environ.get(variable) else "is not set"
            self.problem("api_key_env", f"{variable} {found}")
            return None


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, tuple) else ()


# A flag whose value would let somebody in. Not `--max-tokens`, not `--tokenizer`.
_SECRET_FLAG = re.compile(r"--?(?:[\w-]*[-_])?(?:key|token|secret|password)", re.IGNORECASE)


def shown_engine(spec: EngineSpec, mask: str) -> dict[str, object]:
    """What was set of an engine, for people's eyes and for JSON, under the names of `relay.toml`."""
    shown: dict[str, object] = {"name": spec.name}
    if spec.urls:
        shown["url"] = list(spec.urls)
    if spec.own is not None:
        shown |= own_engines.shown(spec.own)
    elif spec.command:
        shown["command"] = _masked_command(spec.command, mask)
    if spec.directory is not None:
        shown["directory"] = str(spec.directory)
    if spec.environment:
        shown["environment"] = dict.fromkeys(spec.environment, mask)
    if spec.api_key is not None:
        shown["api_key"] = mask
    defaults = EngineSpec(name=spec.name)
    for field in _SPEC_FIELDS:
        value = getattr(spec, field)
        if field != "environment" and (field == "profile" or value != getattr(defaults, field)):
            shown[field] = list(value) if isinstance(value, tuple) else value
    if spec.is_local:
        shown["keep_alive"] = "forever" if spec.keep_alive is None else spec.keep_alive
    return shown


def _masked_command(words: Sequence[str], mask: str) -> str:
    shown: list[str] = []
    hide = False
    for word in words:
        flag, equals, _ = word.partition("=")
        secret = _SECRET_FLAG.fullmatch(flag) is not None
        shown.append(mask if hide else f"{flag}={mask}" if secret and equals else word)
        hide = secret and not equals
    return shlex.join(shown)
