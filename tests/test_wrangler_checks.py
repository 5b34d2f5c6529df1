"""What wrangler makes of each key of a configuration. The expected values were compared with wrangler 4.164's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.test_wrangler_config import Case, check, config

# The configuration as JSON, the attributes, the warnings, the errors
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
