"""Adding a member to a text of JSON with comments, which otherwise stays as it is to the letter."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Place = tuple[str | int | None, ...]
"""Keys and indices from the root to a value."""

_LEXEME = re.compile(
    r"""
      (?P<skip>   [ \t\r\n\ufeff]+ | //[^\r\n]* | /\*.*?\*/ )
    | (?P<string> "(?:[^"\\]|\\.)*" )
    | (?P<open>   [{\[] )
    | (?P<close>  [}\]] )
    | (?P<comma>  , )
    | (?P<colon>  : )
    | (?P<scalar> [^\s{}\[\],:"/]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_INDENT = re.compile(r"^([ \t]+)\S", re.MULTILINE)


@dataclass(slots=True)
class _Container:
    """An object or a list: where its brackets are, and where its last value ends."""

    place: Place
    is_list: bool
    start: int
    key: str | int | None
    """Of the value that comes next."""
    end: int = 0
    last: int | None = None
    comma: bool = False
    """Does a comma follow the last value?"""


def append_member(text: str, raw: Any, keys: Sequence[str], item: object) -> str:
    """`text` with `item` as the last entry of the list at `keys`, whose missing parts are made.

    `raw` is what `text` holds, where nothing on the way there is anything but an object, and at the end a list.
    """
    found: Any = raw
    depth = 0
    while depth < len(keys) and isinstance(found, dict) and keys[depth] in found:
        found = found[keys[depth]]
        depth += 1
    value: object = item if depth == len(keys) else [item]
    for key in reversed(keys[depth + 1 :]):
        value = {key: value}
    container = _containers(text)[tuple(keys[:depth])]
    return _insert(text, container, keys[depth] if depth < len(keys) else None, value)


def _containers(text: str) -> dict[Place, _Container]:
    """All objects and lists of a text that `parse_jsonc` takes; of equal keys the last counts, as it does there."""
    closed: dict[Place, _Container] = {}
    open_ = [_Container((), is_list=True, start=0, key=0)]  # what the root stands in
    for found in _LEXEME.finditer(text):
        top = open_[-1]
        match found.lastgroup:
            case "open":
                place = (*top.place, top.key) if len(open_) > 1 else ()
                is_list = found[0] == "["
                open_.append(_Container(place, is_list, found.start(), 0 if is_list else None))
            case "close":
                top.end = found.start()
                closed[top.place] = open_.pop()
                _end_value(open_[-1], found.end())
            case "comma":
                top.comma = True
                top.key = top.key + 1 if isinstance(top.key, int) else None
            case "string" if top.key is None:
                top.key = json.loads(found[0])
            case "string" | "scalar":
                _end_value(top, found.end())
    return closed


def _end_value(container: _Container, end: int) -> None:
    container.last = end
    container.comma = False


def _insert(text: str, container: _Container, key: str | None, value: object) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    indents = _INDENT.search(text)
    unit = indents[1] if indents is not None else "  "
    line = text[text.rfind("\n", 0, container.start) + 1 : container.start]
    outer = line[: len(line) - len(line.lstrip(" \t"))]
    member = ("" if key is None else f"{json.dumps(key)}: ") + json.dumps(value, indent=unit)
    member = "\n".join(outer + unit + row for row in member.split("\n")).replace("\n", newline)
    before = text[: container.end].rstrip()
    if container.last is not None and not container.comma:
        before = before[: container.last] + "," + before[container.last :]
    return before + newline + member + newline + outer + text[container.end :]
