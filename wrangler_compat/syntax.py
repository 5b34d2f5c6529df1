"""A configuration file to its object, from TOML or from JSON with comments.

Source: cloudflare/workers-sdk, packages/workers-utils/src/parse.ts, as of wrangler 4.164.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from wrangler_compat.files import Files
from wrangler_compat.jsonc import JsoncError, parse_jsonc
from wrangler_compat.values import Table, kind

_TOML_MESSAGE = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)


def parse_config(files: Files, path: Path) -> Table:
    """The object in the file, `{}` if it holds none. By its suffix: any other than these three is not even read."""
    if not path.name.endswith((".json", ".jsonc", ".toml")):
        return {}
    shown = files.shown(path)
    faults = len(files.errors)
    text = files.text(path)
    if text is None:
        if len(files.errors) == faults:
            files.errors.append(f"{shown}: cannot be read (No such file or directory)")
        return {}
    text = text.removeprefix("\ufeff")
    try:
        raw = tomllib.loads(text) if path.name.endswith(".toml") else parse_jsonc(text)
    except JsoncError as exc:
        files.errors.append(f"{shown}{f':{exc.line}' if exc.line else ''}: {exc}")
        return {}
    except ValueError as exc:  # TOMLDecodeError, or an integer of thousands of digits
        found = _TOML_MESSAGE.fullmatch(str(exc))
        line = (found[2] or text.count("\n") + 1) if found else None
        files.errors.append(f"{shown}{f':{line}' if line else ''}: {found[1] if found else 'not valid TOML'}")
        return {}
    if not isinstance(raw, dict):
        files.errors.append(f"{shown}: must hold an object, not {kind(raw)}")
        return {}
    return raw
