"""Which files of a model's repository are worth having, and which could run code of their author's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

_WEIGHTS = "*.safetensors"
_BESIDE = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "LICENSE*")
"""Configuration, tokenizers and chat templates. `*.py` is none of it: it would only run under `trust_remote_code`."""
_DOUBLE = "consolidated*.safetensors"  # the same weights in their author's own layout

# Python's pickle runs what its author wants while it is read, and NumPy's and Keras' files can hold pickles.
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.npy", "*.npz", "*.h5", "*.keras")


class NothingToPull(Exception):
    """The message says why and what to do."""


def choose_files(names: Iterable[str], include: Sequence[str], all_formats: bool) -> list[str]:
    """The files to have. Raises NothingToPull.

    Without `include` those are safetensors and what belongs to them, with `all_formats` all. Names that begin with a
    dot, at any depth, are the hub's own affairs.
    """
    sound = sorted(name for name in names if is_sound(name))
    if include:
        chosen = [name for name in sound if _matches(name, include)]
        if not chosen:
            raise NothingToPull(f"no file is called {' or '.join(include)}; there are: {_some(sound)}")
        if not all_formats and (unsafe := [name for name in chosen if _matches(name, _PICKLES)]):
            raise NothingToPull(
                f"{_some(unsafe)}: a format that can run code of its author's while it is loaded; "
                "--all-formats takes it all the same"
            )
        return chosen
    if all_formats:
        return sound
    weights = [name for name in sound if _matches(name, [_WEIGHTS])]
    if not weights:
        raise NothingToPull(
            f"it has no safetensors; it has: {_some(sound)}. --include '*.gguf' takes such files, "
            "--all-formats everything, formats that can run code included"
        )
    plain = [name for name in weights if not fnmatchcase(PurePosixPath(name).name, _DOUBLE)]
    return sorted([*(plain or weights), *(name for name in sound if _matches(name, _BESIDE))])


def is_sound(name: str) -> bool:
    """Is it a plain path below a folder, without anything hidden?"""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and all(part and not part.startswith(".") for part in parts)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """By the whole path or by its last part, in any case: `*.BIN` is a pickle too."""
    forms = (name.casefold(), PurePosixPath(name).name.casefold())
    return any(fnmatchcase(form, pattern.casefold()) for form in forms for pattern in patterns)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown or "nothing"
