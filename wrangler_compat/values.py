"""The values of a configuration file: as plain JSON, and in words that do not show them, for they may be secrets."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from typing import Any

Table = dict[str, Any]
"""An object of a configuration file: any JSON value, and in TOML dates and times."""


def plain(value: Any) -> Any:
    """A value as JSON would carry it: dates as text, no infinity."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def kind(value: object) -> str:
    """What a value is, in words that do not show it."""
    kinds: dict[type, str] = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return kinds.get(type(value), "a TOML date")


def quoted(names: Iterable[str]) -> str:
    """Names for a message: `"a", "b"`."""
    return ", ".join(f'"{name}"' for name in names)
