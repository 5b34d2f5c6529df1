"""What `relay doctor` says of engines, none of which it starts."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from proxy.cli import cli
from tests.support.canned_http import Asked, Canned, as_json, serving

MACHINE = 16 * 10**9  # bytes
GONE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RELAY_PORT", "1")
    monkeypatch.setattr("proxy.commands.engine_diagnosis.machine_memory", lambda: MACHINE)
    return tmp_path


def examined(folder: Path, toml: str, *, name: str = "engine", **environ: str) -> tuple[list[dict[str, str]], int]:
    """The checks of this name, and the exit status."""
    (folder / "relay.toml").write_text(toml)
    result = CliRunner().invoke(cli, ["doctor", "--json"], env=environ)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    checks: list[dict[str, str]] = json.loads(result.stdout)["checks"]
    return [check for check in checks if check["name"] == name], result.exit_code


def engine(name: str = "gpu", **fields: object) -> str:
    lines = {"name": name, "models": ["m"], **fields}
    return "[[engines]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in lines.items())


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {json.dumps(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


COMMANDS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "all is here": ({"command": [sys.executable, "{port}"]}, "ok", f"gpu: {sys.executable} is here", ""),
    "found on the path": ({"command": "sh -c {port}"}, "ok", "gpu: sh is here; the first request starts it", ""),
    "found on a path of its own": (
        {"command": "serve-it {port}", "environment": {"PATH": "bin"}},
        "ok",
        "gpu: serve-it is here",
        "",
    ),
    "not found": ({"command": "no-such-server {port}"}, "failed", "gpu: its command 'no-such-server' is not", "PATH"),
    "a path to nothing": ({"command": "bin/nothing {port}"}, "failed", "bin/nothing is not there", "Install it"),
    "not executable": ({"command": "bin/plain {port}"}, "failed", "bin/plain cannot be executed", "chmod +x "),
    "in its own folder": ({"command": "./serve-it {port}", "directory": "bin"}, "ok", "gpu: ./serve-it is here", ""),
    "a model that is here": ({"command": "sh -m ./weights.gguf {port}"}, "ok", "sh is here", ""),
    "a model that is not": ({"command": "sh -m ./w.gguf {port}"}, "failed", "its model ", "Correct the path"),
    "a model behind a flag": ({"command": "sh --model=w.gguf {port}"}, "failed", "w.gguf is not there", "Correct"),
    "a model in a variable": (
        {"command": "sh {port}", "environment": {"MODEL": "/no/w.bin"}},
        "failed",
        "gpu: its model /no/w.bin is not there",
        "Correct the path",
    ),
    "a home folder": ({"command": "sh serve ~/m {port}"}, "failed", "~/m is not there", "No shell takes part"),
    "a name of the hub": ({"command": "sh serve org/model {port}"}, "ok", "sh is here", ""),
}


@pytest.mark.parametrize(("fields", "status", "text", "advice"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_is_looked_at_and_not_run(
    folder: Path, fields: dict[str, Any], status: str, text: str, advice: str
) -> None:
    (folder / "bin").mkdir()
    for name, mode in (("serve-it", 0o755), ("plain", 0o644)):
        (folder / "bin" / name).write_text("#!/bin/sh\ntouch ran\n")
        (folder / "bin" / name).chmod(mode)
    (folder / "weights.gguf").touch()
    checks, exit_status = examined(folder, engine(**fields))
    (check,) = checks
    assert (check["status"], exit_status) == (status, int(status == "failed")), check
    assert text in check["text"] and advice in check["advice"] and bool(advice) == bool(check["advice"])
    assert not (folder / "ran").exists()


MODELS = as_json(200, {"data": [{"id": "m"}, {"id": "x"}]})
READY = Canned(200, b"")
ANSWERS: dict[str, tuple[str, Canned, Canned, str, str, str]] = {
    "all is well": ("vllm", READY, MODELS, "ok", "answers; models: m, x", ""),
    "no list of models": ("openai", READY, Canned(404, b""), "ok", "it has no list of models", ""),
    "another model": ("vllm", READY, as_json(200, {"data": []}), "failed", "does not list m", "models = {"),
    "a wrong key": ("vllm", READY, Canned(401, b""), "failed", "refuses the key (401)", "api_key_env"),
    "no health": ("vllm", Canned(404, b""), MODELS, "failed", "answers 404 at /health", "ends in /v1"),
    "trouble": ("vllm", Canned(500, b""), MODELS, "failed", "answers 500 at /health", "its own log"),
    "loading": ("llama-server", Canned(503, b"Loading model"), MODELS, "warning", "is loading", "Try again"),
}


@pytest.mark.parametrize(("profile", "health", "models", "status", "text", "advice"), ANSWERS.values(), ids=ANSWERS)
def test_a_remote_engine_is_asked(
    folder: Path, profile: str, health: Canned, models: Canned, status: str, text: str, advice: str
) -> None:
    def answer(asked: Asked) -> Canned:
        canned = health if asked.path == "/health" else models
        return canned._replace(headers={**canned.headers, "content-length": str(len(canned.body))})

    with serving(answer) as server:
        checks, exit_status = examined(folder, engine(url=server.url, profile=profile))
    (check,) = checks
    assert (check["status"], exit_status) == (status, int(status == "failed")), check
    assert check["text"].startswith(f"gpu: {server.url}/v1 ") and text in check["text"] and advice in check["advice"]


def test_each_address_has_its_line(folder: Path) -> None:
    with serving(lambda asked: MODELS) as server:
        checks, exit_status = examined(folder, engine(url=[server.url, GONE]))
    assert [check["status"] for check in checks] == ["ok", "failed"] and exit_status == 1
    assert checks[1]["text"] == f"gpu: {GONE}/v1 cannot be reached (ConnectError)"
    assert "a firewall may stand between" in checks[1]["advice"]


@pytest.mark.parametrize(("profile", "status"), [("openai", "failed"), ("chatglm.cpp", "warning")])
def test_silence_is_waited_for_for_a_moment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, profile: str, status: str
) -> None:
    monkeypatch.setattr("proxy.commands.engine_diagnosis._PATIENCE", 0.3)
    hold = threading.Event()
    with serving(lambda asked: Canned(200, b"{", {"content-length": "2"}, hold)) as server:
        (check,) = examined(folder, engine(url=server.url, profile=profile, context_window=4096))[0]
        hold.set()
    assert check["status"] == status and "does not answer in time" in check["text"]


MEMORY: dict[str, tuple[dict[str, str], str, list[tuple[str, str]]]] = {
    "enough for all": ({"a": "2GB", "b": "3GB"}, "8GB", [("ok", "engines take 5.0 GB of 8.0 GB")]),
    "they take turns": ({"a": "6GB", "b": "7GB"}, "8GB", [("ok", "engines take 13.0 GB of 8.0 GB; they take turns")]),
    "more than there is": (
        {"a": "2GB"},
        "32GB",
        [("warning", "RELAY_ENGINES_MEMORY is 32.0 GB, this machine has 16.0 GB"), ("ok", "engines take 2.0 GB")],
    ),
    "one that is not counted": ({"a": "2GB", "b": ""}, "8GB", [("warning", "b: without memory in relay.toml")]),
    "larger than the machine": ({"a": "20GB"}, "", [("warning", "a takes 20.0 GB, this machine has 16.0 GB")]),
    "nothing to count": ({"a": "2GB"}, "", []),
}


@pytest.mark.parametrize(("sizes", "budget", "told"), MEMORY.values(), ids=MEMORY)
def test_memory_is_added_up(folder: Path, sizes: dict[str, str], budget: str, told: list[tuple[str, str]]) -> None:
    entries = [engine(name, command="sh {port}", **({"memory": size} if size else {})) for name, size in sizes.items()]
    environ = {"RELAY_ENGINES_MEMORY": budget} if budget else {}
    checks, exit_status = examined(folder, "".join(entries), name="memory", **environ)
    assert exit_status == 0
    assert len(checks) == len(told)
    for check, (status, text) in zip(checks, told, strict=True):
        assert check["status"] == status and check["text"].startswith(text), check


def test_without_engines_nothing_is_said_of_them(folder: Path) -> None:
    assert examined(folder, "") == ([], 0)
    assert examined(folder, "", name="memory", RELAY_ENGINES_MEMORY="1GB") == ([], 0)
    assert examined(folder, "", name="memory", RELAY_ENGINES_MEMORY="64GB")[0] == []
