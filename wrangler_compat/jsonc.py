"""JSON with comments and trailing commas, as wrangler reads its configuration.

The structure is read by `json5`, which accepts far more than JSON (single quotes, bare keys, `NaN`, hexadecimal
numbers, ...). So each token is checked first: what passes both is exactly what `jsonc-parser`, with trailing
commas allowed, passes in wrangler (cloudflare/workers-sdk: packages/workers-utils/src/parse.ts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import json5

_TOKEN = re.compile(
    r"""
      (?P<comment> //[^\r\n]* | /\*.*?\*/ )
    | (?P<string>  "(?: [^"\\\x00-\x1f] | \\["\\/bfnrt] | \\u[0-9A-Fa-f]{4} )*" )
    | [ \t\r\n{}\[\],:]+ | -?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)? | true | false | null
    """,
    re.VERBOSE | re.DOTALL,
)
_JSON5_MESSAGE = re.compile(r"<string>:(\d+) Unexpected (end of input)?")
_MAX_SAFE_INTEGER = 2**53 - 1


class JsoncError(ValueError):
    """Not JSON with comments. `line` counts from 1; None where the fault has no line. The text quotes nothing."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def parse_jsonc(text: str) -> object:
    """The value of `text`, which has lost its byte-order mark. The last of equal keys wins. Raises JsoncError."""
    plain = "".join(_tokens(text))
    if not plain.strip():
        raise JsoncError("the file is empty")
    try:
        value: object = json5.loads(plain, parse_int=_integer)
    except RecursionError:
        raise JsoncError("nested too deeply") from None
    except ValueError as exc:
        # Its message quotes the character it stumbled over; ours does not.
        found = _JSON5_MESSAGE.match(str(exc))
        if found is None:
            raise JsoncError("not valid JSON") from None
        end = found[2] is not None
        raise JsoncError("the file ends too early" if end else "not valid JSON", int(found[1])) from None
    return value


def _tokens(text: str) -> Iterator[str]:
    """The tokens of `text` with comments blanked (line feeds stay, so that lines keep their numbers)."""
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise JsoncError("not valid JSON", text.count("\n", 0, position) + 1)
        position = found.end()
        if found["comment"] is not None:
            # json5 ends a `//` comment at U+2028 too, JSON with comments does not.
            yield re.sub(r"[^\n]", " ", found[0])
        elif found["string"] is not None:
            # json5 leaves the halves of an escaped surrogate pair apart, and such a string cannot be encoded.
            halves: str = json.loads(found[0])
            whole = halves.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            yield json.dumps(whole, ensure_ascii=False)
        else:
            yield found[0]


def _integer(digits: str) -> int | float:
    """A number as JavaScript holds it: exact up to 2**53, a double beyond."""
    value = float(digits)
    return int(digits) if abs(value) <= _MAX_SAFE_INTEGER else value
