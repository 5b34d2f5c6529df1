"""The token that the relay makes for itself, in a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

PREFIX = "sk-relay-"


class TokenFileError(Exception):
    """The file cannot be made, or does not hold a token."""


class FolderUnusable(TokenFileError):
    """The file can neither be read nor made where it shall be."""


def read_or_create(file: Path) -> tuple[str, bool]:
    """The token, and whether this call made it. Raises TokenFileError, FolderUnusable among them."""
    try:
        if token := _read(file):
            return token, False
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _create(file, PREFIX + secrets.token_urlsafe(32))
    except OSError as exc:
        raise FolderUnusable(f"{file}: cannot keep the relay's token here ({exc.strerror})") from exc


def exposure(file: Path) -> str | None:
    """What is wrong with the file's permissions, and what to do."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return None
    if os.name == "posix" and mode & 0o077:
        return f"{file} holds the relay's token and others can read it (mode {mode:03o}); run: chmod 600 {file}"
    return None


def _read(file: Path) -> str | None:
    try:
        token = file.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable() or " " in token or "," in token:
        raise TokenFileError(f"{file}: expected one token; delete the file to have a new one made")
    return token


def _create(file: Path, token: str) -> tuple[str, bool]:
    """Put the token in place whole: of several processes that start at once, one wins and all agree."""
    draft = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        _write_new(draft, token)
        try:
            os.link(draft, file)  # unlike a rename, it fails if the name is taken
        except FileExistsError:
            raise
        except OSError:  # a file system without links; here the winner's file is empty for a moment
            _write_new(file, token)
    except FileExistsError:
        return _read(file) or token, False
    finally:
        draft.unlink(missing_ok=True)
    return token, True


def _write_new(file: Path, token: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
        stream.write(token + "\n")
        stream.flush()
        os.fsync(stream.fileno())
