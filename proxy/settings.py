"""The settings: one frozen object, read once, complete or refused with every problem listed."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adapters.local.spec import EngineSpec
from adapters.simulator.rules import RulesError, read_playbook
from proxy.model_rules import ModelRule, named_engines
from proxy.own_engines import groups, installed, missing
from proxy.setting_table import CLOUDFLARE_API, SETTINGS, Setting
from proxy.sources import Gathered, SourceOptions, Value, gather

MASK = "***"
SHORTEST_PUBLIC_TOKEN = 16  # characters; what a guesser on the network would have to get through
OWN_TOKEN_PREFIX = "sk-relay-"
_DEFAULT_PORTS = {"http": 80, "https": 443}
# OpenSSL's words for a key that is not the certificate's; the second one where even their kinds differ.
_NO_PAIR = ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED", "KEY_TYPE_MISMATCH")
_TOO_WEAK = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


class SettingsError(Exception):
    """The settings cannot be used. `problems` names each wrong one as its author wrote it; no secrets.

    `partial`, where there is one, is for what needs only some of them: what cannot be read holds its default, and is
    in `broken` by its attribute.
    """

    def __init__(
        self,
        problems: tuple[str, ...],
        warnings: tuple[str, ...] = (),
        partial: Settings | None = None,
        broken: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.warnings = warnings
        self.partial = partial
        self.broken = broken


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """One field per row of `proxy.setting_table.SETTINGS`, then what belongs to no single value.

    Times are in seconds, sizes in bytes. `origins` maps each attribute to where its value came from, `names` to
    how its author wrote it. `directory` is the folder in which sources were looked for.
    """

    account_id: str | None
    api_token: str | None
    api_base_url: str
    ai_gateway: str | None
    ai_gateway_token: str | None
    host: str
    port: int
    workers: int
    tokens: tuple[str, ...]
    state_dir: Path
    stream: str
    keepalive: float
    keepalive_form: str
    connect_timeout: float
    first_byte_timeout: float
    idle_timeout: float
    retries: int
    max_tokens: int
    max_body: int
    strict: bool
    cors_origins: tuple[str, ...]
    allow_retired: bool
    prefer: str
    engines_memory: int | None
    script: Path | None
    log_level: str
    log_format: str
    access_log: bool
    forwarded_allow_ips: str
    root_path: str
    ssl_certfile: Path | None
    ssl_keyfile: Path | None
    shutdown_timeout: float

    aliases: Mapping[str, str] = field(default_factory=dict)
    model_streams: Mapping[str, str] = field(default_factory=dict)
    model_rules: Mapping[str, ModelRule] = field(default_factory=dict)
    engines: tuple[EngineSpec, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    directory: Path = Path()
    warnings: tuple[str, ...] = ()
    options: SourceOptions = field(default_factory=SourceOptions)

    @property
    def upstream(self) -> str:
        """Who answers for a model that no engine has: `cloudflare` or `simulator`."""
        return "cloudflare" if self.account_id and self.api_token else "simulator"

    @property
    def credentials_origin(self) -> str:
        """Where the Cloudflare credentials came from, as a phrase; empty if there are none."""
        if self.upstream == "simulator":
            return ""
        account, token = self.origins["account_id"], self.origins["api_token"]
        return account if account == token else f"{account} (account) and {token} (token)"

    def shown(self, setting: Setting) -> Any:
        """The value for people's eyes: secrets masked, paths as text."""
        value = getattr(self, setting.attribute)
        if setting.secret:
            return [MASK] * len(value) if isinstance(value, tuple) else value and MASK
        if isinstance(value, tuple):
            return list(value)
        return str(value) if isinstance(value, Path) else value

    def __repr__(self) -> str:
        fields = ", ".join(f"{setting.attribute}={self.shown(setting)!r}" for setting in SETTINGS)
        return f"Settings({fields})"


def load_settings(flags: Mapping[str, object], environ: Mapping[str, str], directory: Path) -> Settings:
    """Read every source once: flag > environment > `relay.toml` > wrangler files > default.

    `flags` maps attributes, and `config`, `wrangler_config` and `env`, to what the command line said;
    `None` means that it said nothing. Raises SettingsError.
    """
    options = SourceOptions.from_flags(flags)
    draft = _Draft(gather(options, environ, directory))
    for check in (_check_base_url, _check_credentials, _check_gateway, _check_tokens, _check_tls, _check_script):
        check(draft)
    _check_engines(draft)
    settings = Settings(
        **draft.values,
        aliases=draft.gathered.aliases,
        model_streams=draft.gathered.models.streams,
        model_rules=draft.gathered.models.rules,
        engines=tuple(draft.gathered.engines.specs),
        origins=draft.origins,
        names=draft.names,
        directory=directory,
        warnings=tuple(draft.warnings),
        options=options,
    )
    if draft.problems:
        raise SettingsError(tuple(draft.problems), settings.warnings, settings, frozenset(draft.broken))
    return settings


class _Draft:
    """Values while they are being checked. A broken one holds its default and is in `broken`."""

    def __init__(self, gathered: Gathered) -> None:
        self.gathered = gathered
        self.problems = list(gathered.problems)
        self.warnings = list(gathered.warnings)
        self.values: dict[str, Any] = {}
        self.origins = dict.fromkeys(("aliases", "model_streams", "model_rules", "engines"), gathered.table_origin)
        self.names: dict[str, str] = {}
        self.broken: set[str] = set()
        for setting in SETTINGS:
            self.reset(setting)
            if found := gathered.values.get(setting.env):
                self._take(setting, found)

    def reset(self, setting: Setting) -> None:
        default = setting.default
        self.values[setting.attribute] = default() if callable(default) else default
        self.origins[setting.attribute] = "default"
        self.names[setting.attribute] = setting.env

    def drop(self, *attributes: str) -> None:
        for setting in SETTINGS:
            if setting.attribute in attributes:
                self.reset(setting)

    def _take(self, setting: Setting, found: Value) -> None:
        self.names[setting.attribute] = found.name
        try:
            value = setting.parse(found.raw)
        except (ValueError, OverflowError):
            self.broken.add(setting.attribute)
            self.origins[setting.attribute] = f"default: {found.name} cannot be read"
            self.problems.append(f"{found.name}: expected {setting.expects}{_got(setting, found.raw)}")
            return
        self.values[setting.attribute] = found.base / value if isinstance(value, Path) else value
        self.origins[setting.attribute] = found.origin


def _got(setting: Setting, raw: object) -> str:
    # An address may hold a name and a password.
    if setting.secret or "@" in str(raw):
        return ""
    shown = repr(raw)
    hint = ""
    if setting.attribute == "port" and "tcp://" in shown:
        hint = " (Kubernetes sets this variable for a service named relay: set enableServiceLinks: false)"
    return f", got {shown if len(shown) <= 60 else shown[:57] + '...'}{hint}"


def _is_local_name(host: str) -> bool:
    """Does this name or address mean this machine itself, or all of its addresses?"""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def is_loopback(host: str) -> bool:
    """Can only programs on this machine connect to `host`?"""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_own_address(url: str, host: str, port: int) -> bool:
    parts = urlsplit(url)
    if (parts.port or _DEFAULT_PORTS[parts.scheme]) != port:
        return False
    name = parts.hostname or ""
    return name == host.lower() or (_is_local_name(name) and _is_local_name(host))


def _check_base_url(draft: _Draft) -> None:
    """People point wrangler at the relay by the variables that the relay itself reads."""
    values = draft.values
    if {"api_base_url", "host", "port"} & draft.broken:
        return
    if not _is_own_address(values["api_base_url"], values["host"], values["port"]):
        return
    draft.warnings.append(
        f"{draft.names['api_base_url']} is this relay's own address and is ignored; "
        f"Cloudflare is called at {CLOUDFLARE_API}"
    )
    draft.drop("api_base_url")
    token = values["api_token"]
    if token and (token in values["tokens"] or token.startswith(OWN_TOKEN_PREFIX)):
        draft.warnings.append(
            f"{draft.names['api_token']} is a token of this relay; "
            "it and the account id beside it are not used to call Cloudflare"
        )
        draft.drop("api_token", "account_id")


def _check_credentials(draft: _Draft) -> None:
    account, token = draft.values["account_id"], draft.values["api_token"]
    if {"account_id", "api_token"} & draft.broken or bool(account) == bool(token):
        return
    if token:
        draft.problems.append(f"CLOUDFLARE_ACCOUNT_ID: missing, though {draft.names['api_token']} is set; set both")
        return
    missing = f"CLOUDFLARE_API_TOKEN: missing, though {draft.names['account_id']} is set"
    if draft.gathered.values["CLOUDFLARE_ACCOUNT_ID"].discovered:
        # Many projects name their account and log in by browser; that must not keep the relay from starting.
        draft.warnings.append(f"{missing}; the account id is not used")
        draft.drop("account_id")
    else:
        draft.problems.append(f"{missing}; set both")


def _check_gateway(draft: _Draft) -> None:
    if draft.values["ai_gateway_token"] and not draft.values["ai_gateway"] and "ai_gateway" not in draft.broken:
        draft.warnings.append(f"{draft.names['ai_gateway_token']} has no effect without CLOUDFLARE_AI_GATEWAY")


def public_token_problem(host: str, tokens: tuple[str, ...], name: str) -> str | None:
    """Why these tokens may not guard `host`; `name` says where they were written."""
    if is_loopback(host) or all(len(token) >= SHORTEST_PUBLIC_TOKEN for token in tokens):
        return None
    return f"{name}: expected tokens of at least {SHORTEST_PUBLIC_TOKEN} characters to listen on {host}"


def _check_tokens(draft: _Draft) -> None:
    if {"host", "tokens"} & draft.broken:
        return
    if problem := public_token_problem(draft.values["host"], draft.values["tokens"], draft.names["tokens"]):
        draft.problems.append(problem)


def _check_script(draft: _Draft) -> None:
    file: Path | None = draft.values["script"]
    if file is None:
        return
    try:
        read_playbook(file)
    except RulesError as exc:
        draft.problems += [f"{draft.names['script']}: {file}: {problem}" for problem in exc.problems]
    if draft.values["account_id"] and draft.values["api_token"]:
        draft.warnings.append(
            f"{draft.names['script']} is for the simulator, which answers only its own model beside Cloudflare"
        )


def _check_engines(draft: _Draft) -> None:
    engines, rules = draft.gathered.engines.specs, draft.gathered.models.rules
    engines[:] = [installed(spec, draft.values["state_dir"]) for spec in engines]
    named, shown = named_engines(rules.values()), draft.gathered.table_origin
    if "cloudflare" in named and not draft.values["api_token"] and "api_token" not in draft.broken:
        draft.warnings.append(f"candidates in {shown} name cloudflare, which is passed over: it has no credentials")
    for name, group in groups(engines).items():
        if problem := missing(group[0]):
            draft.warnings.append(f"engine {name!r} in {shown} cannot run: {problem}")
    budget: int | None = draft.values["engines_memory"]
    for engine in engines:
        if not engine.models and engine.upstream not in named:
            draft.warnings.append(f"engine {engine.name!r} in {shown} has no models, so nobody can ask for it")
        if budget is not None and engine.memory is not None and engine.memory > budget:
            draft.problems.append(
                f"memory of engine {engine.name!r} in {shown}: more than {draft.names['engines_memory']} allows for all"
            )


def _check_tls(draft: _Draft) -> None:
    pair = ("ssl_certfile", "ssl_keyfile")
    if draft.broken & set(pair):
        return
    known = len(draft.problems)
    for attribute, other in (pair, pair[::-1]):
        file: Path | None = draft.values[attribute]
        if file is None:
            continue
        if draft.values[other] is None:
            draft.problems.append(f"{draft.names[other]}: missing, though {draft.names[attribute]} is set; set both")
        try:
            with file.open("rb"):
                pass
        except OSError as exc:
            draft.problems.append(f"{draft.names[attribute]}: expected a readable file ({exc.strerror})")
    certificate, key = (draft.values[attribute] for attribute in pair)
    if certificate is not None and key is not None and len(draft.problems) == known:
        draft.problems += _pair_problems(certificate, key, *(draft.names[attribute] for attribute in pair))


def _pair_problems(certificate: Path, key: Path, certificate_name: str, key_name: str) -> list[str]:
    """Why a server cannot show this certificate with this key; either file can be at fault."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    asked: list[bool] = []

    def no_password() -> str:
        asked.append(True)  # without a callback OpenSSL would ask at the terminal
        return ""

    try:
        context.load_verify_locations(certificate)
    except (ssl.SSLError, OSError):
        return [f"{certificate_name}: expected a certificate chain in PEM form (-----BEGIN CERTIFICATE-----)"]
    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except (ssl.SSLError, OSError) as exc:
        reason = getattr(exc, "reason", None)
        if reason in _NO_PAIR:
            return [f"{key_name}: expected the private key of the first certificate in {certificate_name}"]
        if reason in _TOO_WEAK:
            return [f"{certificate_name}: expected a certificate that OpenSSL finds strong enough ({reason})"]
        if asked:
            return [f"{key_name}: expected a private key without a password"]
        return [f"{key_name}: expected a private key in PEM form (-----BEGIN PRIVATE KEY-----)"]
    return []
