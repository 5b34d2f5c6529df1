"""Models that lie on this machine: `<state_dir>/models/<org>/<name>/`, with a note of where they came from."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from pathlib import Path

import msgspec

from adapters.local.own import NOTE

_PART = re.compile(r"(?!.*(?:\.\.|--))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
"""One half of the hub's `ORG/NAME`: huggingface_hub's `validate_repo_id` says what it may be."""


class StoredFile(msgspec.Struct, frozen=True):
    """`size` in bytes; `checksum` is `sha256:...`, or `git:...` for a small file, as git names its content."""

    name: str
    size: int
    checksum: str


class StoredModel(msgspec.Struct, frozen=True, kw_only=True):
    """What the note beside a whole model says. `commit` is the pinned revision, 40 hexadecimal digits."""

    id: str
    source: str
    revision: str
    commit: str
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


class LocalModel(msgspec.Struct, frozen=True):
    """A folder of a model. Without a `note` it is not whole: its download was cut off."""

    id: str
    folder: Path
    note: StoredModel | None

    @property
    def size(self) -> int:
        """Bytes on the disk, those of a download that is not finished included."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def is_repository(id: str) -> bool:
    """Is it `ORG/NAME`, which can become a path too?"""
    parts = id.split("/")
    return len(parts) == 2 and all(_PART.fullmatch(part) for part in parts)


def models_folder(state_dir: Path) -> Path:
    return state_dir / "models"


def model_folder(state_dir: Path, id: str) -> Path:
    """Where the model of this `ORG/NAME` lies or would lie. Raises ValueError for another kind of name."""
    if not is_repository(id):
        raise ValueError(f"{id!r} is no ORG/NAME")
    return models_folder(state_dir).joinpath(*id.split("/"))


def local_models(state_dir: Path) -> list[LocalModel]:
    """All of them by name, also those that are not whole."""
    found = []
    for folder in sorted(models_folder(state_dir).glob("*/*/")):
        id = f"{folder.parent.name}/{folder.name}"
        if is_repository(id):
            found.append(LocalModel(id, folder, read_note(folder)))
    return found


def find_model(state_dir: Path, id: str) -> LocalModel | None:
    return next((model for model in local_models(state_dir) if model.id == id), None)


def read_note(folder: Path) -> StoredModel | None:
    """The note of a whole model; `None` if there is none that can be read."""
    try:
        return msgspec.json.decode((folder / NOTE).read_bytes(), type=StoredModel)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None


def write_note(folder: Path, note: StoredModel) -> None:
    """From now on the model counts as whole. Raises OSError."""
    draft = folder / f"{NOTE}-{secrets.token_hex(4)}"
    try:
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(note), indent=2) + b"\n")
        os.replace(draft, folder / NOTE)
    finally:
        draft.unlink(missing_ok=True)


def forget_note(folder: Path) -> None:
    """What lies there is about to change, so it is whole no longer. Raises OSError."""
    (folder / NOTE).unlink(missing_ok=True)


def remove_model(model: LocalModel) -> None:
    """Delete it, and its organisation's folder if that is empty now. Raises OSError.

    Of a link nothing but the link: what it leads to is somebody else's.
    """
    if model.folder.is_symlink():
        model.folder.unlink()
        return
    # Not whole from the first moment on: a removal may be cut off too.
    forget_note(model.folder)
    shutil.rmtree(model.folder)
    if not model.folder.parent.is_symlink() and not any(model.folder.parent.iterdir()):
        model.folder.parent.rmdir()
