"""The entry of a wrangler configuration that gives a Worker the relay's plugin as its AI binding.

It stands in an environment of its own, for development alone: two bindings of one name are an error, and production
keeps its `ai`. Source of the two forms: cloudflare/workers-sdk, packages/workers-utils/src/config/environment.ts.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from wrangler_compat.bindings import repeated_names
from wrangler_compat.jsonc import JsoncError, parse_jsonc
from wrangler_compat.jsonc_edit import append_member
from wrangler_compat.keys import NOT_INHERITABLE
from wrangler_compat.values import Table

Form = Literal["services", "unsafe"]

PACKAGE = "workers-ai-relay-miniflare"
PLUGIN = "relay-ai"

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class CannotEdit(Exception):
    """The text cannot be changed without a risk for what it holds; the message says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The binding `binding` of the environment `env`, in the form that a version of wrangler takes."""

    form: Form
    env: str
    binding: str

    @property
    def keys(self) -> tuple[str, ...]:
        """Where the list stands that the entry belongs to."""
        return ("env", self.env, "services") if self.form == "services" else ("env", self.env, "unsafe", "bindings")

    @property
    def value(self) -> Table:
        dev = {"plugin": {"package": PACKAGE, "name": PLUGIN}}
        if self.form == "services":
            return {"binding": self.binding, "service": PLUGIN, "dev": dev}
        return {"name": self.binding, "type": PLUGIN, "dev": dev}

    def toml(self) -> str:
        """The entry as lines for the end of a `wrangler.toml`."""
        where = ".".join(key if _BARE_KEY.fullmatch(key) else json.dumps(key) for key in self.keys)
        named = [f"{key} = {json.dumps(value)}" for key, value in self.value.items() if key != "dev"]
        plugin = [f"{key} = {json.dumps(value)}" for key, value in self.value["dev"]["plugin"].items()]
        return "\n".join([f"[[{where}]]", *named, f"[{where}.dev.plugin]", *plugin, ""])

    def json(self) -> str:
        """The entry as the members of the root of a `wrangler.jsonc`, all that leads to it included."""
        value: object = [self.value]
        for key in reversed(self.keys[1:]):
            value = {key: value}
        return f"{json.dumps(self.keys[0])}: {json.dumps(value, indent=2)}\n"

    def is_in(self, raw: Table) -> bool:
        """Does the configuration have it already?"""
        return any(
            isinstance(item, dict) and all(item.get(key) == value for key, value in self.value.items() if key != "dev")
            for item in _listed(raw, self.keys)
        )

    def added_to(self, text: str, *, toml: bool) -> str:
        """The text of a configuration, an object, with the entry; nothing else in it changes. Raises CannotEdit."""
        raw = _parsed(text, toml=toml)
        expected = self._expected(raw)
        if any(name == self.binding for name, _ in repeated_names(expected["env"][self.env])):
            raise CannotEdit(f'the environment "{self.env}" already has a binding called "{self.binding}"')
        if toml:
            newline = "\r\n" if "\r\n" in text else "\n"
            kept = text.rstrip("\r\n")
            changed = (kept and kept + newline * 2) + self.toml().replace("\n", newline)
        else:
            changed = append_member(text, raw, self.keys, self.value)
        try:
            same = _parsed(changed, toml=toml) == expected
        except CannotEdit:
            same = False
        if not same:
            raise CannotEdit("its form leaves no place where text alone could be added")
        return changed

    def _expected(self, raw: Table) -> Table:
        """What the configuration is to hold afterwards."""
        expected = copy.deepcopy(raw)
        place: Any = expected
        for key in self.keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise CannotEdit(f'"{key}" in it is no object')
        listed = place.setdefault(self.keys[-1], [])
        if not isinstance(listed, list):
            raise CannotEdit(f'"{".".join(self.keys)}" in it is no list')
        listed.append(self.value)
        return expected


def not_inherited(raw: Table, env: str) -> list[str]:
    """The keys of the top level that the environment neither inherits nor has, but for `ai`."""
    section = (raw.get("env") or {}).get(env) or {}
    return [key for key in NOT_INHERITABLE if key in raw and key not in section and key != "ai"]


def _listed(raw: Any, keys: tuple[str, ...]) -> Iterator[Any]:
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) else None
    yield from raw if isinstance(raw, list) else ()


def _parsed(text: str, *, toml: bool) -> Table:
    text = text.removeprefix("\ufeff")
    try:
        raw: Any = tomllib.loads(text) if toml else parse_jsonc(text)
    except (tomllib.TOMLDecodeError, JsoncError) as exc:
        raise CannotEdit(f"it cannot be read ({exc})") from None
    return dict(raw)
