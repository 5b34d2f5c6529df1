"""The relay's Miniflare plugin in a project: which wrangler runs there, and the plugin's files beside its code."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path

from wrangler_compat.plugin_entry import PACKAGE, Form

FOLDER = "relay-miniflare"

_UNSAFE_SINCE = (4, 36)
_SERVICES_SINCE = (4, 102)
_ADD_COMMANDS = {
    "pnpm-lock.yaml": f"pnpm add -D ./{FOLDER}",
    "yarn.lock": f"yarn add -D file:./{FOLDER}",
    "bun.lock": f"bun add -d ./{FOLDER}",
    "bun.lockb": f"bun add -d ./{FOLDER}",
}


class NotOurs(Exception):
    """The folder for the plugin holds something else."""


@dataclass(frozen=True, slots=True)
class Wrangler:
    """The wrangler that runs in a project; `version` is None where none is installed."""

    version: str | None

    @property
    def form(self) -> Form | None:
        """The newest form of the entry that it knows; None before 4.36, which needs no entry."""
        found = re.match(r"(\d+)\.(\d+)\.", self.version or "")
        number = (int(found[1]), int(found[2])) if found else (0, 0)
        if number >= _SERVICES_SINCE or number == (0, 0):  # 0.0.0 are builds of a branch
            return "services"
        return "unsafe" if number >= _UNSAFE_SINCE else None


def installed_wrangler(base: Path) -> Wrangler:
    """The wrangler that Node finds from the folder `base`."""
    for folder in (base, *base.parents):
        try:
            content = json.loads((folder / "node_modules" / "wrangler" / "package.json").read_bytes())
        except (OSError, ValueError):
            continue
        version = content.get("version") if isinstance(content, dict) else None
        return Wrangler(version if isinstance(version, str) else None)
    return Wrangler(None)


def add_command(base: Path) -> str:
    """What makes the plugin a dependency of the project, with the package manager that its lock file tells of."""
    for folder in (base, *base.parents):
        if (folder / "package-lock.json").exists():
            break
        for name, command in _ADD_COMMANDS.items():
            if (folder / name).exists():
                return command
    return f"npm install --save-dev ./{FOLDER}"


def copy_plugin(base: Path) -> bool:
    """Put the plugin's files into the project; False if they are there already. Raises NotOurs, OSError."""
    target = base / FOLDER
    contents = {item.name: item.read_bytes() for item in (package_files("wrangler_compat") / "miniflare").iterdir()}
    present = {name: (target / name).read_bytes() for name in contents if (target / name).is_file()}
    if present == contents:
        return False
    if target.exists() and not _is_plugin(target):
        raise NotOurs(f"{FOLDER}/ is there and is not the relay's plugin; move it away")
    target.mkdir(exist_ok=True)
    for name, content in contents.items():
        (target / name).write_bytes(content)
    return True


def _is_plugin(folder: Path) -> bool:
    try:
        content = json.loads((folder / "package.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("name") == PACKAGE
