"""Small projects and what wrangler makes of them. The expected values were compared with wrangler 4.164's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from wrangler_compat.config import Project, read_project, relay_values
from wrangler_compat.jsonc import JsoncError, parse_jsonc

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


# 1. Which file

SEARCH: dict[str, tuple[tuple[str, ...], dict[str, Any], str | None]] = {
    "JSON first": (("wrangler.json", "wrangler.jsonc", "wrangler.toml"), {}, "wrangler.json"),
    "then JSON with comments": (("wrangler.jsonc", "wrangler.toml"), {}, "wrangler.jsonc"),
    "then TOML": (("wrangler.toml",), {}, "wrangler.toml"),
    "a parent": (("../wrangler.toml",), {}, "../wrangler.toml"),
    "the nearest": (("wrangler.toml", "../wrangler.toml"), {}, "wrangler.toml"),
    "a parent's JSON beats the TOML here": (("../../wrangler.json", "wrangler.toml"), {}, "../../wrangler.json"),
    "a parent's JSONC beats the TOML here": (("../wrangler.jsonc", "wrangler.toml"), {}, "../wrangler.jsonc"),
    "a child's does not count": (("child/wrangler.toml",), {}, None),
    "a folder of that name is passed by": (("wrangler.json/x", "wrangler.toml"), {}, "wrangler.toml"),
    "beside the script": (
        ("sub/wrangler.toml", "wrangler.toml"),
        {"script": Path("sub/index.js")},
        "sub/wrangler.toml",
    ),
    "above the script": (("wrangler.toml",), {"script": Path("sub/deep/index.js")}, "wrangler.toml"),
    "the script elsewhere": (("../wrangler.toml", "wrangler.toml"), {"script": Path("../x.js")}, "../wrangler.toml"),
    "named": (("other.toml", "wrangler.json"), {"config": Path("other.toml")}, "other.toml"),
    "named, over the script": (
        ("sub/wrangler.toml", "wrangler.toml"),
        {"config": Path("wrangler.toml"), "script": Path("sub/index.js")},
        "wrangler.toml",
    ),
}


@pytest.mark.parametrize(("files", "arguments", "found"), SEARCH.values(), ids=SEARCH)
def test_the_configuration_is_found_where_wrangler_looks(
    tmp_path: Path, files: tuple[str, ...], arguments: dict[str, Any], found: str | None
) -> None:
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    for name in files:
        # A name that only this file has proves which one was read.
        tag = "w" + "".join(character for character in name if character.islower())
        write(here, {name: f'name = "{tag}"' if name.endswith("toml") else f'{{"name": "{tag}"}}'})
    project = read_project(here, **arguments)
    assert project.shown_path == (os.path.join(*found.split("/")) if found else None)
    assert project.name == ("w" + "".join(character for character in found if character.islower()) if found else None)
    assert project.config_path is None or os.path.samefile(project.config_path, here / str(found))


def test_a_project_without_a_configuration_is_empty(tmp_path: Path) -> None:
    assert read_project(tmp_path) == Project(vars_origin="wrangler configuration vars")


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


def test_the_search_ends_where_it_cannot_look(tmp_path: Path) -> None:
    here = tmp_path / "project"
    here.mkdir()
    write(tmp_path, {"wrangler.json": '{"name": "a-stranger"}'})
    (here / "wrangler.json").symlink_to("wrangler.json")  # to itself
    project = read_project(here)
    assert project.config_path is None
    (error,) = project.errors
    assert error.startswith("wrangler.json: cannot be read (")


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


# 2. Syntax

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
    "UTF-16": Case({"wrangler.json": JSON.encode("utf-16")}, {}, errors=("wrangler.json: UTF-16 text",)),
    "UTF-32": Case({"wrangler.toml": b"\xff\xfe\x00\x00"}, {}, errors=("wrangler.toml: UTF-32 text",)),
    "Latin-1": Case(
        {"wrangler.toml": b'name = "w"\n# caf\xe9'}, {"name": "w"}, warnings=("wrangler.toml:2: not UTF-8",)
    ),
}


@pytest.mark.parametrize("case", SYNTAX.values(), ids=SYNTAX)
def test_the_syntax_is_the_one_that_wrangler_reads(tmp_path: Path, case: Case) -> None:
    check(tmp_path, case)


JSON_VALUES: dict[str, tuple[str, object]] = {
    "literals": ("[true, false, null]", [True, False, None]),
    "numbers": ("[0, -0, -1.5, 1e3, 1E-2, 12]", [0, 0, -1.5, 1000.0, 0.01, 12]),
    "numbers beyond a double's precision": ("[9007199254740993, 9007199254740991]", [2.0**53, 9007199254740991]),
    "line separators": ('"a\u2028b" // c\u2028d', "a\u2028b"),
    "empty": ("{}", {}),
    "comment at the end of the file": ("1 //", 1),
}


@pytest.mark.parametrize(("text", "value"), JSON_VALUES.values(), ids=JSON_VALUES)
def test_json_with_comments(text: str, value: object) -> None:
    assert parse_jsonc(text) == value


# What json5 would take, and JSON with comments does not.
REFUSED_JSON: dict[str, tuple[str, int | None]] = {
    "single quotes": ("{'a': 1}", 1),
    "bare key": ("{\n a: 1}", 2),
    "not a number": ('{"a":\n\nNaN}', 3),
    "infinity": ("[Infinity]", 1),
    "hexadecimal": ("[0x10]", 1),
    "plus sign": ("[+1]", 1),
    "leading point": ("[.5]", 1),
    "trailing point": ("[5.]", 1),
    "leading zero": ("[01]", 1),
    "line continuation": ('"a\\\nb"', 1),
    "short escape": ('"\\x41"', 1),
    "tab in a string": ('"a\tb"', 1),
    "vertical tab": ("{\v}", 1),
    "byte-order mark inside": ("{\ufeff}", 1),
    "open comment": ("{} \n/* x", 2),
    "open string": ('{"a', 1),
    "open object": ('{"a": 1\n', 2),
    "only a comma": ("[,]", 1),
    "two commas": ("[1,,]", 1),
    "missing comma": ('{"a": 1\n"b": 2}', 2),
    "two values": ("{} {}", 1),
    "blank": (" \n", None),
}


@pytest.mark.parametrize(("text", "line"), REFUSED_JSON.values(), ids=REFUSED_JSON)
def test_what_is_not_json_is_refused_with_its_line(text: str, line: int | None) -> None:
    with pytest.raises(JsoncError) as caught:
        parse_jsonc(text)
    assert caught.value.line == line


# 3. Environments

TWO = """
name = "w"
account_id = "top"
compatibility_date = "2025-01-01"
compatibility_flags = ["nodejs_compat"]
[vars]
A = "1"
B = "2"
[ai]
binding = "AI"
[env.staging]
[env.staging.vars]
A = "3"
[env.full]
name = "own"
account_id = "other"
compatibility_date = "2026-02-02"
compatibility_flags = []
vars = {A = "4", B = "5"}
ai = {binding = "MODELS"}
"""
LACKING = (
    '"ai" is set at the top level, but not in "env.staging"',
    '"env.staging.vars" does not inherit these of the top level: "B"',
)
TOP = {"name": "w", "account_id": "top", "vars": {"A": "1", "B": "2"}, "ai": {"binding": "AI"}}
STAGING = {"name": "w-staging", "account_id": "top", "vars": {"A": "3"}, "ai": None}
FULL = {
    "name": "own",
    "account_id": "other",
    "compatibility_date": "2026-02-02",
    "compatibility_flags": (),
    "vars": {"A": "4", "B": "5"},
    "ai": {"binding": "MODELS"},
}
ENVIRONMENTS: dict[str, Case] = {
    "none is picked": Case({"wrangler.toml": TWO}, TOP),
    "inherited and not": Case({"wrangler.toml": TWO}, STAGING, {"env": "staging"}, warnings=LACKING),
    "date and flags are inherited": Case(
        {"wrangler.toml": TWO},
        {"compatibility_date": "2025-01-01", "compatibility_flags": ("nodejs_compat",)},
        {"env": "staging"},
        warnings=LACKING,
    ),
    "own values": Case({"wrangler.toml": TWO}, FULL, {"env": "full"}),
    "from the process": Case(
        {"wrangler.toml": TWO}, STAGING, {"environ": {"CLOUDFLARE_ENV": "staging"}}, warnings=LACKING
    ),
    "from .env": Case({"wrangler.toml": TWO, ".env": "CLOUDFLARE_ENV=staging"}, STAGING, warnings=LACKING),
    "the process over .env": Case(
        {"wrangler.toml": TWO, ".env": "CLOUDFLARE_ENV=staging"}, FULL, {"environ": {"CLOUDFLARE_ENV": "full"}}
    ),
    "the argument over the process": Case(
        {"wrangler.toml": TWO}, FULL, {"env": "full", "environ": {"CLOUDFLARE_ENV": "staging"}}
    ),
    "an empty argument is the top level": Case(
        {"wrangler.toml": TWO}, TOP, {"env": "", "environ": {"CLOUDFLARE_ENV": "staging"}}
    ),
    "an empty variable is the top level": Case({"wrangler.toml": TWO}, TOP, {"environ": {"CLOUDFLARE_ENV": ""}}),
    "missing, with others": Case(
        {"wrangler.toml": TWO},
        {"name": "w-nope", "vars": {"A": "1", "B": "2"}, "ai": {"binding": "AI"}},
        {"env": "nope"},
        errors=('wrangler.toml: there is no environment "nope"; it has "staging", "full"',),
    ),
    "missing, without others": Case(
        {"wrangler.toml": 'name = "w"\nvars = {A = "1"}\nai = {binding = "AI"}'},
        {"name": "w-nope", "vars": {"A": "1"}, "ai": {"binding": "AI"}},
        {"env": "nope"},
        warnings=('there is no environment "nope"; the top level is used',),
    ),
    "missing, with an empty list of them": Case(
        {"wrangler.json": '{"env": {}}'}, {}, {"env": "nope"}, errors=('there is no environment "nope"; it has none',)
    ),
    "missing in a Pages project": Case(
        {"wrangler.toml": 'name = "w"\npages_build_output_dir = "dist"\n[env.production]'},
        {"name": "w"},
        {"env": "preview"},
    ),
    "no name, no suffix": Case({"wrangler.json": '{"env": {"e": {}}}'}, {"name": None}, {"env": "e"}),
    "an empty name has no suffix": Case(
        {"wrangler.json": '{"name": "", "env": {"e": {}}}'}, {"name": None}, {"env": "e"}
    ),
    "vars are not inherited": Case(
        {"wrangler.json": '{"vars": {"A": "1"}, "env": {"e": {}}}'},
        {"vars": {}, "dev_vars": {}},
        {"env": "e"},
        warnings=('"vars" is set at the top level, but not in "env.e"',),
    ),
    "one warning for all missing vars": Case(
        {"wrangler.json": '{"vars": {"A": "1", "B": "2"}, "env": {"e": {"vars": {}}}}'},
        {"vars": {}},
        {"env": "e"},
        warnings=('"env.e.vars" does not inherit these of the top level: "A", "B"',),
    ),
    "every other key that is not inherited": Case(
        {"wrangler.json": '{"kv_namespaces": [], "queues": {}, "define": {}, "env": {"e": {"queues": {}}}}'},
        {},
        {"env": "e"},
        warnings=('"define" is set', '"kv_namespaces" is set'),
    ),
    "another environment is not looked at": Case(
        {"wrangler.json": '{"env": {"e": {}, "broken": {"vars": 5, "account_id": 6, "odd": 1}}}'}, {}, {"env": "e"}
    ),
    "no object": Case(
        {"wrangler.json": '{"name": "w", "env": {"e": 5}}'},
        {"name": "w-e"},
        {"env": "e"},
        errors=('"env.e" must be an object, not a number',),
    ),
    "environments that are no object": Case(
        {"wrangler.json": '{"env": [1]}'}, {}, errors=('"env" must be an object, not a list',)
    ),
    "a value that is an error is not replaced by the top level's": Case(
        {"wrangler.json": '{"account_id": "top", "env": {"e": {"account_id": 5}}}'},
        {"account_id": None},
        {"env": "e"},
        errors=('"env.e.account_id" must be a string, not a number',),
    ),
}


@pytest.mark.parametrize("case", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_an_environment_has_what_it_inherits_and_no_more(tmp_path: Path, case: Case) -> None:
    check(tmp_path, case)


# 4. Checks: the configuration as JSON, the attributes, the warnings, the errors

Check = tuple[str, dict[str, Any], tuple[str, ...], tuple[str, ...]]
CHECKS: dict[str, Check] = {
    "names": ('{"name": "_a-9_"}', {"name": "_a-9_"}, (), ()),
    "upper case in a name": ('{"name": "Worker"}', {"name": None}, (), ('"name" must be lower-case',)),
    "hyphen before a name": ('{"name": "-w"}', {"name": None}, (), ('"name" must',)),
    "line feed after a name": ('{"name": "w\\n"}', {"name": None}, (), ('"name" must',)),
    "name of another type": ('{"name": null}', {"name": None}, (), ('"name" must',)),
    "account": ('{"account_id": "local"}', {"account_id": "local"}, (), ()),
    "empty account": ('{"account_id": ""}', {"account_id": None}, ('"account_id" is empty and ignored',), ()),
    "account that is a number": ('{"account_id": 5}', {"account_id": None}, (), ('"account_id" must be a string',)),
    "account that is null": ('{"account_id": null}', {"account_id": None}, (), ("must be a string, not null",)),
    "date": ('{"compatibility_date": "2025-12-31"}', {"compatibility_date": "2025-12-31"}, (), ()),
    "month 13": ('{"compatibility_date": "2025-13-01"}', {}, (), ('"compatibility_date" must be a date',)),
    "no date": ('{"compatibility_date": "today"}', {}, (), ('"compatibility_date" must be a date',)),
    "en dashes": ('{"compatibility_date": "2025–01–01"}', {}, (), ("must have hyphens, not dashes",)),
    "em dashes": ('{"compatibility_date": "2025—01—01"}', {}, (), ("must have hyphens, not dashes",)),
    "date that is a number": ('{"compatibility_date": 20250101}', {}, (), ("must be a string, not a number",)),
    "flags": ('{"compatibility_flags": ["a"]}', {"compatibility_flags": ("a",)}, (), ()),
    "flags that are no list": ('{"compatibility_flags": "a"}', {"compatibility_flags": ()}, (), ("list of strings",)),
    "flags that are no strings": ('{"compatibility_flags": ["a", 1]}', {}, (), ("list of strings",)),
    "ai": (
        '{"ai": {"binding": "AI", "remote": true, "staging": 1}}',
        {"ai": {"binding": "AI", "remote": True, "staging": 1}},
        (),
        (),
    ),
    "ai that is a list": ('{"ai": [{"binding": "AI"}]}', {"ai": None}, (), ('"ai" must be an object, not a list',)),
    "ai that is null": ('{"ai": null}', {"ai": None}, (), ('"ai" must be an object, not null',)),
    "ai without a binding": ('{"ai": {}}', {"ai": None}, (), ('"ai" must have a string "binding"',)),
    "ai with another binding": ('{"ai": {"binding": 1}}', {"ai": None}, (), ('"ai" must have a string "binding"',)),
    "ai with another remote": ('{"ai": {"binding": "AI", "remote": "yes"}}', {}, (), ('boolean "remote"',)),
    "vars keep their types": (
        '{"vars": {"S": "1", "N": 1, "F": 1.5, "B": true, "Z": null, "L": [1, {"a": "b"}]}}',
        {"vars": {"S": "1", "N": 1, "F": 1.5, "B": True, "Z": None, "L": [1, {"a": "b"}]}},
        (),
        (),
    ),
    "vars that are text": ('{"vars": "A=1"}', {"vars": {}}, (), ('"vars" must be an object, not a string',)),
    "vars that are null": ('{"vars": null}', {"vars": {}}, (), ('"vars" must be an object, not null',)),
    "vars that are a list": ('{"vars": ["x"]}', {"vars": {"0": "x"}}, (), ()),
    "names in vars and ai": (
        '{"vars": {"AI": "x"}, "ai": {"binding": "AI"}}',
        {},
        (),
        ('the binding name "AI" is used more than once (ai, vars)',),
    ),
    "names in two lists": (
        '{"kv_namespaces": [{"binding": "X"}], "r2_buckets": [{"binding": "X"}]}',
        {},
        (),
        ('"X" is used more than once (kv_namespaces, r2_buckets)',),
    ),
    "names in one list": (
        '{"d1_databases": [{"binding": "X"}, {"binding": "X"}]}',
        {},
        (),
        ('"X" is used more than once (d1_databases, d1_databases)',),
    ),
    "names of durable objects and queues": (
        '{"durable_objects": {"bindings": [{"name": "X"}]}, "queues": {"producers": [{"binding": "X"}]}}',
        {},
        (),
        ('"X" is used more than once',),
    ),
    "names of secrets": (
        '{"vars": {"X": "1"}, "secrets": {"required": ["X"]}}',
        {},
        ('"X"',),
        ('"X" is used more than once (vars, secrets)',),
    ),
    "names of file bindings": ('{"text_blobs": {"X": "a.txt"}, "vars": {"X": ""}}', {}, (), ('"X" is used',)),
    "different names": (
        '{"vars": {"A": "1"}, "ai": {"binding": "AI"}, "kv_namespaces": [{"binding": "K"}]}',
        {},
        (),
        (),
    ),
    "secrets": ('{"secrets": ["A"]}', {}, (), ('"secrets" must be an object, not a list',)),
    "required secrets": ('{"secrets": {"required": "A"}}', {}, (), ('"secrets" has a "required" that must be a list',)),
    "legacy_env": ('{"legacy_env": true, "name": "w"}', {"name": "w"}, (), ('"legacy_env" is no longer supported',)),
    "node_compat": ('{"node_compat": true}', {}, (), ('"node_compat" is no longer supported',)),
    "unsafe": ('{"unsafe": {"bindings": []}}', {}, ('"unsafe" is experimental',), ()),
    "unknown keys": (
        '{"name": "w", "odd": {"x": 1}, "$schema": "s", "colour": 1}',
        {"name": "w"},
        ('unexpected in "top-level": "odd", "colour"',),
        (),
    ),
    "unknown keys of dev": (
        '{"dev": {"port": 8787, "host": "h", "speed": 1, "odd": 2}}',
        {},
        ('unexpected in "dev": "speed", "odd"',),
        (),
    ),
    "several at once": (
        '{"name": "W", "account_id": 1, "vars": 2, "odd": 3}',
        {"name": None, "account_id": None, "vars": {}},
        ('unexpected in "top-level": "odd"',),
        ('"name"', '"account_id"', '"vars"'),
    ),
}


@pytest.mark.parametrize(("text", "expected", "warnings", "errors"), CHECKS.values(), ids=CHECKS)
def test_a_configuration_is_checked_as_wrangler_checks_it(
    tmp_path: Path, text: str, expected: dict[str, Any], warnings: tuple[str, ...], errors: tuple[str, ...]
) -> None:
    check(tmp_path, Case({"wrangler.jsonc": text}, expected, warnings=warnings, errors=errors))


@pytest.mark.parametrize("key", ["account_id", "name", "compatibility_date", "ai", "compatibility_flags"])
def test_the_active_environment_is_checked_too(tmp_path: Path, key: str) -> None:
    (error,) = config(tmp_path, json.dumps({"env": {"e": {key: 5}}}), env="e").errors
    assert error.startswith(f'wrangler.jsonc: "env.e.{key}" must ')


def test_unknown_keys_of_an_environment_are_one_warning(tmp_path: Path) -> None:
    project = config(tmp_path, '{"name": "w", "env": {"e": {"odd": 1, "dev": {}, "legacy_env": true}}}', env="e")
    assert (project.name, project.errors) == ("w-e", ())
    assert project.warnings == ('wrangler.jsonc: unexpected in "env.e": "odd", "dev", "legacy_env"',)


def test_an_empty_account_in_an_environment_leaves_that_of_the_top_level(tmp_path: Path) -> None:
    project = config(tmp_path, '{"account_id": "top", "env": {"e": {"account_id": ""}}}', env="e")
    assert project.account_id == "top"
    assert project.warnings == ('wrangler.jsonc: "env.e.account_id" is empty and ignored',)


TOML_DATES = {
    "compatibility date": ("compatibility_date = 2025-01-01", '"compatibility_date" must be a string, not a TOML date'),
    "variable": ("[vars]\nD = 2025-01-01", '"vars.D" is a TOML date'),
    "variable with a time": ("[vars]\nD = 2025-01-01T00:00:00Z", '"vars.D" is a TOML date'),
    "variable that is a time": ("[vars]\nD = 10:00:00", '"vars.D" is a TOML date'),
}


@pytest.mark.parametrize(("text", "error"), TOML_DATES.values(), ids=TOML_DATES)
def test_a_bare_toml_date_is_an_error(tmp_path: Path, text: str, error: str) -> None:
    project = config(tmp_path, text, "wrangler.toml")
    assert [error in text for text in project.errors] == [True]
    assert project.vars == {}


def test_values_of_toml_that_json_lacks_are_made_plain(tmp_path: Path) -> None:
    project = config(tmp_path, "[vars]\nT = {d = [2025-01-01]}\nN = nan\nI = inf", "wrangler.toml")
    assert project.vars == {"T": {"d": ["2025-01-01"]}, "N": None, "I": None}
    json.dumps(project.to_json_dict(), allow_nan=False)


# 5. Variables for local development

WORKER = '{"name": "w", "vars": {"A": "config", "N": 1}, "env": {"e": {"vars": {"A": "config-e", "N": 2}}}}'
DEV_VARS: dict[str, Case] = {
    "vars": Case({"wrangler.json": WORKER}, {"dev_vars": {"A": "config", "N": 1}}),
    "vars of the environment": Case({"wrangler.json": WORKER}, {"dev_vars": {"A": "config-e", "N": 2}}, {"env": "e"}),
    ".dev.vars over vars": Case(
        {"wrangler.json": WORKER, ".dev.vars": "A=dev\nB=x"}, {"dev_vars": {"A": "dev", "N": 1, "B": "x"}}
    ),
    ".dev.vars without a configuration": Case({".dev.vars": "A=1"}, {"dev_vars": {"A": "1"}}),
    ".dev.vars is not expanded": Case(
        {".dev.vars": "A=1\nB=$A\nC=\\$A"}, {"dev_vars": {"A": "1", "B": "$A", "C": "\\$A"}}
    ),
    ".dev.vars of the environment alone": Case(
        {".dev.vars": "A=1\nB=2", ".dev.vars.e": "A=3", "wrangler.json": '{"env": {"e": {}}}'},
        {"dev_vars": {"A": "3"}},
        {"env": "e"},
    ),
    ".dev.vars where the environment has none": Case(
        {".dev.vars": "A=1", "wrangler.json": '{"env": {"e": {}}}'}, {"dev_vars": {"A": "1"}}, {"env": "e"}
    ),
    "CLOUDFLARE_ENV does not choose .dev.vars": Case(
        {".dev.vars": "A=1", ".dev.vars.e": "A=3", "wrangler.json": WORKER},
        {"dev_vars": {"A": "1", "N": 2}, "vars": {"A": "config-e", "N": 2}},
        {"environ": {"CLOUDFLARE_ENV": "e"}},
    ),
    "an empty .dev.vars still keeps .env away": Case({".dev.vars": "", ".env": "A=1"}, {"dev_vars": {}}),
    ".env": Case({".env": "A=1"}, {"dev_vars": {"A": "1"}}),
    ".env over vars": Case({"wrangler.json": WORKER, ".env": "A=env"}, {"dev_vars": {"A": "env", "N": 1}}),
    "the later .env file wins": Case(
        {
            ".env": "A=1\nB=1\nC=1\nD=1",
            ".env.local": "B=2\nC=2\nD=2",
            ".env.e": "C=3\nD=3",
            ".env.e.local": "D=4",
            "wrangler.json": '{"env": {"e": {}}}',
        },
        {"dev_vars": {"A": "1", "B": "2", "C": "3", "D": "4"}},
        {"env": "e"},
    ),
    "the environment's .env files only with the argument": Case(
        {".env": "A=1", ".env.e": "A=2", "wrangler.json": '{"env": {"e": {}}}'},
        {"dev_vars": {"A": "1"}},
        {"environ": {"CLOUDFLARE_ENV": "e"}},
    ),
    ".env is expanded after merging": Case(
        {".env": "A=1\nB=$A-${C}", ".env.local": "A=2\nC=$B"}, {"dev_vars": {"A": "2", "B": "2-", "C": "2-"}}
    ),
    ".env is expanded from itself alone": Case(
        {".env": "A=${HOME:-none}"}, {"dev_vars": {"A": "none"}}, {"environ": {"HOME": "/home/me"}}
    ),
    "single quotes do not prevent it": Case({".env": "A=1\nB='$A'"}, {"dev_vars": {"A": "1", "B": "1"}}),
    "the process does not win for the Worker": Case(
        {".env": "A=file"}, {"dev_vars": {"A": "file"}}, {"environ": {"A": "process"}}
    ),
    "base directory is that of the configuration": Case(
        {"../wrangler.toml": "", "../.env": "A=1", ".env": "A=2", "../.dev.vars.x": "A=3"},
        {"dev_vars": {"A": "1"}, "tool_vars": {"A": "2"}},
    ),
    "base directory is that of a named configuration": Case(
        {"sub/w.toml": "", "sub/.dev.vars": "A=1", ".dev.vars": "A=2"},
        {"dev_vars": {"A": "1"}},
        {"config": Path("sub/w.toml")},
    ),
    "a folder called .env": Case({".env/pyvenv.cfg": "home = x", ".env.local": "A=1"}, {"dev_vars": {"A": "1"}}),
    "no .env": Case(
        {".env": "A=1", "wrangler.json": WORKER},
        {"dev_vars": {"A": "config", "N": 1}},
        {"environ": {"CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV": "False"}},
    ),
    "no .env, said in .env": Case({".env": "A=1\nCLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV=false"}, {"dev_vars": {}}),
    "all of the process": Case(
        {".env": "A=file\nB=file-$P", "wrangler.json": WORKER},
        {"dev_vars": {"A": "process", "B": "file-p", "N": 1, "P": "p", "CLOUDFLARE_INCLUDE_PROCESS_ENV": "TRUE"}},
        {"environ": {"CLOUDFLARE_INCLUDE_PROCESS_ENV": "TRUE", "A": "process", "P": "p"}},
    ),
    "1 is not true": Case(
        {".env": "A=1"},
        {"dev_vars": {"A": "1"}},
        {"environ": {"CLOUDFLARE_INCLUDE_PROCESS_ENV": "1"}},
        errors=("CLOUDFLARE_INCLUDE_PROCESS_ENV must be true or false",),
    ),
    "0 is not false": Case(
        {},
        {},
        {"environ": {"CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV": "0"}},
        errors=("CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV must be true or false",),
    ),
    "named files replace the list and .dev.vars": Case(
        {"a.env": "A=1\nB=1", "b.env": "B=2", ".env": "C=3", ".dev.vars": "D=4"},
        {"dev_vars": {"A": "1", "B": "2"}, "tool_vars": {"A": "1", "B": "2"}},
        {"env_files": [Path("a.env"), Path("b.env")]},
    ),
    "named files start from the configuration's folder": Case(
        {"sub/wrangler.toml": "", "sub/a.env": "A=1", "a.env": "A=2"},
        {"dev_vars": {"A": "1"}, "tool_vars": {"A": "2"}},
        {"env_files": [Path("a.env")], "script": Path("sub/x.js")},
    ),
    "a named file that is missing": Case(
        {"a.env": "A=1"},
        {"dev_vars": {"A": "1"}},
        {"env_files": [Path("a.env"), Path("b.env")]},
        warnings=("b.env: there is no such file",),
    ),
    "required secrets from .dev.vars": Case(
        {"wrangler.json": '{"vars": {"V": "1"}, "secrets": {"required": ["S"]}}', ".dev.vars": "S=s\nV=v\nX=x"},
        {"dev_vars": {"V": "v", "S": "s"}},
    ),
    "required secrets from the process": Case(
        {"wrangler.json": '{"vars": {"V": "1"}, "secrets": {"required": ["S", "F"]}}', ".env": "F=f\nX=x"},
        {"dev_vars": {"V": "process", "S": "s", "F": "f"}},
        {"environ": {"S": "s", "V": "process", "Y": "y"}},
    ),
    "required secrets that are missing": Case(
        {"wrangler.json": '{"secrets": {"required": ["S", "T"]}}', ".dev.vars": "S=s"},
        {"dev_vars": {"S": "s"}},
        warnings=('required secrets are not set: "T"',),
    ),
    "a reference without end": Case(
        {".env": "A=\\$A\nB=x$A"}, {"dev_vars": {}}, errors=('.env: the references in "B" do not end',)
    ),
    "UTF-16": Case({".env": "A=1".encode("utf-16")}, {"dev_vars": {}}, errors=(".env: UTF-16 text",)),
    "Latin-1": Case({".dev.vars": b"# caf\xe9\nA=1"}, {"dev_vars": {"A": "1"}}, warnings=(".dev.vars:1: not UTF-8",)),
}


@pytest.mark.parametrize("case", DEV_VARS.values(), ids=DEV_VARS)
def test_variables_of_a_local_worker_come_from_where_wrangler_takes_them(tmp_path: Path, case: Case) -> None:
    here = tmp_path / "here"
    here.mkdir()
    check(here, case)


@pytest.mark.parametrize("name", [".dev.vars", ".env"])
def test_a_file_of_variables_that_cannot_be_read_is_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(name)  # to itself
    (error,) = read_project(tmp_path).errors
    assert error.startswith(f"{name}: cannot be read (")


# 6. Variables of the tool itself

TOOL_VARS: dict[str, Case] = {
    "from the working directory": Case(
        {"../wrangler.toml": "", "../.env": "B=2", ".env": "A=1"}, {"tool_vars": {"A": "1"}, "dev_vars": {"B": "2"}}
    ),
    "four files": Case(
        {".env": "A=1\nB=1", ".env.local": "B=2\nC=2", ".env.e": "C=3\nD=3", ".env.e.local": "D=4"},
        {"tool_vars": {"A": "1", "B": "2", "C": "3", "D": "4"}},
        {"env": "e"},
        warnings=("there is no environment",),
    ),
    ".dev.vars is not for the tool": Case({".dev.vars": "A=1", ".env": "B=2"}, {"tool_vars": {"B": "2"}}),
    "the real environment wins": Case({".env": "A=1\nB=2"}, {"tool_vars": {"B": "2"}}, {"environ": {"A": "process"}}),
    "an empty one does not": Case({".env": "A=1"}, {"tool_vars": {"A": "1"}}, {"environ": {"A": ""}}),
    "expanded from the process": Case({".env": "A=$P"}, {"tool_vars": {"A": "p"}}, {"environ": {"P": "p"}}),
}


@pytest.mark.parametrize("case", TOOL_VARS.values(), ids=TOOL_VARS)
def test_variables_of_the_tool_come_from_the_working_directory(tmp_path: Path, case: Case) -> None:
    here = tmp_path / "here"
    here.mkdir()
    check(here, case)


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


def test_the_json_form_has_everything_but_the_variables_of_the_tool(tmp_path: Path) -> None:
    write(tmp_path, {"wrangler.toml": TWO, ".dev.vars": "S=1", ".env": "T=2"})
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
