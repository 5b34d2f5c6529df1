"""Which file is a project's configuration.

Source: cloudflare/workers-sdk, packages/workers-utils/src/config, as of wrangler 4.164.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from wrangler_compat.files import Files

_FILE_NAMES = ("wrangler.json", "wrangler.jsonc", "wrangler.toml")


def find_config(files: Files, script: Path | None) -> Path | None:
    """The nearest `wrangler.json` here or above; only if there is none at all a `.jsonc`, then a `.toml`.

    Where a folder cannot be looked into, the search ends: a file further up might be another project's.
    """
    start = Path(os.path.abspath(files.directory / script)).parent if script is not None else files.directory
    for name in _FILE_NAMES:
        for folder in (start, *start.parents):
            path = folder / name
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    return path
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError) as exc:
                files.unreadable(path, exc)
                return None
    return None
