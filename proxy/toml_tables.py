"""Reading tables of `relay.toml` key by key, so that all that is wrong in them is told at once and by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeGuard

from proxy.setting_table import Parser

_SIMILAR = 0.7  # of 1; two letters of four that changed places still are
_SHOWN = 60
"""Characters of a wrong value that an error repeats."""


class Key(NamedTuple):
    """One key that a table may hold. A secret's value is in no error text."""

    name: str
    parse: Parser
    expects: str
    secret: bool = False


def read_table(
    table: Mapping[str, object], keys: Sequence[Key], prefix: str, shown: str, problems: list[str]
) -> dict[str, object]:
    """The values that can be read, by key. `problems` gets what is wrong, as a key of `prefix` in the file `shown`."""
    known = {key.name: key for key in keys}
    values: dict[str, object] = {}
    for name, raw in table.items():
        key = known.get(name)
        where = f"{prefix}.{name} in {shown}"
        if key is None:
            problems.append(f"{where}: no such key{nearest(name, known)}")
            continue
        try:
            values[name] = key.parse(raw)
        except (ValueError, OverflowError):
            problems.append(f"{where}: expected {key.expects}{'' if key.secret else got(raw)}")
    return values


def got(raw: object) -> str:
    """What was found instead, as the end of an error; nothing of an address that may hold a name and a password."""
    text = repr(raw)
    return "" if "@" in text else f", got {text if len(text) <= _SHOWN else text[: _SHOWN - 3] + '...'}"


def is_table(raw: object) -> TypeGuard[dict[str, object]]:
    return isinstance(raw, dict)


def is_name(raw: object) -> TypeGuard[str]:
    """Could clients ask for a model by this name?"""
    return isinstance(raw, str) and bool(raw) and raw.isprintable() and " " not in raw


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that may have been meant, as the end of an error."""
    # What all names begin with says nothing of how near two of them are.
    ends = {other.removeprefix("RELAY_"): other for other in known}
    matches = difflib.get_close_matches(name.removeprefix("RELAY_"), ends, n=1, cutoff=_SIMILAR)
    return f"; did you mean {ends[matches[0]]}?" if matches else ""
