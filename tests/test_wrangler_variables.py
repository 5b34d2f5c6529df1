"""Variables of a local Worker and of the tool. The expected values were compared with wrangler 4.164's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_wrangler_config import Case, check

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
}


@pytest.mark.parametrize("case", DEV_VARS.values(), ids=DEV_VARS)
def test_variables_of_a_local_worker_come_from_where_wrangler_takes_them(tmp_path: Path, case: Case) -> None:
    here = tmp_path / "here"
    here.mkdir()
    check(here, case)


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
