"""Where the clients run: which Node, what they find around them, and projects as their users have them."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.processes import finished
from tests.support.relay import KEY

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
ROOT = HERE.parent.parent
CONFIGURATION = {
    "name": "w",
    "main": "src/worker.mjs",
    "compatibility_date": "2025-01-01",
    "ai": {"binding": "AI"},
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A home folder of its own for every program, and no way to tell anybody of it."""

    home: Path

    def environ(self, **more: str) -> dict[str, str]:
        """The environment of a client: nothing of the developer's, and nothing to ask the network for."""
        folders = {name: str(self.home) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TMPDIR")}
        quiet = {
            "WRANGLER_SEND_METRICS": "false",
            "WRANGLER_HIDE_BANNER": "true",
            "CLOUDFLARE_CF_FETCH_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
        }
        return {"PATH": f"{MODULES / '.bin'}{os.pathsep}{os.environ['PATH']}", **folders, **quiet, **more}

    def prepare(self) -> None:
        """Older versions of wrangler ask the registry for a newer one, unless they have just done so."""
        for name in ("wrangler-latest", "wrangler-beta"):
            file = self.home / "update-check" / f"{name}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps({"latest": "0.0.1", "lastUpdate": int(time.time() * 1000)}))


def node(script: Path | str, *words: str) -> list[str]:
    """The command that runs a script, below this folder unless its path is absolute."""
    return [str(MODULES / ".bin" / "node"), str(HERE / script), *words]


def wrangler(package: str, *words: str) -> list[str]:
    return node(MODULES / package / "bin" / "wrangler.js", *words)


def make_project(folder: Path, package: str = "wrangler", *, toml: bool = False) -> Path:
    """A Worker with an AI binding, in which the wrangler of `package` is installed."""
    (folder / "src").mkdir(parents=True)
    for name in ("worker.mjs", "scenarios.mjs"):
        shutil.copy(HERE / name, folder / "src")
    shutil.copy(HERE / "vite.config.mjs", folder)
    if toml:
        lines = [f"{key} = {json.dumps(value)}" for key, value in CONFIGURATION.items() if key != "ai"]
        (folder / "wrangler.toml").write_text("\n".join([*lines, "[ai]", 'binding = "AI" # the model', ""]))
    else:
        (folder / "wrangler.jsonc").write_text("// A Worker\n" + json.dumps(CONFIGURATION, indent=2))
    modules = folder / "node_modules"
    # What wrangler up to some version looks up on the network, unless a recent answer is there.
    (modules / ".mf").mkdir(parents=True)
    (modules / ".mf" / "cf.json").write_text("{}")
    for entry in MODULES.iterdir():
        if not entry.name.startswith((".", "wrangler")):
            (modules / entry.name).symlink_to(entry)
    (modules / "wrangler").symlink_to(MODULES / package)
    return folder


def initialise(project: Path, surroundings: Surroundings) -> None:
    """What the user's guide says: `relay wrangler init --write`."""
    environ = surroundings.environ(PYTHONPATH=str(ROOT))
    words = [sys.executable, "-m", "proxy.cli", "wrangler", "init", "--write"]
    done = finished(words, cwd=project, env=environ)
    assert done.returncode == 0, done.stderr


def pointed(relay_url: str) -> dict[str, str]:
    """The variables that point wrangler, or the plugin, at a relay."""
    return {
        "CLOUDFLARE_API_BASE_URL": f"{relay_url}/client/v4",
        "CLOUDFLARE_ACCOUNT_ID": "local",
        "CLOUDFLARE_API_TOKEN": KEY,
    }


def printed_object(text: str) -> dict[str, Any]:
    """The JSON object that a script of ours prints as its last line."""
    document: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return document
