"""LoRA adapters, kept below the state folder: one folder each, with its record and the two files that make it.

    finetunes/<uuid>/finetune.json  adapter_config.json  adapter_model.safetensors

Limits as Cloudflare's page on LoRA adapters has them (2026-09).
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import secrets
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from adapters.errors import Fault, InvalidRequest, RelayError
from wrangler_compat.lora_files import MAX_FILE, check_config, check_weights

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FILES = (CONFIG, WEIGHTS)
MAX_ADAPTERS = 100

_RECORD = "finetune.json"
_CHECKS = {CONFIG: check_config, WEIGHTS: check_weights}


class Finetune(msgspec.Struct, frozen=True, kw_only=True):
    """A record; `model` is the id of the base model, the times are ISO's."""

    id: str
    model: str
    name: str
    description: str
    public: bool
    created_at: str
    modified_at: str


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Finetune)


class Finetunes:
    """The store. Every call reads or writes files: not for the event loop.

    It keeps nothing in memory, so that several processes on one state folder agree.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "finetunes"

    def all(self) -> list[Finetune]:
        """The oldest first. A folder without a readable record is passed over."""
        return sorted(self._records(), key=lambda finetune: (finetune.created_at, finetune.id))

    def find(self, name: str) -> Finetune | None:
        """The adapter with this id or name, as `lora` names it in a request."""
        return next((finetune for finetune in self.all() if name in (finetune.id, finetune.name)), None)

    def lacking(self, finetune: Finetune) -> tuple[str, ...]:
        """Names of the files that have not been uploaded: without them nothing can use the adapter (3039)."""
        return tuple(name for name in FILES if not (self._folder / finetune.id / name).is_file())

    def create(self, *, model: str, name: str, description: str = "", public: bool = False) -> Finetune:
        """Raises InvalidRequest for a name that is taken, or if there are too many."""
        with self._locked():
            present = self.all()
            if len(present) >= MAX_ADAPTERS:
                raise InvalidRequest(f"There are {len(present)} adapters already; {MAX_ADAPTERS} are allowed.")
            if any(name in (finetune.id, finetune.name) for finetune in present):
                raise InvalidRequest("Invalid 'name': there is an adapter of that name.", param="name")
            now = _now()
            finetune = Finetune(
                id=str(uuid.uuid4()),
                model=model,
                name=name,
                description=description,
                public=public,
                created_at=now,
                modified_at=now,
            )
            self._write(finetune)
            return finetune

    def delete(self, name: str) -> Finetune:
        """Remove the adapter of this id or name with its files. Raises RelayError if there is none."""
        with self._locked():
            finetune = self._present(name)
            folder = self._folder / finetune.id
            (folder / _RECORD).unlink()  # without it nobody finds what is left, should the rest fail
            shutil.rmtree(folder)
        return finetune

    def keep_asset(self, name: str, file_name: str, file: IO[bytes]) -> Finetune:
        """Check and store one of the two files of the adapter `name`, in place of an earlier one.

        Raises RelayError if there is no such adapter, InvalidRequest if the file is not what its name says.
        """
        finetune = self._present(name)
        if file_name not in _CHECKS:
            raise InvalidRequest(f"Invalid 'file_name': expected {CONFIG} or {WEIGHTS}.", param="file_name")
        size = file.seek(0, os.SEEK_END)
        if size > MAX_FILE:
            raise InvalidRequest(f"Invalid 'file': {file_name} has more than {MAX_FILE // 2**20} MiB.", param="file")
        file.seek(0)
        _CHECKS[file_name](file, size)
        file.seek(0)
        with self._locked():
            changed = msgspec.structs.replace(self._present(finetune.id), modified_at=_now())
            self._store(finetune.id, file_name, file)
            self._write(changed)
        return changed

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time, among the threads and the processes on this state folder."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(self._folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _present(self, name: str) -> Finetune:
        finetune = self.find(name)
        if finetune is None:
            raise RelayError(Fault.MODEL_NOT_FOUND, "There is no finetune of that id or name.", param="finetune_id")
        return finetune

    def _records(self) -> Iterator[Finetune]:
        if not self._folder.is_dir():
            return
        for folder in self._folder.iterdir():
            try:
                record = _decoder.decode((folder / _RECORD).read_bytes())
            except (OSError, msgspec.DecodeError):
                continue
            if record.id == folder.name:
                yield record

    def _write(self, finetune: Finetune) -> None:
        folder = self._folder / finetune.id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = _draft_of(folder / _RECORD)
        try:
            with _new_file(draft) as stream:
                stream.write(_encode(finetune))
            os.replace(draft, folder / _RECORD)
        finally:
            draft.unlink(missing_ok=True)

    def _store(self, id: str, file_name: str, file: IO[bytes]) -> None:
        """Whole or not at all; a reader never sees half of it."""
        target = self._folder / id / file_name
        draft = _draft_of(target)
        try:
            with _new_file(draft) as stream:
                shutil.copyfileobj(file, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)


def _draft_of(file: Path) -> Path:
    return file.with_name(f".{file.name}-{secrets.token_hex(8)}")


def _new_file(path: Path) -> IO[bytes]:
    """For its owner alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
