"""The file that a build tool put in the configuration's place. Compared with wrangler 4.164's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_wrangler_config import Case, check, write
from wrangler_compat.config import read_project

DEPLOY = ".wrangler/deploy/config.json"
TO_OUT = '{"configPath": "../../out/wrangler.json"}'
OUT = '{"name": "built", "vars": {"A": "built"}}'
REDIRECT = {"redirect": True}

CASES = {
    "not asked for": Case({"wrangler.toml": 'name = "w"', DEPLOY: TO_OUT, "out/wrangler.json": OUT}, {"name": "w"}),
    "none": Case({"wrangler.toml": 'name = "w"'}, {"name": "w", "shown_path": "wrangler.toml"}, REDIRECT),
    "beside the user's file": Case(
        {"wrangler.toml": 'name = "w"', DEPLOY: TO_OUT, "out/wrangler.json": OUT, ".dev.vars": "B=user"},
        {"name": "built", "shown_path": "out/wrangler.json", "dev_vars": {"A": "built", "B": "user"}},
        REDIRECT,
    ),
    "without a file of the user's": Case(
        {DEPLOY: TO_OUT, "out/wrangler.json": OUT, ".dev.vars": "B=here", "out/.dev.vars": "C=there"},
        {"name": "built", "dev_vars": {"A": "built", "B": "here"}},
        REDIRECT,
    ),
    "comments and a byte-order mark": Case(
        {DEPLOY: "\ufeff// by a tool\n" + TO_OUT, "out/wrangler.json": OUT}, {"name": "built"}, REDIRECT
    ),
    "a named file is not redirected": Case(
        {"wrangler.toml": 'name = "w"', DEPLOY: TO_OUT, "out/wrangler.json": OUT},
        {"name": "w"},
        {"redirect": True, "config": Path("wrangler.toml")},
    ),
    "to the user's own file": Case(
        {"wrangler.toml": 'name = "w"\n[env.e]', DEPLOY: '{"configPath": "../../wrangler.toml"}'},
        {"name": "w-e"},
        {"redirect": True, "env": "e"},
    ),
    "the environment it was built for": Case(
        {DEPLOY: TO_OUT, "out/wrangler.json": '{"name": "built", "targetEnvironment": "e", "topLevelName": "w"}'},
        {"name": "built"},
        {"redirect": True, "env": "e"},
    ),
    "another environment": Case(
        {DEPLOY: TO_OUT, "out/wrangler.json": '{"name": "built", "targetEnvironment": "e"}'},
        {},
        {"redirect": True, "env": "f"},
        errors=('out/wrangler.json: was built for another environment than "f"',),
    ),
    "an environment where it names none": Case(
        {DEPLOY: TO_OUT, "out/wrangler.json": OUT}, {"name": "built"}, {"redirect": True, "env": "f"}
    ),
    "environments in it": Case(
        {DEPLOY: TO_OUT, "out/wrangler.json": '{"env": {"e": {}}}'}, {}, REDIRECT, errors=('has "env"',)
    ),
    "no environments in it": Case({DEPLOY: TO_OUT, "out/wrangler.json": '{"env": {}}'}, {}, REDIRECT),
    "legacy_env in it": Case({DEPLOY: TO_OUT, "out/wrangler.json": '{"legacy_env": true}'}, {}, REDIRECT),
    "unparsable": Case({DEPLOY: "{"}, {"config_path": None}, REDIRECT, errors=(DEPLOY,)),
    "empty": Case({DEPLOY: ""}, {}, REDIRECT, errors=(f"{DEPLOY}: the file is empty",)),
    "no path": Case({DEPLOY: "{}"}, {}, REDIRECT, errors=('in "configPath"',)),
    "a path that is no text": Case({DEPLOY: '{"configPath": 5}'}, {}, REDIRECT, errors=('in "configPath"',)),
    "a list": Case({DEPLOY: "[]"}, {}, REDIRECT, errors=('in "configPath"',)),
    "a path that leads nowhere": Case(
        {DEPLOY: TO_OUT}, {}, REDIRECT, errors=("leads to out/wrangler.json, which does not exist",)
    ),
    "text that is not read": Case({DEPLOY: b"\xff\xfe{"}, {"config_path": None}, REDIRECT, errors=("UTF-16",)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_redirect_is_followed_as_wrangler_does(tmp_path: Path, case: Case) -> None:
    check(tmp_path, case)


def test_a_redirect_of_another_folder_than_the_users_file_is_refused(tmp_path: Path) -> None:
    here = write(tmp_path / "here", {"wrangler.toml": ""})
    write(tmp_path, {DEPLOY: TO_OUT, "out/wrangler.json": OUT})
    (error,) = read_project(here, redirect=True).errors
    assert "does not lie beside wrangler.toml" in error
