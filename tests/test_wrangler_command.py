"""`relay wrangler show` and `relay wrangler init`."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli import cli
from tests.test_wrangler_config import write
from wrangler_compat.jsonc import parse_jsonc
from wrangler_compat.plugin_install import FOLDER

PLUGIN = {"plugin": {"package": "workers-ai-relay-miniflare", "name": "relay-ai"}}
SERVICE = {"binding": "AI", "service": "relay-ai", "dev": PLUGIN}
UNSAFE = {"name": "AI", "type": "relay-ai", "dev": PLUGIN}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wrangler(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(cli, ["wrangler", *words], env=environ, prog_name="relay")


# show


def test_show_prints_what_wrangler_makes_of_the_project(folder: Path) -> None:
    write(
        folder,
        {
            "wrangler.toml": 'name = "w"\ncompatibility_date = "2025-01-01"\n'
            '[env.staging]\nai = {binding = "AI"}\nx = 1',
            ".dev.vars": "A=1",
        },
    )
    result = wrangler("show", "--json", "--env", "staging")
    assert json.loads(result.stdout) == {
        "config_path": "wrangler.toml",
        "name": "w-staging",
        "account_id": None,
        "compatibility_date": "2025-01-01",
        "compatibility_flags": [],
        "vars": {},
        "ai": {"binding": "AI"},
        "dev_vars": {"A": "1"},
        "warnings": ['wrangler.toml: unexpected in "env.staging": "x"'],
        "errors": [],
    }
    assert result.exit_code == 0


def test_show_takes_wranglers_own_arguments(folder: Path) -> None:
    out = '{"configPath": "../../out.json"}'
    write(folder, {"a/wrangler.json": '{"name": "a"}', "b.toml": 'name = "b"', "wrangler.jsonc": "{}", "1": "A=1"})
    write(folder, {"2": "B=2", ".wrangler/deploy/config.json": out, "out.json": '{"name": "out"}'})

    def shown(*words: str) -> dict[str, object]:
        document: dict[str, object] = json.loads(wrangler("show", "--json", *words).stdout)
        return document

    assert shown("--script", "a/x.js")["name"] == "a"
    assert shown("--config", "b.toml")["name"] == "b"
    assert shown("--env-file", "1", "--env-file", "2")["dev_vars"] == {"A": "1", "B": "2"}
    assert shown("--redirect")["name"] == "out"


def test_show_prefers_env_to_the_environment_variable(folder: Path) -> None:
    write(folder, {"wrangler.toml": 'name = "w"\n[env.e]'})
    names = [
        json.loads(wrangler("show", "--json", *words, CLOUDFLARE_ENV="e").stdout)["name"]
        for words in ([], ["--env", ""])
    ]
    assert names == ["w-e", "w"]


def test_show_fails_where_wrangler_would(folder: Path) -> None:
    write(folder, {"wrangler.toml": "name = 1"})
    result = wrangler("show", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["errors"] == [
        'wrangler.toml: "name" must be lower-case letters, digits, - and _ and not begin with -'
    ]


def test_show_is_readable_without_json(folder: Path) -> None:
    write(
        folder,
        {"wrangler.toml": 'name = "w"\nfoo = 1\naccount_id = 5\n[vars]\nV = {k = 1}\nW = "x"', ".dev.vars": "W=secret"},
    )
    result = wrangler("show")
    rows = [re.split(r"\s{2,}", line.strip()) for line in result.stdout.splitlines()]
    assert rows == [
        ["value", "from"],
        ["config_path", "wrangler.toml"],
        ["name", "w"],
        ["account_id", "-"],
        ["compatibility_date", "-"],
        ["compatibility_flags", "-"],
        ["ai", "-"],
        ["dev_vars.V", '{"k": 1}', "wrangler.toml [vars]"],
        ["dev_vars.W", "secret", ".dev.vars"],
    ]
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["warning", "error"]
    assert result.exit_code == 1


# init


def installed(folder: Path, version: str | None) -> None:
    if version is not None:
        write(folder, {"node_modules/wrangler/package.json": json.dumps({"version": version})})


PROJECTS: dict[str, tuple[str, str, str | None, list[str], object]] = {
    "TOML": ("wrangler.toml", 'ai = {binding = "AI"} # c\n', "4.164.0", [], {"services": [SERVICE]}),
    "TOML without a last line feed": ("wrangler.toml", 'name = "w"', "4.102.0", [], {"services": [SERVICE]}),
    "TOML with CRLF": ("wrangler.toml", 'name = "w"\r\n', "5.0.0", [], {"services": [SERVICE]}),
    "TOML with the environment": (
        "wrangler.toml",
        'env.relay.vars = {A = "1"}\n[[env.relay.services]]\nbinding = "S"\nservice = "s"',
        None,
        [],
        {"vars": {"A": "1"}, "services": [{"binding": "S", "service": "s"}, SERVICE]},
    ),
    "TOML of older wranglers": ("wrangler.toml", "", "4.101.3", [], {"unsafe": {"bindings": [UNSAFE]}}),
    "JSON": ("wrangler.json", '{"name": "w"}', "4.164.0", [], {"services": [SERVICE]}),
    "JSON with a byte-order mark": ("wrangler.json", "\ufeff{}", "4.164.0", [], {"services": [SERVICE]}),
    "JSONC": (
        "wrangler.jsonc",
        '{\n\t// mine\n\t"name": "w",\n\t"ai": { "binding": "AI" }, // last\n\t/* end */\n}\n',
        "4.164.0",
        [],
        {"services": [SERVICE]},
    ),
    "JSONC with environments and CRLF": (
        "wrangler.jsonc",
        '{\r\n  "env": {\r\n    "a": {"x": [1, {"y": "}"}]}\r\n  }\r\n}\r\n',
        "4.164.0",
        [],
        {"services": [SERVICE]},
    ),
    "JSONC with the environment": (
        "wrangler.jsonc",
        '{"env": {"relay": {"vars": {"A": true}, "services": [{"binding": "S", "service": "s"},]}}}',
        "0.0.0-branch",
        [],
        {"vars": {"A": True}, "services": [{"binding": "S", "service": "s"}, SERVICE]},
    ),
    "JSONC of older wranglers": (
        "wrangler.jsonc",
        '{"env": {"relay": {"unsafe": {}}}}',
        "4.36.0",
        [],
        {"unsafe": {"bindings": [UNSAFE]}},
    ),
    "the form that is asked for": (
        "wrangler.jsonc",
        "{}",
        "4.164.0",
        ["--form", "unsafe"],
        {"unsafe": {"bindings": [UNSAFE]}},
    ),
    "the binding that the project uses": (
        "wrangler.jsonc",
        '{"ai": {"binding": "MODEL"}}',
        None,
        [],
        {"services": [{**SERVICE, "binding": "MODEL"}]},
    ),
    "the binding that is asked for": (
        "wrangler.jsonc",
        '{"ai": {"binding": "MODEL"}}',
        None,
        ["--binding", "AI"],
        {"services": [SERVICE]},
    ),
}


def read(file: Path) -> dict[str, object]:
    text = file.read_bytes().decode().removeprefix("\ufeff")
    raw = tomllib.loads(text) if file.suffix == ".toml" else parse_jsonc(text)
    assert isinstance(raw, dict)
    return raw


@pytest.mark.parametrize(("name", "text", "version", "words", "section"), PROJECTS.values(), ids=PROJECTS)
def test_init_writes_the_entry_and_nothing_else(
    folder: Path, name: str, text: str, version: str | None, words: list[str], section: object
) -> None:
    write(folder, {name: text})
    installed(folder, version)
    file = folder / name
    before = read(file)
    result = wrangler("init", "--write", *words)
    assert result.exit_code == 0, result.output
    after = read(file)
    assert after.pop("env") == {**before.pop("env", {}), "relay": section}  # type: ignore[dict-item]
    assert after == before
    changed = file.read_bytes().decode()
    for line in filter(None, re.split(r"[{}\[\],\r\n]+", text)):
        assert line.strip() in changed
    assert ("\r\n" in text) == ("\r\n" in changed)
    assert wrangler("init", "--write", *words).exit_code == 0
    assert file.read_bytes().decode() == changed, "a second run changes nothing"


def test_init_keeps_the_text_as_its_author_wrote_it(folder: Path) -> None:
    write(folder, {"wrangler.jsonc": '{\n\t// mine\n\t"name": "w" // last\n\t/* end */\n}\n'})
    assert wrangler("init", "--write").exit_code == 0
    assert (
        (folder / "wrangler.jsonc")
        .read_text()
        .startswith(
            '{\n\t// mine\n\t"name": "w", // last\n\t/* end */\n\t"env": {\n\t\t"relay": {\n\t\t\t"services": [\n'
        )
    )


@pytest.mark.parametrize("name", ["wrangler.toml", "wrangler.jsonc"])
@pytest.mark.parametrize("version", ["4.164.0", "4.42.0"])
def test_init_prints_what_it_would_write(folder: Path, name: str, version: str) -> None:
    write(folder, {name: "" if name.endswith("toml") else "{}"})
    installed(folder, version)
    before = (folder / name).read_bytes()
    printed = wrangler("init").stdout
    assert (folder / name).read_bytes() == before
    shown = printed.split("--write\n\n")[1].split("\n\n")[0]
    raw = tomllib.loads(shown) if name.endswith("toml") else parse_jsonc("{" + shown + "}")
    section = {"services": [SERVICE]} if version == "4.164.0" else {"unsafe": {"bindings": [UNSAFE]}}
    assert raw == {"env": {"relay": section}}


def test_init_puts_the_plugin_beside_the_configuration_and_renews_it(folder: Path) -> None:
    write(folder, {"wrangler.jsonc": "{}", "src/index.js": ""})
    assert f"{FOLDER}/: written" in wrangler("init", "src").stdout
    assert json.loads((folder / FOLDER / "package.json").read_text())["main"] == "workers-ai-relay-miniflare.cjs"
    assert f"{FOLDER}/: up to date" in wrangler("init").stdout
    script = folder / FOLDER / "workers-ai-relay-miniflare.cjs"
    wanted = script.read_text()
    script.write_text("old")
    assert f"{FOLDER}/: written" in wrangler("init").stdout
    assert script.read_text() == wanted


@pytest.mark.parametrize("content", [None, "[]", '{"name": "other"}'])
def test_init_leaves_a_folder_of_the_users_alone(folder: Path, content: str | None) -> None:
    write(folder, {"wrangler.jsonc": "{}", f"{FOLDER}/x": "mine"})
    if content is not None:
        write(folder, {f"{FOLDER}/package.json": content})
    result = wrangler("init", "--write")
    assert (result.exit_code, read(folder / "wrangler.jsonc")) == (1, {})
    assert "is not the relay's plugin" in result.stderr


def test_init_needs_no_plugin_where_wrangler_forwards_ai_itself(folder: Path) -> None:
    write(folder, {"wrangler.jsonc": "{}"})
    installed(folder, "4.35.0")
    result = wrangler("init", "--write")
    assert result.exit_code == 0
    assert "CLOUDFLARE_API_BASE_URL=" in result.stdout
    assert (read(folder / "wrangler.jsonc"), (folder / FOLDER).exists()) == ({}, False)


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 4}'])
def test_init_takes_an_unreadable_wrangler_for_none(folder: Path, content: str) -> None:
    write(folder, {"wrangler.jsonc": "{}", "node_modules/wrangler/package.json": content})
    assert "the newest is assumed" in wrangler("init").stdout


LOCKS = {
    "package-lock.json": "npm install --save-dev ./relay-miniflare",
    "pnpm-lock.yaml": "pnpm add -D ./relay-miniflare",
    "yarn.lock": "yarn add -D file:./relay-miniflare",
    "bun.lock": "bun add -d ./relay-miniflare",
}


@pytest.mark.parametrize(("lock", "command"), LOCKS.items(), ids=LOCKS)
def test_init_names_the_projects_package_manager(folder: Path, lock: str, command: str) -> None:
    write(folder, {"app/wrangler.jsonc": "{}", lock: ""})
    assert command in wrangler("init", "app").stdout


def test_init_says_what_the_environment_lacks(folder: Path) -> None:
    write(folder, {"wrangler.jsonc": '{"vars": {"A": 1}, "kv_namespaces": [], "main": "x", "ai": {"binding": "AI"}}'})
    assert "'relay' does not inherit vars, kv_namespaces" in wrangler("init").stdout


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("wrangler.toml", 'env = {a = {name = "x"}}\n', "leaves no place"),
        ("wrangler.toml", "[env.relay]\nservices = []\n", "leaves no place"),
        ("wrangler.jsonc", '{"env": 1}', '"env" in it is no object'),
        ("wrangler.jsonc", '{"env": {"relay": {"services": {}}}}', "is no list"),
        ("wrangler.jsonc", '{"env": {"relay": {"ai": {"binding": "AI"}}}}', 'already has a binding called "AI"'),
    ],
)
def test_init_leaves_a_configuration_alone_that_it_cannot_extend(folder: Path, name: str, text: str, why: str) -> None:
    write(folder, {name: text})
    result = wrangler("init", "--write")
    assert (result.exit_code, (folder / name).read_text()) == (1, text)
    assert why in result.stderr and "relay-ai" in result.stderr


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "no wrangler.json"),
        ({"wrangler.toml": "["}, "wrangler.toml:1: "),
        ({"wrangler.jsonc": b'{"a": "\xff"}'}, "not UTF-8"),
    ],
)
def test_init_needs_a_configuration_that_it_can_read(folder: Path, files: dict[str, str | bytes], why: str) -> None:
    write(folder, files)
    result = wrangler("init")
    assert (result.exit_code, (folder / FOLDER).exists()) == (1, False)
    assert why in result.stderr


@pytest.mark.parametrize("words", [["--env-name", "a b"], ["--binding", "1x"], ["--form", "x"], ["nowhere"]])
def test_init_refuses_wrong_words(folder: Path, words: list[str]) -> None:
    assert wrangler("init", *words).exit_code == 2


@pytest.mark.parametrize("what", ["folder", "configuration"])
def test_init_says_what_it_cannot_write(folder: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"wrangler.jsonc": "{}"})

    def refuse(path: Path, _: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    if what == "configuration":
        assert wrangler("init").exit_code == 0
    monkeypatch.setattr(Path, "write_bytes", refuse)
    result = wrangler("init", "--write")
    assert (result.exit_code, read(folder / "wrangler.jsonc")) == (1, {})
    assert "cannot be written (Permission denied)" in result.stderr
