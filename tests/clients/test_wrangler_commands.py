"""`wrangler ai ...` and `wrangler whoami`, which print what Cloudflare's API tells them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import Relay
from tests.clients.processes import finished
from tests.clients.surroundings import Surroundings, pointed, wrangler
from tests.support.relay import KEY, MODEL

LATEST, OLDER = "wrangler", "wrangler-4-35"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


class Shell:
    """Runs wrangler in an empty folder, pointed at the relay."""

    def __init__(self, relay: Relay, surroundings: Surroundings, folder: Path) -> None:
        self._relay = relay
        self._surroundings = surroundings
        self._folder = folder

    def run(self, package: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        env = self._surroundings.environ(**{**pointed(self._relay.url), **environ})
        return finished(wrangler(package, *words), cwd=self._folder, env=env)

    def read(self, package: str, *words: str) -> object:
        """What a command prints as JSON."""
        done = self.run(package, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        document: object = json.loads(done.stdout)
        return document


@pytest.fixture
def shell(relay: Relay, surroundings: Surroundings, tmp_path: Path) -> Shell:
    return Shell(relay, surroundings, tmp_path)


@pytest.mark.parametrize(("package", "words"), [(LATEST, ["ai", "models", "list"]), (OLDER, ["ai", "models"])])
def test_all_models_are_listed_once(shell: Shell, package: str, words: list[str]) -> None:
    models = shell.read(package, *words, "--json")
    assert isinstance(models, list)
    names = [model["name"] for model in models]
    assert MODEL in names and len(names) > 50, "more than a page"
    assert len(set(names)) == len(names)


def test_models_are_found_by_task_and_name(shell: Shell) -> None:
    words = ["ai", "models", "list", "--task", "Text Embeddings", "--search", "bge", "--json"]
    models = shell.read(LATEST, *words)
    assert isinstance(models, list) and models
    assert all("bge" in model["name"] and model["task"]["name"] == "Text Embeddings" for model in models)


@pytest.mark.parametrize("package", [LATEST, OLDER])
def test_models_are_shown_in_a_table(shell: Shell, package: str) -> None:
    done = shell.run(package, "ai", "models", *(["list"] if package == LATEST else []))
    assert done.returncode == 0 and MODEL in done.stdout


def test_the_schema_of_a_model_is_shown(shell: Shell) -> None:
    schema = shell.read(LATEST, "ai", "models", "schema", MODEL)
    assert isinstance(schema, dict)
    assert "messages" in json.dumps(schema["input"]) and schema["output"]


def test_the_schema_of_no_model_is_an_error(shell: Shell) -> None:
    done = shell.run(LATEST, "ai", "models", "schema", "@cf/example/no-such-model")
    assert done.returncode == 1 and "5007" in done.stdout + done.stderr


def test_a_finetune_is_made_and_listed(shell: Shell, folder: Path) -> None:
    adapter = folder / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"model_type": "llama", "r": 8}))
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (adapter / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    made = shell.run(LATEST, "ai", "finetune", "create", "@cf/meta-llama/llama-2-7b-chat-hf-lora", "mine", str(adapter))
    assert made.returncode == 0, made.stdout + made.stderr
    listed = shell.read(LATEST, "ai", "finetune", "list", "--json")
    assert isinstance(listed, list)
    assert [row["name"] for row in listed] == ["mine"]


@pytest.mark.parametrize("package", [LATEST, OLDER])
def test_the_caller_is_known(shell: Shell, package: str) -> None:
    done = shell.run(package, "whoami")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "API Token" in done.stdout and "local" in done.stdout


@pytest.mark.parametrize("key", ["CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"])
def test_a_wrong_key_is_refused(shell: Shell, key: str) -> None:
    environ = {key: "wrong"} if key == "CLOUDFLARE_API_TOKEN" else {key: "wrong", "CLOUDFLARE_EMAIL": "a@example.com"}
    done = shell.run(LATEST, "ai", "finetune", "list", **environ)
    assert done.returncode == 1
    assert "Authentication error" in done.stdout + done.stderr


def test_a_key_with_an_address_is_taken(shell: Shell) -> None:
    environ = {"CLOUDFLARE_API_KEY": KEY, "CLOUDFLARE_EMAIL": "a@example.com", "CLOUDFLARE_API_TOKEN": "wrong"}
    assert shell.run(LATEST, "ai", "models", "list", "--search", "bge", **environ).returncode == 0


def test_deploying_to_the_relay_fails_clearly(shell: Shell, folder: Path) -> None:
    (folder / "w.js").write_text("export default {}")
    words = ["deploy", "w.js", "--name", "w", "--compatibility-date", "2025-01-01"]
    done = shell.run(LATEST, *words)
    assert done.returncode == 1 and "7003" in done.stdout + done.stderr
