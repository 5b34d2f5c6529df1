"""Files that cannot be read, or not as UTF-8. The expected values were compared with wrangler 4.164's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.test_wrangler_config import Case, check
from wrangler_compat.config import read_project

JSON = '{"name": "w", "vars": {"A": "1"}}'
ENCODINGS: dict[str, Case] = {
    "configuration in UTF-16": Case(
        {"wrangler.json": JSON.encode("utf-16")}, {}, errors=("wrangler.json: UTF-16 text",)
    ),
    "configuration in UTF-32": Case({"wrangler.toml": b"\xff\xfe\x00\x00"}, {}, errors=("wrangler.toml: UTF-32 text",)),
    "configuration in Latin-1": Case(
        {"wrangler.toml": b'name = "w"\n# caf\xe9'}, {"name": "w"}, warnings=("wrangler.toml:2: not UTF-8",)
    ),
    "variables in UTF-16": Case({".env": "A=1".encode("utf-16")}, {"dev_vars": {}}, errors=(".env: UTF-16 text",)),
    "variables in Latin-1": Case(
        {".dev.vars": b"# caf\xe9\nA=1"}, {"dev_vars": {"A": "1"}}, warnings=(".dev.vars:1: not UTF-8",)
    ),
}


@pytest.mark.parametrize("case", ENCODINGS.values(), ids=ENCODINGS)
def test_text_is_utf_8_and_what_is_not_is_said(tmp_path: Path, case: Case) -> None:
    check(tmp_path, case)


ODD_PATHS = {
    "null character in the script": {"script": Path("a\0b/x.js")},
    "null character in the configuration": {"config": Path("a\0b.toml")},
    "null character in an environment": {"env": "a\0b"},
    "very long environment": {"env": "e" * 5000},
    "half a surrogate pair": {"env": "\ud800", "config": Path("\ud800.toml")},
    "null character in an environment file": {"env_files": [Path("a\0b")]},
}


@pytest.mark.parametrize("arguments", ODD_PATHS.values(), ids=ODD_PATHS)
def test_a_path_that_cannot_be_is_listed_and_not_raised(tmp_path: Path, arguments: dict[str, Any]) -> None:
    project = read_project(tmp_path, **arguments)
    assert project.errors


@pytest.mark.parametrize("name", [".dev.vars", ".env"])
def test_a_file_of_variables_that_cannot_be_read_is_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(name)  # to itself
    (error,) = read_project(tmp_path).errors
    assert error.startswith(f"{name}: cannot be read (")
