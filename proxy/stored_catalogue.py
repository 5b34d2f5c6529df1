"""The catalogue as the account last told it, kept in the state folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from adapters.catalogue import Catalogue, dump, load, load_snapshot


class StoredCatalogueError(Exception):
    """The file is there and cannot be used."""


def catalogue_file(state_dir: Path) -> Path:
    return state_dir / "catalogue.json"


def read_catalogue(state_dir: Path) -> Catalogue:
    """What was stored, else the snapshot that ships with the relay. Raises StoredCatalogueError."""
    file = catalogue_file(state_dir)
    try:
        return load(file.read_bytes())
    except FileNotFoundError:
        return load_snapshot()
    except (OSError, ValueError) as exc:  # msgspec's errors are ValueErrors
        raise StoredCatalogueError(f"{file} cannot be used; `relay models refresh` writes it anew") from exc


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
