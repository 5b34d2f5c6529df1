"""The `.env` and `.dev.vars` format, and the expansion of `$NAME` in it: text in, names and values out.

Wrangler uses the npm packages dotenv 16 and dotenv-expand 13, whose rules live in their regular expressions and in
no specification; both are followed to the letter here, also where JavaScript's white space, line ends and
`String.replace` differ from Python's. (Python's own dotenv packages read quotes, comments and `$` differently.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# What `\s` and `trim()` mean in JavaScript: with U+FEFF (so a byte-order mark is white space), without U+001C-1F and
# U+0085.
_WHITE = "\t\n\v\f\r \u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000\ufeff"
_S = f"[{_WHITE}]"
_LINE_START = "(?:^|(?<=[\u2028\u2029]))"
_LINE_END = "(?=[\n\u2028\u2029]|\\Z)"

_ASSIGNMENT = re.compile(
    _LINE_START
    + rf"{_S}*(?:export{_S}+)?([A-Za-z0-9_.-]+)(?:{_S}*={_S}*?|:{_S}+?)"
    + rf"({_S}*'(?:\\'|[^'])*'|{_S}*\"(?:\\\"|[^\"])*\"|{_S}*`(?:\\`|[^`])*`|[^#\r\n]+)?"
    + rf"{_S}*(?:#[^\n\r\u2028\u2029]*)?"
    + _LINE_END,
    re.MULTILINE,
)
_QUOTED = re.compile(_LINE_START + r"(['\"`])([\s\S]*)\1" + _LINE_END, re.MULTILINE)

_REFERENCE = re.compile(r"(?<!\\)\$\{([^{}]+)\}|(?<!\\)\$([A-Za-z_][A-Za-z0-9_]*)")
_OPERATOR = re.compile(r":\+|\+|:-|-")
_REPLACE_PATTERN = re.compile(r"\$([$&`'])")

# A value that refers to itself through an escaped dollar grows for ever in dotenv-expand.
_MAX_REPLACEMENTS = 1000
_MAX_LENGTH = 2**20  # characters


class ExpansionError(ValueError):
    """The value of `name` refers to itself without end."""

    def __init__(self, name: str) -> None:
        super().__init__(f'the references in "{name}" do not end')
        self.name = name


def parse_dotenv(text: str) -> dict[str, str]:
    """Names and values in file order; the last of equal names wins. Lines that are no assignment are skipped."""
    values: dict[str, str] = {}
    for found in _ASSIGNMENT.finditer(re.sub(r"\r\n?", "\n", text)):
        value = (found[2] or "").strip(_WHITE)
        unquoted = _QUOTED.sub(lambda quoted: quoted[2], value)
        if value.startswith('"'):
            unquoted = unquoted.replace("\\n", "\n").replace("\\r", "\r")
        values[found[1]] = unquoted
    return values


def expand(values: Mapping[str, str], process: Mapping[str, str]) -> dict[str, str]:
    """`values` with their `$NAME`, `${NAME:-default}`, `${NAME:+other}` replaced, in order.

    Only earlier names and those of `process` are visible, and a name that `process` sets (not to the empty string)
    keeps the value it has there. `\\$` is a literal dollar. Raises ExpansionError.
    """
    expanded: dict[str, str] = {}
    for name, value in values.items():
        outer = process.get(name)
        result = outer if outer and outer != value else _expand_value(name, value, process, expanded)
        expanded[name] = result.replace("\\$", "$")
    return expanded


def _expand_value(name: str, value: str, process: Mapping[str, str], earlier: Mapping[str, str]) -> str:
    result = value
    known = {**earlier, **process}
    seen: set[str] = set()
    for _ in range(_MAX_REPLACEMENTS):
        found = _REFERENCE.search(result)
        if found is None:
            return result
        seen.add(result)
        key, replacement = _resolve(found[1] or found[2], known, seen)
        result = _replace_first(result, found[0], replacement)
        if result == earlier.get(key):
            return result
        if len(result) > _MAX_LENGTH:
            break
    raise ExpansionError(name)


def _resolve(expression: str, known: Mapping[str, str], seen: set[str]) -> tuple[str, str]:
    """The name in an expression such as `A:-d`, and what the expression stands for."""
    operator = _OPERATOR.search(expression)
    if operator is None:
        key, word = expression, ""
    else:
        # JavaScript's `split` takes every occurrence of the first operator found; joining the rest restores it.
        key, _, word = expression.partition(operator[0])
    value = known.get(key, "")
    if operator is not None and operator[0].endswith("+"):
        return key, word if value else ""
    return key, value if value and value not in seen else word


def _replace_first(text: str, template: str, replacement: str) -> str:
    """JavaScript's `text.replace(template, replacement)`: `$$`, `$&`, `` $` `` and `$'` have a meaning there."""
    before, _, after = text.partition(template)
    meaning = {"$": "$", "&": template, "`": before, "'": after}
    return before + _REPLACE_PATTERN.sub(lambda pattern: meaning[pattern[1]], replacement) + after
