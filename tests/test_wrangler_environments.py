"""What an environment inherits. The expected values were compared with wrangler 4.164's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_wrangler_config import Case, check, config

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
        {"wrangler.json": '{"name": "w", "env": [1]}'},
        {"name": "w-e"},
        {"env": "e"},
        ('there is no environment "e"',),
        errors=('"env" must be an object, not a list',),
    ),
    "environments that are no object and not asked for": Case({"wrangler.json": '{"env": [1]}'}, {}),
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


def test_an_empty_account_in_an_environment_leaves_that_of_the_top_level(tmp_path: Path) -> None:
    project = config(tmp_path, '{"account_id": "top", "env": {"e": {"account_id": ""}}}', env="e")
    assert project.account_id == "top"
    assert project.warnings == ('wrangler.jsonc: "env.e.account_id" is empty and ignored',)
