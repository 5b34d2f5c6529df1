"""The catalogue as the account last told it, kept in the state folder."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

from adapters.catalogue import Catalogue, dump, is_account_id, load, load_snapshot

log = logging.getLogger("relay")


class StoredCatalogueError(Exception):
    """The file is there and cannot be used."""


def catalogue_file(state_dir: Path) -> Path:
    return state_dir / "catalogue.json"


def read_catalogue(state_dir: Path) -> Catalogue:
    """What was stored, else the snapshot that ships with the relay. Raises StoredCatalogueError."""
    file = catalogue_file(state_dir)
    try:
        stored = load(file.read_bytes())
    except FileNotFoundError:
        return load_snapshot()
    except (OSError, ValueError) as exc:  # msgspec's errors are ValueErrors
        raise _unusable(file) from exc
    sound = [model for model in stored if is_account_id(model.id)]
    if not sound:
        raise _unusable(file)
    if len(sound) == len(stored):
        return stored
    log.warning(
        "%s: %d rows left out, their ids are none that a model can have; `relay models refresh` writes it anew",
        file,
        len(stored) - len(sound),
    )
    return Catalogue(sound, stored.as_of)


def _unusable(file: Path) -> StoredCatalogueError:
    return StoredCatalogueError(f"{file} cannot be used; `relay models refresh` writes it anew")


def write_catalogue(state_dir: Path, catalogue: Catalogue) -> Path:
    """Store it whole or not at all; a reader never sees half of it. Raises OSError."""
    file = catalogue_file(state_dir)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        draft.write_bytes(dump(catalogue))
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)
    return file
