"""Private folders: gone with their block, or with the next process where theirs was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from proxy.scratch_folder import scratch_folder

HOLDER = """
import sys
from proxy.scratch_folder import scratch_folder
with scratch_folder("scratch-test-") as folder:
    sys.stdout.write(f"{folder}\\n")
    sys.stdout.flush()
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def aged(folder: Path) -> Path:
    long_ago = time.time() - 3600
    os.utime(folder, (long_ago, long_ago), follow_symlinks=False)
    return folder


def test_it_is_private_and_gone_behind_the_block() -> None:
    with scratch_folder("scratch-test-") as folder:
        (folder / "figures").write_text("1")
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_holds_is_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        held = aged(Path(process.stdout.readline().strip()))
        with scratch_folder("scratch-test-"):
            assert held.exists()
    finally:
        process.kill()
        process.communicate()
    with scratch_folder("scratch-test-"):
        assert not held.exists()


@pytest.mark.parametrize("make", ["young", "unmarked", "link"])
def test_what_is_young_or_not_ours_stays(make: str, tmp_path: Path) -> None:
    other = tmp_path / "scratch-test-other"
    if make == "link":
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "in-use").touch()
        other.symlink_to(tmp_path / "target")
        aged(other)
    else:
        other.mkdir()
        if make == "young":
            (other / "in-use").touch()
        else:
            aged(other)
    with scratch_folder("scratch-test-"):
        assert other.exists()
