"""Our reader of wrangler's files beside wrangler itself, on every project that the reader's own tests have."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.clients.surroundings import Surroundings, node
from tests.test_wrangler_bindings import NAMES
from tests.test_wrangler_checks import CHECKS, TOML_DATES
from tests.test_wrangler_config import Case, write
from tests.test_wrangler_dotenv import FILES
from tests.test_wrangler_environments import ENVIRONMENTS
from tests.test_wrangler_files import ENCODINGS
from tests.test_wrangler_jsonc import JSON_VALUES, REFUSED_JSON
from tests.test_wrangler_redirect import CASES as REDIRECTS
from tests.test_wrangler_search import SEARCH
from tests.test_wrangler_shapes import FINE, TAKES
from tests.test_wrangler_syntax import SYNTAX
from tests.test_wrangler_variables import DEV_VARS, TOOL_VARS
from wrangler_compat.config import Project, read_project


def _all() -> dict[str, Case]:
    """Every project, however its own tests write it down."""
    tables: dict[str, dict[str, Case]] = {
        "environments": ENVIRONMENTS,
        "encodings": ENCODINGS,
        "redirects": REDIRECTS,
        "syntax": SYNTAX,
        "variables": DEV_VARS,
        "tool": TOOL_VARS,
        "checks": {name: Case({"wrangler.json": check[0]}, {}) for name, check in {**NAMES, **CHECKS}.items()},
        "dates": {name: Case({"wrangler.toml": text}, {}) for name, (text, _) in TOML_DATES.items()},
        "dotenv": {name: Case({".dev.vars": text}, {}) for name, (text, _) in FILES.items()},
        "json": {
            name: Case({"wrangler.jsonc": f'{{"vars": {{"A": {text}}}}}'}, {})
            for name, (text, _) in JSON_VALUES.items()
        },
        "refused": {name: Case({"wrangler.jsonc": text}, {}) for name, (text, _) in REFUSED_JSON.items()},
        "search": {
            name: Case({file: _named(file) for file in files}, {}, arguments)
            for name, (files, arguments, _) in SEARCH.items()
        },
        "shapes": {
            f"{key} {json.dumps(value)}": Case({"wrangler.json": json.dumps({key: value})}, {})
            for key in TAKES
            for value in FINE
        },
    }
    every = {f"{table}: {name}": case for table, cases in tables.items() for name, case in cases.items()}
    # Where references do not end, wrangler does not end either.
    return {name: case for name, case in every.items() if not any("do not end" in error for error in case.errors)}


def _named(file: str) -> str:
    return 'name = "w"' if file.endswith("toml") else '{"name": "w"}'


PROJECTS = _all()
# Where we differ on purpose.
DIFFERENT = {
    "encodings: variables in UTF-16": "wrangler reads nonsense, we say what is wrong",
    "syntax: escapes": "half a surrogate pair, which no UTF-8 can hold, is U+FFFD to us",
    "syntax: no object": "wrangler takes a list for an object without keys",
    "syntax: deep JSON": "ours ends where Python's recursion does",
    'shapes: ratelimits [{"binding": "B"}]': "we look at no fields of bindings but their names",
}


class Answers(NamedTuple):
    folders: dict[str, Path]
    wrangler: dict[str, dict[str, Any]]


def _ours(folder: Path, case: Case) -> Project:
    return read_project(folder, **case.arguments)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, surroundings: Surroundings) -> Answers:
    """What wrangler makes of all projects, in one run of Node."""
    base = tmp_path_factory.mktemp("projects")
    folders = {name: base / str(number) / "a" / "b" for number, name in enumerate(PROJECTS)}
    asked = []
    for name, case in PROJECTS.items():
        folders[name].mkdir(parents=True)
        write(folders[name], case.files)
        given = case.arguments
        # Wrangler's command line reads the tool's variables before it calls the functions that are asked here.
        environ = {**_ours(folders[name], case).tool_vars, **given.get("environ", {})}
        arguments = {
            "env_files": [str(path) for path in given.get("env_files", ())],
            "redirect": given.get("redirect", False),
            **{key: str(given[key]) for key in ("config", "script", "env") if given.get(key) is not None},
        }
        asked.append({"cwd": str(folders[name]), "environ": environ, "arguments": arguments})
    done = subprocess.run(
        node("configuration.mjs"),
        input=json.dumps(asked),
        env=surroundings.environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    return Answers(folders, dict(zip(PROJECTS, json.loads(done.stdout), strict=True)))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.xfail(reason=DIFFERENT[name])] if name in DIFFERENT else [])
        for name in PROJECTS
    ],
)
def test_the_reader_agrees_with_wrangler(answers: Answers, name: str) -> None:
    ours = json.loads(json.dumps(_ours(answers.folders[name], PROJECTS[name]).to_json_dict()))
    theirs = answers.wrangler[name]
    assert bool(ours["errors"]) == ("error" in theirs), (ours["errors"], theirs)
    if "error" not in theirs:
        assert {key: ours[key] for key in theirs} == theirs
