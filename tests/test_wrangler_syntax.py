"""The text of a configuration file. The expected values were compared with wrangler 4.164's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_wrangler_config import Case, check, config, write
from wrangler_compat.config import read_project

JSON = '{"name": "w", "vars": {"A": "1"}}'
SYNTAX: dict[str, Case] = {
    "comments": Case(
        {"wrangler.json": '// top\n{"name": /* in "between" */ "w", "vars": {"A": "// no /* comment */"}} // end'},
        {"name": "w", "vars": {"A": "// no /* comment */"}},
    ),
    "trailing commas": Case(
        {"wrangler.jsonc": '{"name": "w", "compatibility_flags": ["a", "b",], "vars": {"A": [1, 2,],},}'},
        {"compatibility_flags": ("a", "b"), "vars": {"A": [1, 2]}},
    ),
    "last of equal keys in JSON": Case({"wrangler.json": '{"name": "a", "name": "b"}'}, {"name": "b"}),
    "byte-order mark in JSON": Case({"wrangler.json": b"\xef\xbb\xbf" + JSON.encode()}, {"name": "w"}),
    "byte-order mark in TOML": Case({"wrangler.toml": b'\xef\xbb\xbfname = "w"'}, {"name": "w"}),
    "carriage returns": Case({"wrangler.toml": 'name = "w"\r\n[vars]\r\nA = "1"\r\n'}, {"vars": {"A": "1"}}),
    "escapes": Case(
        {"wrangler.json": r'{"vars": {"A": "\ud83d\ude00\u00e9\n\/\"\\ud83d", "B": "\ud800"}}'},
        {"vars": {"A": '\U0001f600é\n/"\\ud83d', "B": "\ufffd"}},
    ),
    "nothing is expanded in JSON": Case(
        {"wrangler.json": '{"vars": {"A": "${HOME}", "B": "$HOME"}}'},
        {"vars": {"A": "${HOME}", "B": "$HOME"}},
        {"environ": {"HOME": "/home/me"}},
    ),
    "nothing is expanded in TOML": Case(
        {"wrangler.toml": '[vars]\nA = "${HOME}"'}, {"vars": {"A": "${HOME}"}}, {"environ": {"HOME": "/home/me"}}
    ),
    "empty TOML": Case({"wrangler.toml": ""}, {"name": None, "vars": {}}),
    "empty JSON": Case({"wrangler.json": ""}, {"name": None}, errors=("wrangler.json: the file is empty",)),
    "only comments": Case({"wrangler.json": "// no\n"}, {}, errors=("wrangler.json: the file is empty",)),
    "an empty JSON file beats a TOML one": Case(
        {"wrangler.json": "", "wrangler.toml": 'name = "w"'}, {"name": None}, errors=("the file is empty",)
    ),
    "a key twice in TOML": Case(
        {"wrangler.toml": '[vars]\n\nA = "1"\nA = "2"'}, {}, errors=("wrangler.toml:4: Cannot overwrite a value",)
    ),
    "a table twice in TOML": Case(
        {"wrangler.toml": '[vars]\nA = "1"\n[vars]\n'}, {}, errors=("wrangler.toml:3: Cannot declare",)
    ),
    "broken TOML": Case({"wrangler.toml": 'name = "w"\nvars = {'}, {}, errors=("wrangler.toml:2: ",)),
    "an absurd number in TOML": Case({"wrangler.toml": f"a = {'9' * 5000}"}, {}, errors=("not valid TOML",)),
    "no object": Case({"wrangler.json": "[1]"}, {}, errors=("wrangler.json: must hold an object, not a list",)),
    "deep JSON": Case({"wrangler.json": '{"a": ' + "[" * 3000 + "]" * 3000 + "}"}, {}, errors=("nested too deeply",)),
    "deep TOML": Case({"wrangler.toml": "a = " + "[" * 3000 + "]" * 3000}, {}, errors=("nested too deeply",)),
}


@pytest.mark.parametrize("case", SYNTAX.values(), ids=SYNTAX)
def test_the_syntax_is_the_one_that_wrangler_reads(tmp_path: Path, case: Case) -> None:
    check(tmp_path, case)


def test_a_named_file_of_another_suffix_is_an_empty_configuration(tmp_path: Path) -> None:
    project = config(tmp_path, "not [ a : configuration", "wrangler.yaml", config=Path("wrangler.yaml"))
    assert project.config_path == tmp_path / "wrangler.yaml"
    assert (project.name, project.errors, project.warnings) == (None, (), ())


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"wrangler.toml": 'name = "w"'})
    project = read_project(tmp_path, config=Path("other.toml"))
    assert project.name is None
    assert project.errors == ("other.toml: cannot be read (No such file or directory)",)


def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "wrangler.toml").mkdir()
    (error,) = read_project(tmp_path, config=Path("wrangler.toml")).errors
    assert error.startswith("wrangler.toml: cannot be read (")
