"""Every setting on one screen: its names, how its text is read, its default and what it is for.

`relay config`, the flags of `relay serve`, the error texts and the documentation's test derive from
this table.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import platformdirs

APP_NAME = "workers-ai-relay"
CLOUDFLARE_API = "https://api.cloudflare.com/client/v4"
STREAM_MODES = ("auto", "native", "synthetic")

Parser = Callable[[object], object]
"""Takes what a flag, a variable or a TOML file holds; raises ValueError if it means nothing."""


class Setting(NamedTuple):
    attribute: str
    env: str
    parse: Parser
    expects: str
    default: object
    help: str
    secret: bool = False

    @property
    def key(self) -> str:
        """The name in `relay.toml`."""
        return self.env.removeprefix("RELAY_").lower()

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")


def text(raw: object) -> str:
    """Printable text without spaces, which is safe inside a header."""
    value = raw.strip() if isinstance(raw, str) else ""
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError
    return value


def matching(pattern: str) -> Parser:
    compiled = re.compile(pattern)

    def parse(raw: object) -> str:
        value = text(raw)
        if not compiled.fullmatch(value):
            raise ValueError
        return value

    return parse


def choice(*options: str) -> Parser:
    def parse(raw: object) -> str:
        value = raw.strip().lower() if isinstance(raw, str) else ""
        if value not in options:
            raise ValueError
        return value

    return parse


def number(low: float, high: float) -> Parser:
    def parse(raw: object) -> float:
        if isinstance(raw, bool) or not isinstance(raw, str | int | float):
            raise ValueError
        value = float(raw)
        if not math.isfinite(value) or not low <= value <= high:
            raise ValueError
        return value

    return parse


def whole_number(low: int, high: int) -> Parser:
    def parse(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, str | int):
            raise ValueError
        value = int(raw)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def boolean(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    try:
        return _BOOLEANS[str(raw).strip().lower()]
    except KeyError:
        raise ValueError from None


def list_of(parse: Parser) -> Parser:
    """A comma-separated text or a TOML array, without repetitions; empty pieces are skipped."""

    def parse_all(raw: object) -> tuple[object, ...]:
        pieces: Sequence[object]
        if isinstance(raw, str):
            pieces = [piece for piece in raw.split(",") if piece.strip()]
            if not pieces:
                raise ValueError
        elif isinstance(raw, list):
            pieces = raw
        else:
            raise ValueError
        return tuple(dict.fromkeys(parse(piece) for piece in pieces))

    return parse_all


_TOKENS = list_of(matching(r"[!-+\--~]+"))  # printable ASCII; a comma parts tokens


def tokens(raw: object) -> object:
    """At least one: an empty list would read as "let nobody in" and as "make one" alike."""
    value = _TOKENS(raw)
    if not value:
        raise ValueError
    return value


_ORIGINS = list_of(matching(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#]+"))


def origins(raw: object) -> object:
    return () if raw == "none" else _ORIGINS(raw)


def host(raw: object) -> str:
    """A name or an address; IPv6 with or without brackets."""
    value = text(raw)
    if ":" in value:
        return str(ipaddress.IPv6Address(value.removeprefix("[").removesuffix("]")))
    if not re.fullmatch(r"[A-Za-z0-9._-]+", value):
        raise ValueError
    return value


def base_url(raw: object) -> str:
    value = text(raw).rstrip("/")
    parts = urlsplit(value)
    # `.port` raises ValueError where it is no port. A name and password would travel into log lines.
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.port == 0:
        raise ValueError
    if parts.query or parts.fragment:
        raise ValueError
    return value


def _proxy(raw: object) -> str:
    value = text(raw)
    if value != "*":
        # Strict: a network with host bits set would be taken for a name and match nobody.
        ipaddress.ip_network(value) if "/" in value else ipaddress.ip_address(value)
    return value


_PROXIES = list_of(_proxy)


def proxies(raw: object) -> str:
    """Addresses and networks, joined by commas; `*` beside others is `*`, for uvicorn knows it only alone."""
    value = _PROXIES(raw)
    items = [str(item) for item in value] if isinstance(value, tuple) else []
    return "*" if "*" in items else ",".join(items)


def root_path(raw: object) -> str:
    value = text(raw).rstrip("/")
    if value and not value.startswith("/"):
        raise ValueError
    return value


_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_UNITS |= {"b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tb": 10**12, "tib": 2**40}


def _size_between(low: int, high: int) -> Callable[[object], int]:
    """Bytes. A bare k, m or g is the binary unit, as in nginx."""

    def parse(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, str | int):
            raise ValueError
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", str(raw).strip())
        if not match or match[2].lower() not in _UNITS:
            raise ValueError
        value = int(float(match[1]) * _UNITS[match[2].lower()])
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


size = _size_between(2**10, 2**40)
memory = _size_between(2**20, 2**50)


def path(raw: object) -> Path:
    if not isinstance(raw, str) or not raw.strip() or "\0" in raw:
        raise ValueError
    try:
        return Path(raw.strip()).expanduser()
    except RuntimeError:  # `~name` of somebody who does not exist
        raise ValueError from None


def default_state_dir() -> Path:
    return platformdirs.user_state_path(APP_NAME, appauthor=False)


_IDENTIFIER = matching(r"[A-Za-z0-9_-]+")
_SECONDS = number(0.001, 86400)
_SECONDS_TEXT = "a number of seconds above 0"
_BOOLEAN_TEXT = "true or false"
_TOKEN_TEXT = "printable ASCII text without spaces"

# A default that is callable is asked when no source names a value.
SETTINGS: tuple[Setting, ...] = (
    Setting(
        "account_id",
        "CLOUDFLARE_ACCOUNT_ID",
        _IDENTIFIER,
        "an account id (32 letters and digits at Cloudflare)",
        None,
        "Cloudflare account that answers.",
    ),
    Setting(
        "api_token",
        "CLOUDFLARE_API_TOKEN",
        text,
        _TOKEN_TEXT,
        None,
        "Cloudflare API token with a Workers AI permission.",
        secret=True,
    ),
    Setting(
        "api_base_url",
        "CLOUDFLARE_API_BASE_URL",
        base_url,
        "an http(s) address with a host and without name, password or query",
        CLOUDFLARE_API,
        "Root of Cloudflare's v4 API.",
    ),
    Setting(
        "ai_gateway",
        "CLOUDFLARE_AI_GATEWAY",
        _IDENTIFIER,
        "the name of an AI Gateway (letters, digits, - and _)",
        None,
        "Send upstream calls through this AI Gateway.",
    ),
    Setting(
        "ai_gateway_token",
        "CLOUDFLARE_AI_GATEWAY_TOKEN",
        text,
        _TOKEN_TEXT,
        None,
        "Token of an authenticated AI Gateway.",
        secret=True,
    ),
    Setting("host", "RELAY_HOST", host, "a host name or an IP address", "127.0.0.1", "Address to listen on."),
    Setting(
        "port",
        "RELAY_PORT",
        whole_number(0, 65535),
        "a whole number from 0 to 65535",
        8790,
        "Port to listen on; 0 takes a free one.",
    ),
    Setting("workers", "RELAY_WORKERS", whole_number(1, 256), "a whole number from 1 to 256", 1, "Worker processes."),
    Setting(
        "tokens",
        "RELAY_TOKENS",
        tokens,
        "bearer tokens, separated by commas, of printable ASCII without spaces",
        (),
        "Tokens that clients may present; one is made at the first start if there are none.",
        secret=True,
    ),
    Setting(
        "state_dir", "RELAY_STATE_DIR", path, "a folder", default_state_dir, "Folder of everything the relay stores."
    ),
    Setting(
        "stream",
        "RELAY_STREAM",
        choice(*STREAM_MODES),
        "auto, native or synthetic",
        "auto",
        "How streams are made.",
    ),
    Setting(
        "keepalive",
        "RELAY_KEEPALIVE",
        _SECONDS,
        _SECONDS_TEXT,
        5.0,
        "Seconds of silence in a stream before a keep-alive.",
    ),
    Setting(
        "keepalive_form",
        "RELAY_KEEPALIVE_FORM",
        choice("chunk", "comment", "off"),
        "chunk, comment or off",
        "chunk",
        "What a keep-alive is.",
    ),
    Setting(
        "connect_timeout",
        "RELAY_CONNECT_TIMEOUT",
        _SECONDS,
        _SECONDS_TEXT,
        10.0,
        "Seconds to connect upstream.",
    ),
    Setting(
        "first_byte_timeout",
        "RELAY_FIRST_BYTE_TIMEOUT",
        _SECONDS,
        _SECONDS_TEXT,
        130.0,
        "Seconds until the upstream's first byte, and for a whole answer that is not streamed.",
    ),
    Setting(
        "idle_timeout",
        "RELAY_IDLE_TIMEOUT",
        _SECONDS,
        _SECONDS_TEXT,
        60.0,
        "Seconds between two frames of an upstream stream.",
    ),
    Setting(
        "retries",
        "RELAY_RETRIES",
        whole_number(0, 10),
        "a whole number from 0 to 10",
        2,
        "Extra tries before the first event.",
    ),
    Setting(
        "max_tokens",
        "RELAY_MAX_TOKENS",
        whole_number(1, 10_000_000),
        "a whole number above 0",
        4096,
        "Longest answer in tokens where the client names no limit.",
    ),
    Setting(
        "max_body",
        "RELAY_MAX_BODY",
        size,
        "a size of at least 1 KiB such as 33554432, 32 MiB, 8MB or 512k",
        32 * 2**20,
        "Largest request body.",
    ),
    Setting(
        "strict",
        "RELAY_STRICT",
        boolean,
        _BOOLEAN_TEXT,
        False,
        "Refuse what a model cannot take instead of changing it.",
    ),
    Setting(
        "cors_origins",
        "RELAY_CORS_ORIGINS",
        origins,
        "origins such as https://example.com, separated by commas, or * or none",
        ("*",),
        "Web pages that may call the relay.",
    ),
    Setting(
        "allow_retired",
        "RELAY_ALLOW_RETIRED",
        boolean,
        _BOOLEAN_TEXT,
        False,
        "Let the simulator answer retired models too.",
    ),
    Setting(
        "prefer",
        "RELAY_PREFER",
        choice("cloudflare", "local"),
        "cloudflare or local",
        "cloudflare",
        "Who answers first for a model that Cloudflare and an engine have.",
    ),
    Setting(
        "engines_memory",
        "RELAY_ENGINES_MEMORY",
        memory,
        "a size of at least 1 MiB such as 40GiB",
        None,
        "Memory that the engines on this machine may take together.",
    ),
    Setting("script", "RELAY_SCRIPT", path, "a file", None, "Rules for what the simulator does, TOML or JSON."),
    Setting(
        "log_level",
        "RELAY_LOG_LEVEL",
        choice("critical", "error", "warning", "info", "debug", "trace"),
        "critical, error, warning, info, debug or trace",
        "info",
        "How much is logged.",
    ),
    Setting(
        "log_format",
        "RELAY_LOG_FORMAT",
        choice("auto", "text", "json"),
        "auto, text or json",
        "auto",
        "Form of log lines; auto is text on a terminal, else json.",
    ),
    Setting("access_log", "RELAY_ACCESS_LOG", boolean, _BOOLEAN_TEXT, False, "Log each request."),
    Setting(
        "forwarded_allow_ips",
        "RELAY_FORWARDED_ALLOW_IPS",
        proxies,
        "IP addresses or networks such as 10.0.0.0/8, separated by commas, or *",
        "127.0.0.1",
        "Proxies whose X-Forwarded-* headers are believed.",
    ),
    Setting(
        "root_path",
        "RELAY_ROOT_PATH",
        root_path,
        "a path that begins with /",
        "",
        "Path under which a proxy in front serves the relay.",
    ),
    Setting("ssl_certfile", "RELAY_SSL_CERTFILE", path, "a file", None, "Certificate chain for HTTPS, PEM."),
    Setting("ssl_keyfile", "RELAY_SSL_KEYFILE", path, "a file", None, "Private key of the certificate, PEM."),
    Setting(
        "shutdown_timeout",
        "RELAY_SHUTDOWN_TIMEOUT",
        number(0, 86400),
        "a number of seconds from 0",
        30.0,
        "Seconds that running answers get when the relay stops.",
    ),
)
