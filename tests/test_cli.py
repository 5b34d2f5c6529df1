"""`proxy.cli` and the commands that ask nobody: `config`, `token`, `serve`, `completion`."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from proxy.cli import COMMANDS, cli
from proxy.setting_table import SETTINGS
from proxy.settings import Settings
from proxy.sources import SourceOptions

SECRET = "cfut_0123456789abcdef"
CREDENTIALS = {"CLOUDFLARE_ACCOUNT_ID": "acc", "CLOUDFLARE_API_TOKEN": SECRET}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with its state below."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


def relay(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(cli, words, env=environ, prog_name="relay")


def test_help_lists_every_command_and_loads_none() -> None:
    loaded = "[name for name in sys.modules if name.startswith('proxy.')]"
    code = f"import sys\nfrom proxy.cli import cli\ntry: cli(['--help'])\nfinally: print({loaded})"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"  {name} " in printed for name in COMMANDS)
    assert printed.splitlines()[-1] == "['proxy.cli']"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_agrees_with_the_list(name: str) -> None:
    command = importlib.import_module(f"proxy.commands.{name}").command
    assert isinstance(command, click.Command)
    assert command.short_help == COMMANDS[name]
    result = relay(name, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: relay {name}")


def test_the_version_is_one_line() -> None:
    result = relay("--version")
    assert result.exit_code == 0
    assert result.output.startswith("relay ")


@pytest.mark.parametrize("words", [["nonsense"], ["config", "--nonsense"], ["completion", "tcsh"]], ids=" ".join)
def test_wrong_usage_is_status_2(words: list[str]) -> None:
    assert relay(*words).exit_code == 2


def test_config_shows_every_setting_and_its_origin_and_no_secret(folder: Path) -> None:
    (folder / "relay.toml").write_text('port = 9000\n[aliases]\nx = "@cf/a/b"\n[models."@cf/a/b"]\nstream = "native"\n')
    result = relay("config", RELAY_TOKENS="one-token,two", **CREDENTIALS)
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines()[1:]}
    assert set(rows) >= {setting.env for setting in SETTINGS}
    assert rows["RELAY_PORT"][1:] == ["9000", "relay.toml"]
    assert rows["RELAY_TOKENS"][1:] == ["***,", "***", "environment"]
    assert rows['aliases."x"'][1:] == ["@cf/a/b", "relay.toml"]
    assert rows['models."@cf/a/b".stream'][1:] == ["native", "relay.toml"]
    assert SECRET not in result.output
    assert "one-token" not in result.output


ENGINES = """
[models."@cf/a/b"]
candidates = ["cloudflare", "glm:own"]
share = { cloudflare = 3, glm = 1 }
[models.small]
policy = "cheapest"
handover_after = 20
[[engines]]
name = "glm"
command = "serve --port {port} --api-key cfut_0123456789abcdef"
environment = { HF_TOKEN = "cfut_0123456789abcdef" }
api_key_env = "CLOUDFLARE_API_TOKEN"
models = { small = "own" }
trust_remote_code = true
"""


def test_config_shows_engines_and_candidates_and_no_secret(folder: Path) -> None:
    (folder / "relay.toml").write_text(ENGINES)
    result = relay("config", **CREDENTIALS)
    assert result.exit_code == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in result.stdout.splitlines()[1:]}
    found = {name: value for name, value in rows.items() if name.startswith(("models.", "engines."))}
    assert found == {
        'models."@cf/a/b".candidates': "cloudflare, glm:own relay.toml",
        'models."@cf/a/b".policy': "share relay.toml",
        'models."@cf/a/b".share': "cloudflare = 3.0, glm = 1.0 relay.toml",
        'models."small".policy': "cheapest relay.toml",
        'models."small".handover_after': "20.0 relay.toml",
        'engines."glm".command': "serve --port '{port}' --api-key '***' relay.toml",
        'engines."glm".environment': "HF_TOKEN = *** relay.toml",
        'engines."glm".api_key': "*** relay.toml",
        'engines."glm".profile': "openai relay.toml",
        'engines."glm".models': "small = own relay.toml",
        'engines."glm".keep_alive': "300.0 relay.toml",
        'engines."glm".trust_remote_code': "true relay.toml",
    }
    document = json.loads(relay("config", "--json", **CREDENTIALS).stdout)
    assert document["engines"][0]["name"] == "glm"
    assert document["models"]["@cf/a/b"]["candidates"] == ["cloudflare", "glm:own"]
    assert SECRET not in result.output + json.dumps(document)


def test_config_as_json(folder: Path) -> None:
    document = json.loads(relay("config", "--json", RELAY_STRICT="1", **CREDENTIALS).stdout)
    assert document["upstream"] == "cloudflare"
    assert document["settings"]["RELAY_STRICT"] == {"value": True, "origin": "environment"}
    assert document["settings"]["CLOUDFLARE_API_TOKEN"] == {"value": "***", "origin": "environment"}
    assert document["settings"]["RELAY_STATE_DIR"]["value"] == str(folder / "state")
    assert set(document["settings"]) == {setting.env for setting in SETTINGS}


@pytest.mark.parametrize("command", ["serve", "chat", "models"])
def test_wrong_settings_are_all_listed_and_are_status_2(command: str) -> None:
    result = relay(command, RELAY_PORT="x", RELAY_STRICT="perhaps", RELAY_PROT="1")
    assert result.exit_code == 2
    assert "error: RELAY_PORT: expected" in result.stderr
    assert "error: RELAY_STRICT: expected" in result.stderr
    assert "warning: RELAY_PROT is no setting" in result.stderr
    assert result.stdout == ""


def test_config_shows_the_other_settings_beside_what_is_wrong() -> None:
    result = relay("config", RELAY_PORT="x", RELAY_RETRIES="7", RELAY_PROT="1", **CREDENTIALS)
    assert result.exit_code == 2
    rows = {line.split()[0]: line.rstrip().split(maxsplit=2)[1:] for line in result.stdout.splitlines()[1:]}
    assert rows["RELAY_RETRIES"] == ["7", "environment"]
    assert rows["RELAY_PORT"] == ["8790", "default: RELAY_PORT cannot be read"]
    assert "error: RELAY_PORT: expected" in result.stderr
    assert "warning: RELAY_PROT is no setting" in result.stderr
    assert SECRET not in result.output


def test_config_as_json_tells_what_is_wrong() -> None:
    result = relay("config", "--json", RELAY_PORT="x")
    document = json.loads(result.stdout)
    assert result.exit_code == 2
    assert document["problems"][0].startswith("RELAY_PORT: expected")
    assert "RELAY_RETRIES" in document["settings"]


def test_config_takes_the_flags_of_the_address(folder: Path) -> None:
    words = ["--host", "::1", "--port", "1", "--state-dir", "here"]
    settings = json.loads(relay("config", "--json", *words).stdout)["settings"]
    assert settings["RELAY_HOST"] == {"value": "::1", "origin": "flag --host"}
    assert settings["RELAY_PORT"] == {"value": 1, "origin": "flag --port"}
    assert settings["RELAY_STATE_DIR"]["value"] == str(folder / "here")


STATE_DIRS = {
    "environment": (["token"], {"RELAY_STATE_DIR": "file/x"}, "error: RELAY_STATE_DIR: expected a folder"),
    "flag": (["token", "--state-dir", "file"], {}, "error: --state-dir: expected a folder"),
}


@pytest.mark.parametrize(("words", "environ", "text"), STATE_DIRS.values(), ids=STATE_DIRS)
def test_a_state_folder_that_cannot_be_used_is_told_by_the_settings_name(
    folder: Path, words: list[str], environ: dict[str, str], text: str
) -> None:
    (folder / "file").write_text("")
    result = relay(*words, **environ)
    assert result.exit_code == 2
    assert result.stderr.startswith(text)


def test_token_makes_one_and_prints_it_ever_after(folder: Path) -> None:
    first, second = relay("token"), relay("token")
    assert first.stdout == second.stdout
    assert first.stdout == (folder / "state" / "token").read_text()


def test_token_prints_the_first_of_those_configured(folder: Path) -> None:
    assert relay("token", RELAY_TOKENS="one,two").stdout == "one\n"
    assert not (folder / "state").exists()


@pytest.mark.parametrize("name", ["CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN", "RELAY_PORT"])
def test_token_needs_none_of_the_other_settings(folder: Path, name: str) -> None:
    printed = relay("token").stdout
    assert printed and relay("token", **{name: "local"}).stdout == printed


def test_token_looks_where_it_is_told(folder: Path) -> None:
    other = folder / "other"
    assert relay("token", "--state-dir", str(other)).stdout == (other / "token").read_text()


def test_token_complains_if_others_can_read_it(folder: Path) -> None:
    relay("token")
    (folder / "state" / "token").chmod(0o644)
    result = relay("token")
    assert "chmod 600" in result.stderr
    assert result.stdout.startswith("sk-relay-")


def test_token_refuses_a_stored_one_that_is_too_short_for_the_network(folder: Path) -> None:
    (folder / "state").mkdir()
    (folder / "state" / "token").write_text("short\n")
    (folder / "state" / "token").chmod(0o600)
    assert relay("token").stdout == "short\n"
    result = relay("token", RELAY_HOST="0.0.0.0")
    assert result.exit_code == 2
    assert "at least 16 characters" in result.stderr


def test_serve_runs_the_server_with_the_settings_and_their_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Settings, SourceOptions]] = []

    def run(settings: Settings, options: SourceOptions) -> int:
        calls.append((settings, options))
        return 1

    monkeypatch.setattr("proxy.commands.serve.run", run)
    result = relay("serve", "--port", "0", "--no-strict", "--max-body", "8MB", RELAY_STRICT="1", RELAY_PORT="1")
    assert result.exit_code == 1
    settings, options = calls[0]
    assert (settings.port, settings.strict, settings.max_body) == (0, False, 8_000_000)
    assert options == SourceOptions(flags={"port": "0", "strict": False, "max_body": "8MB"})


def test_serve_tells_a_token_that_cannot_be_kept_without_a_traceback(folder: Path) -> None:
    (folder / "state").write_text("a file")
    result = relay("serve", "--port", "0")
    assert result.exit_code == 2
    assert "error:" in result.stderr
    assert not result.exception or isinstance(result.exception, SystemExit)


def test_serve_has_a_flag_for_every_setting_but_the_secrets() -> None:
    printed = relay("serve", "--help").output
    for setting in SETTINGS:
        assert (f"{setting.flag} " in printed or f"{setting.flag} /" in printed) != setting.secret, setting.env
        assert (f"[{setting.env}]" in " ".join(printed.split())) != setting.secret


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_this_command(shell: str) -> None:
    result = relay("completion", shell)
    assert result.exit_code == 0
    assert "_RELAY_COMPLETE" in result.stdout


COMPLETIONS = {
    "a command": ("relay tok", {"token"}),
    "a command below": ("relay models ", {"list", "refresh", "pull", "rm"}),
    "a flag of the default": ("relay models --js", {"--json"}),
    "a second flag of the default": ("relay models --json --al", {"--all"}),
    "a flag": ("relay chat --po", {"--port"}),
}


@pytest.mark.parametrize(("line", "found"), COMPLETIONS.values(), ids=COMPLETIONS)
def test_completion_completes_commands_and_flags(line: str, found: set[str]) -> None:
    place = str(len(line.split(" ")) - 1)
    environ = {**os.environ, "_RELAY_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": place}
    code = "from proxy.cli import main; main()"
    printed = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert {row.partition(",")[2] for row in printed.stdout.splitlines()} == found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_model_that_a_table_names_wrongly_is_a_wrong_setting(folder: Path, workers: str) -> None:
    (folder / "relay.toml").write_text('[models."nope"]\nstream = "native"\n')
    result = relay("serve", "--port", "0", "--workers", workers)
    assert result.exit_code == 2
    assert 'error: [models."nope"]: The model' in result.stderr
    assert "Traceback" not in result.output and "try " not in result.stdout
