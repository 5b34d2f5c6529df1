"""`auth.token_file`: made once, whole, and for its owner alone."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from auth import token_file
from auth.token_file import PREFIX, FolderUnusable, TokenFileError, exposure, read_or_create


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_call_makes_it_and_the_next_ones_read_it(tmp_path: Path) -> None:
    file = tmp_path / "state" / "token"
    token, created = read_or_create(file)
    assert created
    assert token.startswith(PREFIX)
    assert len(token) > 40
    assert read_or_create(file) == (token, False)
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert os.listdir(file.parent) == ["token"]
    assert exposure(file) is None


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_processes_that_start_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Both find no file; then one after the other comes to write it."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "not permitted")

    if not links:
        monkeypatch.setattr("auth.token_file.os.link", refuse)
    file = tmp_path / "token"
    first = token_file._create(file, "sk-relay-first")
    second = token_file._create(file, "sk-relay-second")
    assert (first, second) == (("sk-relay-first", True), ("sk-relay-first", False))
    assert file.read_text() == "sk-relay-first\n"
    assert os.listdir(tmp_path) == ["token"]


def test_many_threads_make_one_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(read_or_create, [tmp_path / "token"] * 32))
    assert len({token for token, _ in results}) == 1
    assert sum(created for _, created in results) == 1


BROKEN = {"empty": b"", "two words": b"a b", "binary": b"\xff\xfe", "a list": b"a,b", "two lines": b"a\nb\n"}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_holds_no_token_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(TokenFileError, match="expected one token"):
        read_or_create(file)
    assert file.read_bytes() == content


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(FolderUnusable, match="state"):
        read_or_create(tmp_path / "state" / "token")


def test_others_who_can_read_it_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token, _ = read_or_create(file)
    file.chmod(0o640)
    complaint = exposure(file)
    assert complaint is not None
    assert "chmod 600" in complaint
    assert token not in complaint
    assert exposure(tmp_path / "none") is None
