"""`adapters.local.main_memory`: what a cache may take of the machine's own memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.local import main_memory
from adapters.local.main_memory import free_for_cache

LIMITS = {
    "no limit": ({"memory.max": "max\n", "memory.current": "5\n"}, 4000 * 512),
    "no group": ({}, 4000 * 512),
    "a container's": ({"memory.max": "3000\n", "memory.current": "1000\n"}, 1000),
    "one that is passed": ({"memory.max": "3000\n", "memory.current": "4000\n"}, 0),
}


@pytest.mark.parametrize(("files", "bytes"), LIMITS.values(), ids=LIMITS)
def test_the_half_of_what_the_machine_or_the_container_leaves(
    files: dict[str, str], bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    monkeypatch.setattr(main_memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(main_memory, "_MEMORY", tmp_path / "meminfo")
    assert free_for_cache() == bytes
    assert free_for_cache(taken=1000) == max(0, bytes - 500)


def test_without_linux_it_is_the_half_of_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_memory, "_MEMORY", tmp_path / "none")
    monkeypatch.setattr(main_memory, "_CGROUP", tmp_path)
    assert free_for_cache() > 2**26
