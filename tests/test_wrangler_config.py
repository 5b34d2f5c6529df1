"""Small projects and what wrangler makes of them. The expected values were compared with wrangler 4.164's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from wrangler_compat.config import Project, read_project, relay_values

SECRET = "s3cr3t-value"


class Case(NamedTuple):
    """A project: its files, the arguments of `read_project`, and the attributes that the result must have."""

    files: Mapping[str, str | bytes]
    expected: dict[str, Any]
    arguments: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()
    """A part of each warning, in their order."""
    errors: tuple[str, ...] = ()


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def check(folder: Path, case: Case) -> Project:
    project = read_project(write(folder, case.files), **case.arguments)
    assert {name: getattr(project, name) for name in case.expected} == case.expected
    for found, wanted in ((project.errors, case.errors), (project.warnings, case.warnings)):
        assert len(found) == len(wanted), found
        for text, part in zip(found, wanted, strict=True):
            assert part in text
    return project


def config(folder: Path, text: str, name: str = "wrangler.jsonc", **arguments: Any) -> Project:
    return read_project(write(folder, {name: text}), **arguments)


def test_a_project_without_a_configuration_is_empty(tmp_path: Path) -> None:
    assert read_project(tmp_path) == Project(vars_origin="wrangler configuration vars")


# What the relay takes

ID, TOKEN = "CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN"
RELAY: dict[str, tuple[dict[str, str], dict[str, Any], dict[str, tuple[str, str]]]] = {
    "nothing": ({"wrangler.toml": 'name = "w"', ".env": "A=1\nCF_ACCOUNT_ID=x\nXRELAY_A=1"}, {}, {}),
    "account_id": ({"wrangler.jsonc": '{"account_id": "a"}'}, {}, {ID: ("a", "wrangler.jsonc")}),
    "account_id of a parent": ({"../wrangler.toml": 'account_id = "a"'}, {}, {ID: ("a", "../wrangler.toml")}),
    "vars of TOML": (
        {"wrangler.toml": '[vars]\nRELAY_STREAM = "native"'},
        {},
        {"RELAY_STREAM": ("native", "wrangler.toml [vars]")},
    ),
    "vars of JSON": (
        {"wrangler.json": '{"vars": {"RELAY_STREAM": "native"}}'},
        {},
        {"RELAY_STREAM": ("native", "wrangler.json vars")},
    ),
    "vars of an environment": (
        {"wrangler.toml": '[env.e.vars]\nRELAY_STREAM = "native"'},
        {"env": "e"},
        {"RELAY_STREAM": ("native", "wrangler.toml [env.e.vars]")},
    ),
    "vars over account_id": (
        {"wrangler.toml": f'account_id = "a"\n[vars]\n{ID} = "b"'},
        {},
        {ID: ("b", "wrangler.toml [vars]")},
    ),
    ".dev.vars over vars": (
        {"wrangler.toml": f'[vars]\n{ID} = "b"', ".dev.vars": f"{ID}=c"},
        {},
        {ID: ("c", ".dev.vars")},
    ),
    ".dev.vars of the environment": (
        {"wrangler.toml": "[env.e]", ".dev.vars.e": f"{TOKEN}=t"},
        {"env": "e"},
        {TOKEN: ("t", ".dev.vars.e")},
    ),
    "each .env file by its name": (
        {".env": f"{ID}=a\n{TOKEN}=t", ".env.local": f"{TOKEN}=u"},
        {},
        {ID: ("a", ".env"), TOKEN: ("u", ".env.local")},
    ),
    ".env of the working directory beside .dev.vars": (
        {"wrangler.toml": f'account_id = "a"\n[vars]\n{TOKEN} = "v"', ".dev.vars": "X=1", ".env": f"{ID}=c\n{TOKEN}=t"},
        {},
        {ID: ("c", ".env"), TOKEN: ("t", ".env")},
    ),
    ".dev.vars over .env of the working directory": (
        {".dev.vars": f"{TOKEN}=dev", ".env": f"{TOKEN}=tool"},
        {},
        {TOKEN: ("dev", ".dev.vars")},
    ),
    ".env of the project over that of the working directory": (
        {"../wrangler.toml": "", "../.env": f"{TOKEN}=project", ".env": f"{TOKEN}=tool"},
        {},
        {TOKEN: ("project", "../.env")},
    ),
    "the process is the caller's own": (
        {".env": f"{TOKEN}=t"},
        {"environ": {"CLOUDFLARE_INCLUDE_PROCESS_ENV": "true", ID: "process", TOKEN: "process", "RELAY_PORT": "1"}},
        {},
    ),
    "the tool's through the process": (
        {"../wrangler.toml": "", ".env": f"{TOKEN}=t\nCLOUDFLARE_INCLUDE_PROCESS_ENV=true"},
        {},
        {TOKEN: ("t", ".env"), "CLOUDFLARE_INCLUDE_PROCESS_ENV": ("true", ".env")},
    ),
    "a named file": (
        {"a.env": f"{TOKEN}=t", ".env": f"{TOKEN}=u"},
        {"env_files": [Path("a.env")]},
        {TOKEN: ("t", "a.env")},
    ),
    "empty text": ({".env": f"{TOKEN}="}, {}, {TOKEN: ("", ".env")}),
}


@pytest.mark.parametrize(("files", "arguments", "values"), RELAY.values(), ids=RELAY)
def test_the_relay_takes_its_own_names_and_says_where_they_stand(
    tmp_path: Path, files: dict[str, str], arguments: dict[str, Any], values: dict[str, tuple[str, str]]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    project = read_project(write(here, files), **arguments)
    found = {name: (value, origin.replace(os.sep, "/")) for name, (value, origin) in relay_values(project).items()}
    assert found == values
    assert (project.errors, project.warnings) == ((), ())


def test_values_that_are_no_text_are_not_taken(tmp_path: Path) -> None:
    project = config(
        tmp_path, '{"account_id": "a", "vars": {"RELAY_PORT": 8790, "CLOUDFLARE_ACCOUNT_ID": ["b"], "OTHER": 1}}'
    )
    assert relay_values(project) == {ID: ("a", "wrangler.jsonc")}
    assert project.warnings == (
        "RELAY_PORT in wrangler.jsonc vars is a number, not a string, and not used by the relay",
        "CLOUDFLARE_ACCOUNT_ID in wrangler.jsonc vars is a list, not a string, and not used by the relay",
    )


# The whole

PROJECT = """
name = "w"
account_id = "top"
vars = {A = "1", B = "2"}
[env.full]
name = "own"
account_id = "other"
compatibility_date = "2026-02-02"
compatibility_flags = []
vars = {A = "4", B = "5"}
ai = {binding = "MODELS"}
"""


def test_the_json_form_has_everything_but_the_variables_of_the_tool(tmp_path: Path) -> None:
    write(tmp_path, {"wrangler.toml": PROJECT, ".dev.vars": "S=1", ".env": "T=2"})
    assert read_project(tmp_path, env="full").to_json_dict() == {
        "config_path": "wrangler.toml",
        "name": "own",
        "account_id": "other",
        "compatibility_date": "2026-02-02",
        "compatibility_flags": [],
        "vars": {"A": "4", "B": "5"},
        "ai": {"binding": "MODELS"},
        "dev_vars": {"A": "4", "B": "5", "S": "1"},
        "warnings": [],
        "errors": [],
    }


LEAKS: dict[str, dict[str, str]] = {
    "types in JSON": {
        "wrangler.json": json.dumps(
            {key: {SECRET: SECRET} for key in ("name", "account_id", "compatibility_date", "compatibility_flags")}
            | {"vars": SECRET, "ai": SECRET, "secrets": SECRET, "env": SECRET, "dev": SECRET}
        )
    },
    "broken JSON": {"wrangler.json": f'{{"vars": {{"A": "{SECRET}" "{SECRET}"}}}}'},
    "bare value in JSON": {"wrangler.json": f'{{"vars": {{"A": {SECRET}}}}}'},
    "open string in JSON": {"wrangler.json": f'{{"vars": {{"A": "{SECRET}}}}}'},
    "bare value in TOML": {"wrangler.toml": f"[vars]\nA = {SECRET}"},
    "open string in TOML": {"wrangler.toml": f'[vars]\nA = "{SECRET}'},
    "value twice in TOML": {"wrangler.toml": f'[vars]\nA = "{SECRET}"\nA = "{SECRET}"'},
    "relay names": {"wrangler.json": json.dumps({"vars": {"RELAY_TOKENS": [SECRET]}})},
    "a binding called binding": {
        "wrangler.json": json.dumps({"vars": {"binding": SECRET, "A": SECRET}, "ai": {"binding": "A"}})
    },
    "switches": {".env": f"CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV={SECRET}"},
    "endless references": {".env": f"A={SECRET}\\$A\nB=x$A"},
    "plain": {"wrangler.json": json.dumps({"vars": {"A": SECRET}}), ".dev.vars": f"B={SECRET}", ".env": f"C={SECRET}"},
}


@pytest.mark.parametrize("files", LEAKS.values(), ids=LEAKS)
def test_no_value_reaches_a_message_or_the_printed_form(tmp_path: Path, files: dict[str, str]) -> None:
    project = read_project(write(tmp_path, files))
    for text in (*project.errors, *project.warnings, repr(project)):
        assert SECRET not in text
