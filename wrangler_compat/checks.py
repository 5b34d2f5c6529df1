"""What wrangler checks in a section of a configuration: its keys and their values.

Source: cloudflare/workers-sdk, packages/workers-utils/src/config, as of wrangler 4.164.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Any

from wrangler_compat.bindings import repeated_names
from wrangler_compat.files import Files
from wrangler_compat.keys import IN_DEV, REMOVED
from wrangler_compat.shapes import SHAPES, Check, check_string
from wrangler_compat.values import Table, kind, plain, quoted

_NAME = re.compile(r"(?:[a-z0-9_][a-z0-9_-]*)?")
# What `new Date()` takes is wider still and differs from engine to engine.
_DATE = re.compile(r"\s*\d{4}(?:[-/](?:0?[1-9]|1[0-2])(?:[-/](?:0?[1-9]|[12]\d|3[01]))?)?(?:[T ]\S+)?\s*")


class Checker:
    """Compares the sections of one configuration file with what wrangler takes."""

    def __init__(self, files: Files, shown: str) -> None:
        self._files = files
        self._shown = shown

    def error(self, text: str) -> None:
        self._files.errors.append(f"{self._shown}: {text}")

    def warn(self, text: str) -> None:
        self._files.warnings.append(f"{self._shown}: {text}")

    def vars_origin(self, env: str) -> str:
        """What messages call the place of the `vars` of an environment, `""` being the top level."""
        table = f"env.{env}.vars" if env else "vars"
        return f"{self._shown} [{table}]" if self._shown.endswith(".toml") else f"{self._shown} {table}"

    def section(self, raw: Table, where: str, *, known: Iterable[str], inherited: Table | None = None) -> Table:
        """A copy of the top level or of `env.NAME`, with None for each value that is an error."""
        prefix = f"{where}." if where else ""
        section = dict(raw)
        if section.get("account_id") == "":
            self.warn(f'"{prefix}account_id" is empty and ignored')
            del section["account_id"]
        for key, reason in REMOVED.items():
            # In an environment, wrangler takes `legacy_env` for a key that it does not know.
            if key in section and not (where and key == "legacy_env"):
                self.error(f'"{prefix}{key}" {reason}')
                del section[key]
        if "unsafe" in section and not (inherited and "unsafe" in inherited):
            self.warn(f'"{prefix}unsafe" is experimental and may change or break at any time')
        for key, check in _CHECKS.items():
            if key in section and (problem := check(section[key])) is not None:
                self.error(f'"{prefix}{key}" {problem}')
                section[key] = None
        if section.get("vars") is not None:
            section["vars"] = self._variables(section["vars"], f"{prefix}vars")
        if section.get("ai") is not None:
            section["ai"] = plain(section["ai"])
        if section.get("secrets") is not None:
            self._unknown(section["secrets"], f"{prefix}secrets", ("required",))
        self._unknown(section, where or "top-level", known)
        return section

    def _variables(self, raw: Table | list[Any], where: str) -> Table:
        # An array is an object too in JavaScript, and wrangler lets it pass.
        items = raw if isinstance(raw, dict) else {str(index): value for index, value in enumerate(raw)}
        for name, value in items.items():
            if isinstance(value, datetime.date | datetime.time):
                self.error(f'"{where}.{name}" is a TOML date; put it in quotes')
        return {k: plain(v) for k, v in items.items() if not isinstance(v, datetime.date | datetime.time)}

    def dev(self, raw: object) -> None:
        if isinstance(raw, dict):
            self._unknown(raw, "dev", IN_DEV)

    def _unknown(self, section: Table, where: str, known: Iterable[str]) -> None:
        unexpected = [key for key in section if key not in known]
        if unexpected:
            self.warn(f'unexpected in "{where}": {quoted(unexpected)}')

    def unique_bindings(self, settings: Table) -> None:
        for name, keys in repeated_names(settings):
            self.error(f'the binding name "{name}" is used more than once ({", ".join(keys)})')


def _check_name(value: object) -> str | None:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return None
    return "must be lower-case letters, digits, - and _ and not begin with -"


def _check_date(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be a string, not {kind(value)}"
    if "\N{EN DASH}" in value or "\N{EM DASH}" in value:
        return "must have hyphens, not dashes"
    return None if _DATE.fullmatch(value) else "must be a date (YYYY-MM-DD)"


def _check_strings(value: object) -> str | None:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return None
    return "must be a list of strings"


def _check_ai(value: object) -> str | None:
    if not isinstance(value, dict):
        return f"must be an object, not {kind(value)}"
    if not isinstance(value.get("binding"), str):
        return 'must have a string "binding"'
    return None if isinstance(value.get("remote", False), bool) else 'must have a boolean "remote", or none'


def _check_vars(value: object) -> str | None:
    return None if isinstance(value, dict | list) else f"must be an object, not {kind(value)}"


def _check_secrets(value: object) -> str | None:
    if not isinstance(value, dict):
        return f"must be an object, not {kind(value)}"
    problem = _check_strings(value.get("required", []))
    return f'has a "required" that {problem}' if problem else None


_CHECKS: dict[str, Check] = {
    **SHAPES,
    "name": _check_name,
    "account_id": check_string,
    "compatibility_date": _check_date,
    "compatibility_flags": _check_strings,
    "ai": _check_ai,
    "vars": _check_vars,
    "secrets": _check_secrets,
}
