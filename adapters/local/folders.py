"""Where engines keep their sockets and logs, derived from the state directory alone: other processes find them too."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

_LONGEST_SOCKET_PATH = 100  # bytes; a socket's address holds 104 on some systems, 108 on Linux, each with a final zero
_CONTROL = "control.sock"
_SHORT = Path("/tmp")  # not tempfile's: it follows the environment, which the relay and its commands need not share


class FolderRefused(Exception):
    """The run folder cannot be made, or is not ours alone."""


def run_folder(state_dir: Path) -> Path:
    """The folder of the sockets. One with a short path takes its place where a socket's name would not fit."""
    folder = state_dir.absolute() / "run"
    if len(os.fsencode(engine_socket(folder, ""))) <= _LONGEST_SOCKET_PATH:
        return folder
    return _SHORT / f"workers-ai-relay-{os.getuid()}-{_digest(os.fspath(state_dir.absolute()))}"


def control_socket(state_dir: Path) -> Path:
    """Where the supervisor of this state directory's relay listens."""
    return run_folder(state_dir) / _CONTROL


def engine_socket(folder: Path, name: str) -> Path:
    """What `{socket}` stands for in the command of the engine `name`."""
    return folder / f"{_digest(name)}.sock"


def engine_lock(folder: Path, name: str) -> Path:
    """The file that is locked as long as a process of the engine `name` may be left."""
    return folder / f"{_digest(name)}.lock"


def log_file(state_dir: Path, name: str) -> Path:
    """The engine's log; an older half lies beside it as `log.1`."""
    return state_dir / "engines" / name / "log"


def make_private(folder: Path) -> None:
    """Make the folder if need be, readable by its owner alone. Raises FolderRefused."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise FolderRefused(f"{folder}: another user's, or no folder")
        folder.chmod(0o700)
    except OSError as exc:
        raise FolderRefused(f"{folder}: cannot be used ({exc.strerror})") from exc


def _digest(name: str) -> str:
    return hashlib.blake2s(name.encode(errors="surrogateescape"), digest_size=5).hexdigest()
