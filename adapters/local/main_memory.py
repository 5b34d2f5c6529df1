"""What a cache may take of the machine's own memory; a GPU's is asked of torch."""

from __future__ import annotations

import os
from pathlib import Path

_SHARE = 0.5
"""Of memory that everything on the machine shares; a row takes it only as it is filled."""
_CGROUP = Path("/sys/fs/cgroup")
_MEMORY = Path("/proc/meminfo")


def free_for_cache(taken: int = 0) -> int:
    """Bytes, once `taken` of what is free now are in use too."""
    return int(max(0, min(_available(), _left_in_group(_CGROUP)) - taken) * _SHARE)


def _available() -> int:
    for line in _text(_MEMORY).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_in_group(group: Path) -> int:
    """What a container's limit leaves. Source: Linux, Documentation/admin-guide/cgroup-v2.rst."""
    limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
    return max(0, int(limit) - int(used)) if limit.isdecimal() and used.isdecimal() else 2**62


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
