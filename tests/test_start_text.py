"""`proxy.commands.start_text`: what a start prints, and a line that works when it is pasted."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from adapters.catalogue import load_snapshot
from proxy.commands.start_text import FIRST_MODEL, local_url, relay_command, start_text
from proxy.settings import Settings, load_settings
from tests.support.certificates import write_pair

TOKEN = "sk-relay-0123456789abcdef"
CREDENTIALS = {"CLOUDFLARE_ACCOUNT_ID": "acc", "CLOUDFLARE_API_TOKEN": "cfut_0123456789"}


def load(folder: Path, environ: dict[str, str] | None = None, **flags: object) -> Settings:
    return load_settings(flags, environ or {}, folder)


def text(settings: Settings, created: bool = False, terminal: bool = True, command: str = "relay") -> str:
    return start_text(settings, TOKEN, created, settings.host, settings.port, command=command, terminal=terminal)


def curl(printed: str) -> str:
    return next(line for line in printed.splitlines() if " curl " in line).partition("curl ")[2]


SHOWN = {
    "just made, a person watches": (True, True, True),
    "just made, nobody watches": (True, False, False),
    "made earlier": (False, True, False),
}


@pytest.mark.parametrize(("created", "terminal", "shown"), SHOWN.values(), ids=SHOWN)
def test_the_token_is_shown_once_and_to_a_person(tmp_path: Path, created: bool, terminal: bool, shown: bool) -> None:
    printed = text(load(tmp_path), created, terminal)
    assert (TOKEN in printed) == shown
    assert "relay token" in printed
    assert (f'"Authorization: Bearer {TOKEN}"' in printed) == shown
    assert ('"Authorization: Bearer $(relay token)"' in printed) != shown


def test_the_pasted_line_is_a_streamed_chat_with_a_model_that_answers(tmp_path: Path) -> None:
    words = shlex.split(curl(text(load(tmp_path), created=True)))
    assert words[1] == "http://127.0.0.1:8790/v1/chat/completions"
    body = json.loads(words[words.index("-d") + 1])
    assert (body["model"], body["stream"]) == (FIRST_MODEL, True)
    model = load_snapshot().get(FIRST_MODEL)
    assert model is not None
    assert (model.status, model.is_chat) == ("listed", True)


FIRST: dict[str, tuple[str, dict[str, str], str]] = {
    "an engine's": ('models = ["my-own"]', {}, "my-own"),
    "one that chats": ('models = ["vectors", "my-own"]\nembeddings = ["vectors"]', {}, "my-own"),
    "one that needs no quotes": ('models = ["it\'s", "my/own"]', {}, "my/own"),
    "Cloudflare's, with an account": ('models = ["my-own"]', CREDENTIALS, FIRST_MODEL),
    "the simulator's, for want of another": ('models = ["vectors"]\nembeddings = ["vectors"]', {}, FIRST_MODEL),
}


@pytest.mark.parametrize(("lines", "environ", "model"), FIRST.values(), ids=FIRST)
def test_a_model_that_really_answers_is_tried_first(
    tmp_path: Path, lines: str, environ: dict[str, str], model: str
) -> None:
    (tmp_path / "relay.toml").write_text(f'[[engines]]\nname = "e"\nurl = "http://127.0.0.1:9"\n{lines}\n')
    words = shlex.split(curl(text(load(tmp_path, environ), created=True)))
    assert json.loads(words[words.index("-d") + 1])["model"] == model


def test_the_simulator_is_called_one(tmp_path: Path) -> None:
    printed = text(load(tmp_path), command=".venv/bin/relay")
    assert "built-in simulator: no Cloudflare credentials; answers are simulated" in printed
    assert "CLOUDFLARE_API_TOKEN" in printed
    assert "`.venv/bin/relay doctor`" in printed


def test_cloudflare_is_named_with_the_origin_of_its_credentials_and_without_them(tmp_path: Path) -> None:
    printed = text(load(tmp_path, {**CREDENTIALS, "CLOUDFLARE_AI_GATEWAY": "gate"}))
    assert "Cloudflare Workers AI through AI Gateway gate; credentials from environment" in printed
    assert CREDENTIALS["CLOUDFLARE_API_TOKEN"] not in printed


def test_the_command_for_the_token_names_the_sources_of_this_start(tmp_path: Path) -> None:
    (tmp_path / "my relay.toml").write_text("")
    settings = load(tmp_path, {"RELAY_STATE_DIR": "state"}, config="my relay.toml", env="")
    sources = f"--config '{tmp_path}/my relay.toml' --env ''"
    assert f"$(relay token {sources} --state-dir {tmp_path}/state)" in text(settings)
    assert f"`relay doctor {sources}`" in text(settings)


def test_tokens_of_the_environment_are_asked_for_where_it_is_the_same(tmp_path: Path) -> None:
    printed = text(load(tmp_path, {"RELAY_TOKENS": TOKEN}), created=False)
    assert "Bearer $(relay token)" in printed.splitlines()[-2]
    assert printed.splitlines()[-1].strip() == "in a shell that has the same RELAY_TOKENS"
    assert TOKEN not in printed


FOUND = {
    "relay.toml": ("relay.toml", f'tokens = ["{TOKEN}"]'),
    ".dev.vars": (".dev.vars", f"RELAY_TOKENS={TOKEN}"),
    ".env": (".env", f"RELAY_TOKENS={TOKEN}"),
    "vars of wrangler": ("wrangler.toml", f'name = "w"\n[vars]\nRELAY_TOKENS = "{TOKEN}"'),
}


@pytest.mark.parametrize(("name", "content"), FOUND.values(), ids=FOUND)
def test_tokens_of_a_file_that_was_found_are_asked_for_in_its_folder(tmp_path: Path, name: str, content: str) -> None:
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / name).write_text(content)
    printed = text(load(folder))
    assert f"Bearer $(cd '{folder}' && relay token)" in printed
    assert TOKEN not in printed
    assert "same RELAY_TOKENS" not in printed


def test_tokens_of_a_file_that_was_named_or_is_the_users_own_need_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "named.toml").write_text(f'tokens = ["{TOKEN}"]')
    assert f"$(relay token --config {tmp_path}/named.toml)" in text(load(tmp_path, config="named.toml"))
    monkeypatch.setattr("proxy.sources.platformdirs.user_config_path", lambda *_, **__: tmp_path / "home")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "relay.toml").write_text(f'tokens = ["{TOKEN}"]')
    assert "$(relay token)" in text(load(tmp_path))


@pytest.mark.parametrize(
    ("host", "all_of_them"), [("0.0.0.0", True), ("::", True), ("::1", False), ("127.0.0.1", False)]
)
def test_listening_on_all_addresses_is_said(tmp_path: Path, host: str, all_of_them: bool) -> None:
    first = text(load(tmp_path, host=host)).splitlines()[0]
    assert first.endswith("  (listens on all addresses)") == all_of_them


def test_an_ipv6_address_is_quoted_for_the_shell(tmp_path: Path) -> None:
    assert " 'http://[::1]:8790/v1/chat/completions' " in curl(text(load(tmp_path, host="::1")))


ADDRESSES = {
    "as it is": ("127.0.0.1", "http://127.0.0.1:80"),
    "all interfaces": ("0.0.0.0", "http://127.0.0.1:80"),
    "all interfaces, IPv6": ("::", "http://[::1]:80"),
    "IPv6": ("::1", "http://[::1]:80"),
    "a name": ("localhost", "http://localhost:80"),
}


@pytest.mark.parametrize(("host", "url"), ADDRESSES.values(), ids=ADDRESSES)
def test_the_address_can_be_called_from_here(tmp_path: Path, host: str, url: str) -> None:
    assert local_url(load(tmp_path), host, 80) == url


def test_a_certificate_makes_it_https(tmp_path: Path) -> None:
    settings = load(tmp_path, **write_pair(tmp_path))
    assert "-k https://127.0.0.1:8790/v1/" in curl(text(settings))


def test_the_command_is_named_as_it_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = tmp_path / "bin" / "relay"
    on_path.parent.mkdir()
    on_path.write_text("#!/bin/sh\n")
    on_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert relay_command("my dir/.venv/bin/relay", tmp_path) == f"'{tmp_path}/my dir/.venv/bin/relay'"
    assert relay_command("../relay", tmp_path / "x") == str(tmp_path / "relay")
    assert relay_command("/opt/relay/bin/relay", tmp_path) == "/opt/relay/bin/relay"
    assert relay_command("/src/proxy/cli.py", Path("/none")) == f"{sys.executable} -m proxy.cli"
    monkeypatch.setenv("PATH", "bin")
    assert relay_command(str(on_path), tmp_path) == str(on_path)  # means nothing in another folder
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert relay_command(str(on_path), tmp_path / "elsewhere") == "relay"
    assert relay_command(str(tmp_path / "other" / "relay"), tmp_path) == str(tmp_path / "other" / "relay")


def test_engines_are_named(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(
        '[[engines]]\nname = "far"\nurl = "http://127.0.0.1:1/v1"\nprofile = "vllm"\nmodels = ["a"]\n'
        '[[engines]]\nname = "near"\ncommand = ["serve", "{port}"]\nmodels = ["b"]\n'
    )
    assert "engines   far (vllm), near (started by the first request)\n" in text(load(tmp_path))
    assert "engines" not in text(load(tmp_path / "elsewhere"))
