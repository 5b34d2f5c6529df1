"""Recorded wire data, byte for byte as it is fed to the decoders; README.md says where each file comes from."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def read(name: str) -> bytes:
    """The bytes of one recording."""
    return (FOLDER / name).read_bytes()
