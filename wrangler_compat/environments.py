"""The settings of one environment: its own, and what it inherits of the top level.

Source: cloudflare/workers-sdk, packages/workers-utils/src/config, as of wrangler 4.164.
"""

from __future__ import annotations

from wrangler_compat.checks import Checker
from wrangler_compat.keys import IN_ENVIRONMENT, INHERITABLE, NOT_INHERITABLE, TOP_LEVEL_ONLY
from wrangler_compat.values import Table, kind, quoted


def resolve(check: Checker, raw: Table, env: str | None) -> tuple[Table, str]:
    """The settings of one environment: its own, the inherited ones, nothing else of the top level."""
    top = check.section(raw, "", known=IN_ENVIRONMENT | TOP_LEVEL_ONLY)
    environments = raw.get("env")
    if environments is not None and not isinstance(environments, dict):
        if env:
            check.error(f'"env" must be an object, not {kind(environments)}')
        environments = None
    origin = check.vars_origin("")
    if not env or (environments is None or env not in environments) and "pages_build_output_dir" in raw:
        # A Pages project has "preview" and "production" whether the file names them or not.
        settings = top
    elif environments is not None and env in environments:
        settings = _named_environment(check, raw, top, environments[env], env)
        origin = check.vars_origin(env)
    else:
        _report_missing(check, environments, env)
        settings = {**top, "name": _suffixed(top, env)}
    _check_whole(check, raw, settings)
    return settings, origin


def resolve_redirected(check: Checker, raw: Table, env: str | None) -> tuple[Table, str]:
    """The settings that a build tool wrote for one environment: the file is flat, and `env` may only confirm it."""
    raw = {key: value for key, value in raw.items() if key != "legacy_env"}
    settings = check.section(raw, "", known=IN_ENVIRONMENT | TOP_LEVEL_ONLY)
    if raw.get("env"):
        check.error('has "env", which a generated configuration must not have')
    target = raw.get("targetEnvironment")
    if env and target and target != env and "pages_build_output_dir" not in raw:
        check.error(f'was built for another environment than "{env}"')
    _check_whole(check, raw, settings)
    return settings, check.vars_origin("")


def _check_whole(check: Checker, raw: Table, settings: Table) -> None:
    check.dev(raw.get("dev"))
    check.unique_bindings({**{key: raw[key] for key in TOP_LEVEL_ONLY if key in raw}, **settings})


def _named_environment(check: Checker, raw: Table, top: Table, section: object, env: str) -> Table:
    where = f"env.{env}"
    if not isinstance(section, dict):
        check.error(f'"{where}" must be an object, not {kind(section)}')
        section = {}
    own = check.section(section, where, known=IN_ENVIRONMENT, inherited=raw)
    for key in NOT_INHERITABLE:
        if key in raw and key not in section:
            check.warn(f'"{key}" is set at the top level, but not in "{where}", which does not inherit it')
    if isinstance(own.get("vars"), dict) and isinstance(top.get("vars"), dict):
        missing = [name for name in top["vars"] if name not in own["vars"]]
        if missing:
            check.warn(f'"{where}.vars" does not inherit these of the top level: {quoted(missing)}')
    inherited = {key: value for key, value in top.items() if key in INHERITABLE}
    return {**inherited, "name": _suffixed(top, env), **own}


def _report_missing(check: Checker, environments: Table | None, env: str) -> None:
    if environments is None:
        check.warn(f'there is no environment "{env}"; the top level is used for it')
    else:
        defined = f"it has {quoted(environments)}" if environments else "it has none"
        check.error(f'there is no environment "{env}"; {defined}')


def _suffixed(top: Table, env: str) -> str | None:
    return f"{top['name']}-{env}" if top.get("name") else None
