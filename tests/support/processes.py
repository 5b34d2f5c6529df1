"""Other processes, as tests see them: alive, gone, left behind."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.support.servers import DEADLINE


async def until_gone(pid: int) -> None:
    """Wait until the process, which need not be a child of ours, has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(DEADLINE):
            await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def is_alive(pid: int) -> bool:
    try:
        return _state(pid) != "Z"
    except OSError:
        return False


def children_of(parent: int) -> list[int]:
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if parent_of(int(entry)) == parent:
                found.append(int(entry))
        except OSError:
            continue  # it has ended meanwhile
    return found


def zombies() -> list[int]:
    """Children of this process that have ended and that nobody has waited for."""
    return [child for child in children_of(os.getpid()) if not is_alive(child)]


def written_pids(file: Path) -> list[int]:
    """The process ids in a file with one a line; none while it is not there."""
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def environment_of(pid: int) -> bytes:
    """As it was when the process began."""
    return Path(f"/proc/{pid}/environ").read_bytes()
