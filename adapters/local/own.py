"""The relay's own engine as a process of the supervisor: what the operator says of it, its command, its last words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import msgspec

PROFILE = "relay"
ROWS = 32
"""Requests that are computed at once, unless the operator says otherwise."""
QUEUE = 64
"""Requests that wait beside them."""
TENANT = "x-relay-tenant"
"""The header by which the relay tells its engine who asks: a label that is no secret. Of what one tenant has asked
nothing is taken over for another."""
NOTE = ".relay-model.json"
"""What `relay models pull` leaves in the folder of a model that is whole."""
NEEDED = ("torch", "transformers", "tokenizers", "llguidance", "numpy")
INSTALL = "it needs the extra 'local': make install EXTRAS=local (or pip install 'workers-ai-relay[local]')"

REFUSED, FAILED = 78, 70
"""Exit statuses (EX_CONFIG and EX_SOFTWARE of sysexits.h) with which the last line of its output says why it ended.

That line is written for all to read: it never holds a prompt or an answer.
"""
EXPLAINED = frozenset((REFUSED, FAILED))


class OwnModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model of an engine of our own: a folder, or a model of the hub and the folder that it is pulled into.

    The values `auto` and `None` mean what folder and device suggest. `longest` is the context in tokens that the
    folder's files allow, where they are here and say so.
    """

    folder: Path
    repository: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantization: str = "none"
    threads: int | None = None
    longest: int | None = None


class OwnOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the process is told. `context` in tokens bounds prompt and answer together."""

    model: OwnModel
    names: tuple[str, ...]
    rows: int | None = None
    queue: int = QUEUE
    context: int | None = None
    embeddings: bool = False
    trust_remote_code: bool = False


def own_command(options: OwnOptions) -> tuple[str, ...]:
    """The command line; `{socket}` in it stands for where the process shall listen."""
    # -P: nothing in the folder that the relay was started in takes the place of a module.
    words = [sys.executable, "-P", "-m", "adapters.local.serving.main", "{socket}"]
    words += ["--model", os.fspath(options.model.folder)]
    words += [word for name in options.names for word in ("--name", name)]
    values = {
        "--repository": options.model.repository,
        "--device": options.model.device,
        "--dtype": options.model.dtype,
        "--quantization": options.model.quantization,
        "--threads": options.model.threads,
        "--rows": options.rows,
        "--queue": options.queue,
        "--context": options.context,
    }
    words += [word for flag, value in values.items() if value is not None for word in (flag, str(value))]
    words += ["--embeddings"] * options.embeddings + ["--trust-remote-code"] * options.trust_remote_code
    return tuple(words)


ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # a model that is not here is told at once, and nobody is told what runs here
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",  # one prompt is one thread's work
}


def missing_packages(names: Iterable[str] = NEEDED) -> list[str]:
    """Those of the extra that are not installed; nothing is imported."""
    return [name for name in names if find_spec(name) is None]


def missing_model(folder: Path, repository: str | None) -> str | None:
    """Why there is no model in `folder`, as words that follow the engine's name; `None` if there is one."""
    if repository is None:
        return None if (folder / "config.json").is_file() else f"there is no model in {folder} (no config.json)"
    if (folder / NOTE).is_file():
        return None
    state = "is not whole on this machine" if folder.is_dir() else "is not on this machine"
    return f"{repository} {state}: relay models pull {repository}"
