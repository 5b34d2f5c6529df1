"""Which file is a project's configuration.

Source: cloudflare/workers-sdk, packages/workers-utils/src/config, as of wrangler 4.164.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from wrangler_compat.files import Files
from wrangler_compat.jsonc import JsoncError, parse_jsonc

_FILE_NAMES = ("wrangler.json", "wrangler.jsonc", "wrangler.toml")
_DEPLOY_CONFIG = Path(".wrangler", "deploy", "config.json")


class Location(NamedTuple):
    """Where a project's configuration is."""

    config: Path | None
    """The file to read; None where there is none, or where a redirect is wrong (an error)."""
    user: Path | None
    """The user's own file, beside which `.dev.vars` and `.env` lie; another than `config` after a redirect."""

    @property
    def redirected(self) -> bool:
        return self.config is not None and self.config != self.user


def find_config(files: Files, script: Path | None, *, redirect: bool = False) -> Location:
    """The nearest `wrangler.json` here or above; only if there is none at all a `.jsonc`, then a `.toml`.

    With `redirect`, as for `wrangler dev` and `deploy`, a build tool's `.wrangler/deploy/config.json` beside it may
    name another file to read in its place.
    """
    start = files.directory
    if script is not None:
        # Wrangler applies the folder of a relative script twice: `src/src` first, and for `../x.js` not `..` at all.
        start = Path(os.path.abspath(files.directory / script.parent / script.parent))
    user = _nearest(files, start, [Path(name) for name in _FILE_NAMES])
    deploy = _nearest(files, start, [_DEPLOY_CONFIG]) if redirect else None
    return Location(user if deploy is None else _redirected(files, deploy, user), user)


def _nearest(files: Files, start: Path, names: list[Path]) -> Path | None:
    """The nearest file of the first name that is found at all.

    Where a folder cannot be looked into, the search ends: a file further up might be another project's.
    """
    for name in names:
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


def _redirected(files: Files, deploy: Path, user: Path | None) -> Path | None:
    """The file that a deploy configuration names; None and an error where it may not."""
    shown = files.shown(deploy)
    text = files.text(deploy)
    if text is None:
        return None
    try:
        content = parse_jsonc(text.removeprefix("\ufeff"))
    except JsoncError as exc:
        files.errors.append(f"{shown}{f':{exc.line}' if exc.line else ''}: {exc}")
        return None
    named = content.get("configPath") if isinstance(content, dict) else None
    if not isinstance(named, str) or not named:
        files.errors.append(f'{shown}: must hold an object with the path of a configuration in "configPath"')
        return None
    target = Path(os.path.abspath(deploy.parent / named))
    if not os.path.exists(target):
        files.errors.append(f'{shown}: its "configPath" leads to {files.shown(target)}, which does not exist')
        return None
    if user is not None and user.parent / _DEPLOY_CONFIG != deploy:
        files.errors.append(f"{shown}: does not lie beside {files.shown(user)}, so which of them counts is unclear")
        return None
    return target
