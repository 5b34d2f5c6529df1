"""`proxy.settings`, `proxy.sources` and `proxy.setting_table`: what is read, from where, and what is refused."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest

from proxy.setting_table import CLOUDFLARE_API, SETTINGS
from proxy.settings import Settings, SettingsError, load_settings
from proxy.sources import SourceOptions
from tests.support.certificates import CERTIFICATE, KEY, LOCKED_KEY, OTHER_KEY, write_pair

CREDENTIALS = {"CLOUDFLARE_ACCOUNT_ID": "a" * 32, "CLOUDFLARE_API_TOKEN": "cfut_secret"}
LONG = "t" * 16


def load(folder: Path, environ: dict[str, str] | None = None, toml: str | None = None, **flags: object) -> Settings:
    if toml is not None:
        (folder / "relay.toml").write_text(toml)
    return load_settings(flags, environ or {}, folder)


def problems(folder: Path, environ: dict[str, str] | None = None, toml: str | None = None, **flags: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load(folder, environ, toml, **flags)
    return "\n".join(caught.value.problems)


def test_every_field_of_the_table_is_one_of_the_settings_and_has_a_default(tmp_path: Path) -> None:
    settings = load(tmp_path)
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert {setting.attribute for setting in SETTINGS} <= fields
    assert {settings.origins[setting.attribute] for setting in SETTINGS} == {"default"}
    assert (settings.host, settings.port, settings.upstream) == ("127.0.0.1", 8790, "simulator")
    assert settings.tokens == ()
    assert settings.max_body == 32 * 2**20
    assert settings.credentials_origin == ""


READINGS: dict[str, tuple[str, str, object]] = {
    "a port": ("RELAY_PORT", " 9000 ", 9000),
    "any free port": ("RELAY_PORT", "0", 0),
    "tokens": ("RELAY_TOKENS", "one, two,,one", ("one", "two")),
    "a fraction of a second": ("RELAY_KEEPALIVE", "0.5", 0.5),
    "true": ("RELAY_STRICT", "Yes", True),
    "false": ("RELAY_STRICT", "off", False),
    "plain bytes": ("RELAY_MAX_BODY", "1048576", 2**20),
    "binary unit": ("RELAY_MAX_BODY", "32 MiB", 32 * 2**20),
    "decimal unit": ("RELAY_MAX_BODY", "8MB", 8_000_000),
    "bare unit": ("RELAY_MAX_BODY", "512k", 512 * 1024),
    "a fraction of a unit": ("RELAY_MAX_BODY", "1.5m", 3 * 2**19),
    "IPv6 in brackets": ("RELAY_HOST", "[::1]", "::1"),
    "a mode in capitals": ("RELAY_STREAM", "Native", "native"),
    "trailing slashes": ("CLOUDFLARE_API_BASE_URL", "http://example.com/client/v4//", "http://example.com/client/v4"),
    "origins": (
        "RELAY_CORS_ORIGINS",
        "https://a.example,vscode-webview://x",
        ("https://a.example", "vscode-webview://x"),
    ),
    "no origins": ("RELAY_CORS_ORIGINS", "none", ()),
    "empty is unset": ("RELAY_PORT", "", 8790),
    "proxies": ("RELAY_FORWARDED_ALLOW_IPS", " 10.0.0.0/8, ::1 ", "10.0.0.0/8,::1"),
    "any proxy": ("RELAY_FORWARDED_ALLOW_IPS", "127.0.0.1,*", "*"),
    "a path behind a proxy": ("RELAY_ROOT_PATH", "/relay/", "/relay"),
}


@pytest.mark.parametrize(("name", "text", "value"), READINGS.values(), ids=READINGS)
def test_text_of_the_environment_means(tmp_path: Path, name: str, text: str, value: object) -> None:
    settings = load(tmp_path, {name: text})
    attribute = next(setting.attribute for setting in SETTINGS if setting.env == name)
    assert getattr(settings, attribute) == value


TOML_READINGS: dict[str, tuple[str, str, object]] = {
    "whole number": ("port = 9000", "port", 9000),
    "number as text": ('port = "9000"', "port", 9000),
    "boolean": ("strict = true", "strict", True),
    "array": (f'tokens = ["{LONG}", "b"]', "tokens", (LONG, "b")),
    "no origins": ("cors_origins = []", "cors_origins", ()),
    "full Cloudflare name": ('cloudflare_api_base_url = "https://x.example"', "api_base_url", "https://x.example"),
    "byte-order mark": ("\ufeffport = 9000", "port", 9000),
    "aliases": ('[aliases]\n"gpt-4o" = "@cf/a/b"\n"x" = "gpt-4o"', "aliases", {"gpt-4o": "@cf/a/b", "x": "gpt-4o"}),
    "stream of a model": ('[models."@cf/a/b"]\nstream = "synthetic"', "model_streams", {"@cf/a/b": "synthetic"}),
}


@pytest.mark.parametrize(("toml", "attribute", "value"), TOML_READINGS.values(), ids=TOML_READINGS)
def test_relay_toml_means(tmp_path: Path, toml: str, attribute: str, value: object) -> None:
    settings = load(tmp_path, toml=toml)
    assert getattr(settings, attribute) == value
    assert settings.origins[attribute] == "relay.toml"


REFUSALS: dict[str, tuple[dict[str, str], str]] = {
    "port": ({"RELAY_PORT": "65536"}, "RELAY_PORT: expected a whole number from 0 to 65535, got '65536'"),
    "port of Kubernetes": ({"RELAY_PORT": "tcp://10.0.0.1:8790"}, "enableServiceLinks: false"),
    "workers": ({"RELAY_WORKERS": "0"}, "RELAY_WORKERS: expected a whole number from 1"),
    "seconds": ({"RELAY_KEEPALIVE": "nan"}, "RELAY_KEEPALIVE: expected a number of seconds above 0"),
    "endless seconds": ({"RELAY_IDLE_TIMEOUT": "inf"}, "RELAY_IDLE_TIMEOUT: expected a number"),
    "boolean": ({"RELAY_STRICT": "maybe"}, "RELAY_STRICT: expected true or false, got 'maybe'"),
    "mode": ({"RELAY_STREAM": "fast"}, "RELAY_STREAM: expected auto, native or synthetic"),
    "size": ({"RELAY_MAX_BODY": "32 miles"}, "RELAY_MAX_BODY: expected a size"),
    "huge size": ({"RELAY_MAX_BODY": "9" * 400}, "RELAY_MAX_BODY: expected a size"),
    "host": ({"RELAY_HOST": "a host"}, "RELAY_HOST: expected a host name"),
    "no token at all": ({"RELAY_TOKENS": " , "}, "RELAY_TOKENS: expected bearer tokens"),
    "a token with a line feed": ({"RELAY_TOKENS": "a\nb"}, "RELAY_TOKENS: expected bearer tokens"),
    "an account id that breaks out": ({"CLOUDFLARE_ACCOUNT_ID": "../x"}, "CLOUDFLARE_ACCOUNT_ID: expected an account"),
    "base URL without host": ({"CLOUDFLARE_API_BASE_URL": "https://"}, "CLOUDFLARE_API_BASE_URL: expected an http"),
    "base URL of a file": ({"CLOUDFLARE_API_BASE_URL": "file:///etc"}, "CLOUDFLARE_API_BASE_URL: expected an http"),
    "account alone": ({"CLOUDFLARE_ACCOUNT_ID": "abc"}, "CLOUDFLARE_API_TOKEN: missing, though CLOUDFLARE_ACCOUNT_ID"),
    "token alone": ({"CLOUDFLARE_API_TOKEN": "abc"}, "CLOUDFLARE_ACCOUNT_ID: missing, though CLOUDFLARE_API_TOKEN"),
    "short token in public": (
        {"RELAY_HOST": "0.0.0.0", "RELAY_TOKENS": f"{LONG},short"},
        "RELAY_TOKENS: expected tokens",
    ),
    "short token behind a name": ({"RELAY_HOST": "relay.example", "RELAY_TOKENS": "short"}, "at least 16 characters"),
    "base URL with a query": (
        {"CLOUDFLARE_API_BASE_URL": "https://x.example/?a=b"},
        "CLOUDFLARE_API_BASE_URL: expected",
    ),
    "root path without a slash": ({"RELAY_ROOT_PATH": "relay"}, "RELAY_ROOT_PATH: expected a path that begins with /"),
    "a home of nobody": ({"RELAY_STATE_DIR": "~nobody-at-all-5f/x"}, "RELAY_STATE_DIR: expected a folder"),
    "an origin with a path": ({"RELAY_CORS_ORIGINS": "https://a.example/x"}, "RELAY_CORS_ORIGINS: expected origins"),
    "a broken IPv6 address": ({"RELAY_HOST": "1::2::3"}, "RELAY_HOST: expected a host name"),
    "a proxy's name": ({"RELAY_FORWARDED_ALLOW_IPS": "foo"}, "RELAY_FORWARDED_ALLOW_IPS: expected IP addresses"),
    "one bad proxy of two": ({"RELAY_FORWARDED_ALLOW_IPS": "::1,10.0.0"}, "RELAY_FORWARDED_ALLOW_IPS: expected"),
    "a network with host bits": ({"RELAY_FORWARDED_ALLOW_IPS": "10.0.0.1/8"}, "RELAY_FORWARDED_ALLOW_IPS: expected"),
    "certificate alone": ({"RELAY_SSL_CERTFILE": "/dev/null"}, "RELAY_SSL_KEYFILE: missing, though RELAY_SSL_CERTFILE"),
    "certificate that is not there": (
        {"RELAY_SSL_CERTFILE": "no.pem", "RELAY_SSL_KEYFILE": "/dev/null"},
        "RELAY_SSL_CERTFILE: expected a readable file",
    ),
}


@pytest.mark.parametrize(("environ", "text"), REFUSALS.values(), ids=REFUSALS)
def test_the_environment_is_refused(tmp_path: Path, environ: dict[str, str], text: str) -> None:
    assert text in problems(tmp_path, environ)


BAD_PAIRS = {
    "no certificate": ("nonsense", KEY, "--ssl-certfile: expected a certificate chain in PEM form"),
    "a key for a certificate": (KEY, KEY, "--ssl-certfile: expected a certificate chain in PEM form"),
    "no key": (CERTIFICATE, "nonsense", "--ssl-keyfile: expected a private key in PEM form"),
    "a certificate for a key": (CERTIFICATE, CERTIFICATE, "--ssl-keyfile: expected a private key in PEM form"),
    "another's key": (CERTIFICATE, OTHER_KEY, "--ssl-keyfile: expected the private key of the first certificate in"),
    "a key under a password": (CERTIFICATE, LOCKED_KEY, "--ssl-keyfile: expected a private key without a password"),
}


@pytest.mark.parametrize(("certificate", "key", "text"), BAD_PAIRS.values(), ids=BAD_PAIRS)
def test_a_certificate_that_no_server_can_show_is_refused(
    tmp_path: Path, certificate: str, key: str, text: str
) -> None:
    found = problems(tmp_path, **write_pair(tmp_path, certificate, key))
    assert found.startswith(text)
    assert len(found.splitlines()) == 1


def test_a_certificate_and_its_key_are_taken(tmp_path: Path) -> None:
    settings = load(tmp_path, **write_pair(tmp_path))
    assert (settings.ssl_certfile, settings.ssl_keyfile) == (tmp_path / "cert.pem", tmp_path / "key.pem")


TOML_REFUSALS = {
    "unknown key": ("prot = 1", "prot in relay.toml: no such setting; did you mean port?"),
    "wrong type": ("port = true", "port in relay.toml: expected a whole number from 0 to 65535, got True"),
    "no TOML": ("port = ", "relay.toml: expected TOML"),
    "unknown option of a model": ('[models."@cf/a/b"]\nsteam = "auto"', "no such option; did you mean stream?"),
    "models that are no table": ("models = 1", "[models] in relay.toml: expected tables"),
    "a model that is no table": ("[models]\nx = 1", '[models."x"] in relay.toml: expected a table'),
    "an array of wrong things": ("tokens = [1]", "tokens in relay.toml: expected bearer tokens"),
    "an array that is none": ("tokens = 1", "tokens in relay.toml: expected bearer tokens"),
    "a path that is none": ("state_dir = 1", "state_dir in relay.toml: expected a folder, got 1"),
    "a size that is none": ("max_body = true", "max_body in relay.toml: expected a size"),
    "a number that is none": ("keepalive = true", "keepalive in relay.toml: expected a number"),
    "unknown stream mode": ('[models."@cf/a/b"]\nstream = "x"', "expected auto, native or synthetic, got 'x'"),
    "aliases that are no table": ("aliases = 1", "[aliases] in relay.toml: expected a table"),
    "an alias of nothing": ('[aliases]\na = ""', '"a" in [aliases] in relay.toml: expected the id of a model'),
    "a circle of aliases": ('[aliases]\na = "b"\nb = "a"', "got a circle of aliases"),
}


@pytest.mark.parametrize(("toml", "text"), TOML_REFUSALS.values(), ids=TOML_REFUSALS)
def test_relay_toml_is_refused(tmp_path: Path, toml: str, text: str) -> None:
    assert text in problems(tmp_path, toml=toml)


def test_all_problems_are_told_at_once_under_the_names_that_their_author_used(tmp_path: Path) -> None:
    text = problems(tmp_path, {"RELAY_STREAM": "x"}, "retries = -1\nfoo = 2", port="many")
    assert [line.partition(":")[0] for line in text.splitlines()] == [
        "foo in relay.toml",
        "--port",
        "RELAY_STREAM",
        "retries in relay.toml",
    ]


@pytest.mark.parametrize("name", [setting.env for setting in SETTINGS if setting.secret])
def test_no_secret_is_ever_shown(tmp_path: Path, name: str) -> None:
    assert "hunter2" not in problems(tmp_path, {name: "hunter2 \u00e9"})
    settings = load(tmp_path, {**CREDENTIALS, "CLOUDFLARE_AI_GATEWAY": "g", name: "hunter2hunter2hunter2"})
    assert "hunter2" not in repr(settings)
    assert "***" in repr(settings)


def test_a_password_in_the_base_url_is_neither_taken_nor_shown(tmp_path: Path) -> None:
    assert "hunter2" not in problems(tmp_path, {"CLOUDFLARE_API_BASE_URL": "https://me:hunter2@example.com"})


def test_a_flag_beats_the_environment_beats_relay_toml_beats_wrangler_files(tmp_path: Path) -> None:
    names = ("KEEPALIVE", "IDLE_TIMEOUT", "CONNECT_TIMEOUT", "FIRST_BYTE_TIMEOUT")
    (tmp_path / ".dev.vars").write_text("".join(f"RELAY_{name}=1\n" for name in names))
    toml = "keepalive = 2\nidle_timeout = 2\nconnect_timeout = 2"
    settings = load(tmp_path, {"RELAY_KEEPALIVE": "3", "RELAY_IDLE_TIMEOUT": "3"}, toml, keepalive="4")
    values = [settings.keepalive, settings.idle_timeout, settings.connect_timeout, settings.first_byte_timeout]
    assert values == [4.0, 3.0, 2.0, 1.0]
    origins = [settings.origins[name.lower()] for name in names]
    assert origins[:3] == ["flag --keepalive", "environment", "relay.toml"]
    assert ".dev.vars" in origins[3]


def test_credentials_say_where_they_came_from(tmp_path: Path) -> None:
    assert load(tmp_path, CREDENTIALS).credentials_origin == "environment"
    toml = f'cloudflare_account_id = "{CREDENTIALS["CLOUDFLARE_ACCOUNT_ID"]}"'
    settings = load(tmp_path, {"CLOUDFLARE_API_TOKEN": "x"}, toml)
    assert settings.credentials_origin == "relay.toml (account) and environment (token)"
    assert settings.upstream == "cloudflare"


OWN_ADDRESSES = {
    "as it is": ({}, "http://127.0.0.1:8790/client/v4", True),
    "by name": ({}, "http://localhost:8790/client/v4", True),
    "of all interfaces": ({}, "http://0.0.0.0:8790/client/v4", True),
    "IPv6": ({"RELAY_HOST": "::"}, "http://[::1]:8790/client/v4", True),
    "a public name": ({"RELAY_HOST": "relay.example", "RELAY_PORT": "443"}, "https://Relay.example/client/v4", True),
    "another port": ({}, "http://127.0.0.1:8791/client/v4", False),
    "another host": ({}, "http://192.0.2.1:8790/client/v4", False),
}


@pytest.mark.parametrize(("environ", "url", "own"), OWN_ADDRESSES.values(), ids=OWN_ADDRESSES)
def test_the_relays_own_address_is_no_upstream(tmp_path: Path, environ: dict[str, str], url: str, own: bool) -> None:
    settings = load(tmp_path, {**CREDENTIALS, **environ, "CLOUDFLARE_API_BASE_URL": url})
    assert settings.api_base_url == (CLOUDFLARE_API if own else url)
    assert any("own address" in warning for warning in settings.warnings) == own
    assert settings.upstream == "cloudflare"


def test_the_relays_own_token_is_not_sent_to_cloudflare(tmp_path: Path) -> None:
    environ = {
        "CLOUDFLARE_API_BASE_URL": "http://127.0.0.1:8790/client/v4",
        "CLOUDFLARE_ACCOUNT_ID": "local",
        "CLOUDFLARE_API_TOKEN": LONG,
        "RELAY_TOKENS": LONG,
    }
    settings = load(tmp_path, environ)
    assert (settings.upstream, settings.api_token, settings.account_id) == ("simulator", None, None)
    assert LONG not in "\n".join(settings.warnings)


WARNINGS = {
    "a misspelt variable": ({"RELAY_PROT": "1"}, "RELAY_PROT is no setting of the relay; did you mean RELAY_PORT?"),
    "a gateway's token alone": ({"CLOUDFLARE_AI_GATEWAY_TOKEN": "x"}, "CLOUDFLARE_AI_GATEWAY_TOKEN has no effect"),
}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("NONSENSE", None), ("TOKEN", "TOKENS"), ("PROT", "PORT"), ("TIMEOUTS_OF_ALL", None), ("LOGLEVEL", "LOG_LEVEL")],
)
def test_only_a_name_that_is_near_is_suggested(tmp_path: Path, name: str, nearest: str | None) -> None:
    (warning,) = load(tmp_path, {f"RELAY_{name}": "1"}).warnings
    assert warning.partition("; ")[2] == (f"did you mean RELAY_{nearest}?" if nearest else "")


@pytest.mark.parametrize(("environ", "text"), WARNINGS.values(), ids=WARNINGS)
def test_what_does_no_harm_is_a_warning(tmp_path: Path, environ: dict[str, str], text: str) -> None:
    assert text in "\n".join(load(tmp_path, environ).warnings)


def test_a_project_that_only_names_its_account_does_not_keep_the_relay_from_starting(tmp_path: Path) -> None:
    file = tmp_path / "wrangler.toml"
    file.write_text(f'name = "w"\naccount_id = "{"a" * 32}"\n')
    settings = load(tmp_path)
    assert settings.upstream == "simulator"
    assert "the account id is not used" in "\n".join(settings.warnings)
    assert "CLOUDFLARE_API_TOKEN: missing" in problems(tmp_path, wrangler_config=str(file))


def test_a_broken_project_is_refused_only_if_it_was_named(tmp_path: Path) -> None:
    file = tmp_path / "wrangler.toml"
    file.write_text("account_id = ")
    assert "wrangler.toml" in "\n".join(load(tmp_path).warnings)
    assert "wrangler.toml" in problems(tmp_path, wrangler_config=str(file))


def test_a_named_file_has_to_be_there(tmp_path: Path) -> None:
    assert problems(tmp_path, config="none.toml") == "--config none.toml: there is no such file"
    assert problems(tmp_path, wrangler_config="none.toml") == "--wrangler-config none.toml: there is no such file"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_bytes(b"port = \xff")
    assert problems(tmp_path) == "relay.toml: expected UTF-8 text"
    (tmp_path / "folder").mkdir()
    assert problems(tmp_path, config="folder").startswith("folder: cannot be read")


def test_a_misspelt_name_in_a_wrangler_file_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / ".dev.vars").write_text("RELAY_PROT=1\nOTHER=2\nRELAY_PORT=\n")
    warnings = "\n".join(load(tmp_path).warnings)
    assert "RELAY_PROT in .dev.vars is no setting of the relay; did you mean RELAY_PORT?" in warnings
    assert "OTHER" not in warnings


def test_the_users_own_file_counts_where_the_folder_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.sources.platformdirs.user_config_path", lambda *_, **__: tmp_path / "home")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "relay.toml").write_text("port = 1")
    assert load(tmp_path).port == 1
    assert load(tmp_path, toml="port = 2").port == 2


def test_a_relative_path_starts_where_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "my.toml").write_text('state_dir = "state"')
    assert load(tmp_path, config="etc/my.toml").state_dir == tmp_path / "etc" / "state"
    assert load(tmp_path, {"RELAY_STATE_DIR": "state"}).state_dir == tmp_path / "state"


def test_another_process_loads_the_same_settings_from_the_options(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("port = 1234")
    first = load(tmp_path, config="my.toml", strict=True, host=None)
    options = pickle.loads(pickle.dumps(first.options))
    assert options == SourceOptions(config="my.toml", flags={"strict": True})
    again: Any = load_settings(options.as_flags(), {}, tmp_path)
    assert again == first
