"""`relay models`: the list that the relay knows, and its refresh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from adapters.catalogue import load_snapshot
from proxy.cli import cli
from proxy.stored_catalogue import catalogue_file, read_catalogue
from tests.support.canned_http import Asked, Canned, as_json, serving

NEW = "@cf/example/new-model"
TASK = {"id": "x", "name": "Text Generation"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


def models(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(cli, ["models", *words], env=environ)


def listed(*words: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(models(*words, "--json").stdout)["models"]
    return rows


@pytest.mark.parametrize("words", [[], ["list"]], ids=["by default", "by name"])
def test_the_list_is_what_is_not_retired(words: list[str]) -> None:
    rows = listed(*words)
    assert {row["id"] for row in rows} == {model.id for model in load_snapshot() if not model.is_retired}
    printed = models(*words).stdout
    assert all(row["id"] in printed for row in rows)


def test_all_includes_what_is_retired() -> None:
    assert len(listed("--all")) == len(load_snapshot())


@pytest.mark.parametrize("task", ["Text Generation", "text-generation"])
def test_the_list_of_one_task(task: str) -> None:
    rows = listed("--task", task)
    assert {row["task"] for row in rows} == {"Text Generation"}


def test_the_text_list_ends_with_the_aliases(folder: Path) -> None:
    assert "aliases:" not in models().stdout
    (folder / "relay.toml").write_text('[aliases]\n"gpt-4o" = "@cf/a/b"\nsmall = "gpt-4o"\n')
    assert models().stdout.endswith("aliases:\n  gpt-4o -> @cf/a/b\n  small -> gpt-4o\n")


def test_models_that_only_engines_have_are_listed(folder: Path) -> None:
    (folder / "relay.toml").write_text(
        '[[engines]]\nname = "box"\nurl = "http://127.0.0.1:8000"\nmodels = ["my-own", "llama-3.2-1b-instruct"]\n'
    )
    own = {row["id"]: row for row in listed()}.keys() - {model.id for model in load_snapshot()}
    assert own == {"my-own"}


def test_help_names_the_options_of_the_default() -> None:
    printed = " ".join(models("--help").stdout.split())
    assert "the options of `list` (--json, --task TASK, --all, --local) work without naming it" in printed


def test_an_unknown_task_is_wrong_usage_and_the_tasks_are_named() -> None:
    result = models("--task", "Cooking")
    assert result.exit_code == 2
    assert "Text Generation" in result.stderr


def test_a_stored_list_that_cannot_be_read_is_a_warning(folder: Path) -> None:
    (folder / "state").mkdir()
    catalogue_file(folder / "state").write_bytes(b"{")
    result = models("--json")
    assert result.exit_code == 0
    assert "relay models refresh" in result.stderr
    assert len(json.loads(result.stdout)["models"]) > 10


def refresh(pages: list[Canned]) -> tuple[Result, list[Asked]]:
    def answer(asked: Asked) -> Canned:
        page = int(asked.path.rpartition("page=")[2])
        return pages[min(page, len(pages)) - 1]

    with serving(answer) as server:
        result = models(
            "refresh",
            CLOUDFLARE_ACCOUNT_ID="acc",
            CLOUDFLARE_API_TOKEN="cfut_0123456789",
            CLOUDFLARE_API_BASE_URL=f"{server.url}/client/v4",
        )
    assert "cfut_" not in result.output
    return result, server.asked


def page(*names: str) -> Canned:
    rows = [{"name": name, "task": TASK, "properties": []} for name in names]
    return as_json(200, {"result": rows, "success": True, "errors": [], "messages": []})


def test_a_refresh_stores_what_the_account_lists(folder: Path) -> None:
    result, asked = refresh([page(NEW, "@cf/meta/llama-3.2-1b-instruct"), page()])
    assert result.exit_code == 0, result.output
    assert "2 models listed by the account, 1 of them new" in result.stdout
    assert asked[0].path.startswith("/client/v4/accounts/acc/ai/models/search?")
    assert len(asked) == 2
    assert read_catalogue(folder / "state").get(NEW) is not None
    assert [file.name for file in (folder / "state").iterdir()] == ["catalogue.json"]
    assert NEW in {row["id"] for row in listed()}


FAILURES = {
    "refused": (
        [as_json(403, {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]})],
        "Auth",
    ),
    "empty": ([page()], "lists no models"),
    "not JSON": ([Canned(200, b"<html>")], "not JSON"),
}


@pytest.mark.parametrize(("pages", "text"), FAILURES.values(), ids=FAILURES)
def test_a_refresh_that_fails_leaves_the_list_as_it_is(folder: Path, pages: list[Canned], text: str) -> None:
    result, _ = refresh(pages)
    assert result.exit_code == 1
    assert text in result.stderr
    assert not (folder / "state").exists()


def test_a_refresh_needs_credentials() -> None:
    result = models("refresh")
    assert result.exit_code == 1
    assert "CLOUDFLARE_API_TOKEN" in result.stderr
