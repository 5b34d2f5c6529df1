"""What a check of `relay doctor` says."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["ok", "warning", "failed", "skipped"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at, what was seen, and what to do about it."""

    name: str
    status: Status
    text: str
    advice: str = ""
