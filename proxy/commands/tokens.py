"""The tokens that let clients in: those configured, else the one that the relay made for itself."""

from __future__ import annotations

from pathlib import Path

from auth.token_file import FolderUnusable, TokenFileError, read_or_create
from proxy.settings import Settings, SettingsError, public_token_problem


def token_file(settings: Settings) -> Path:
    return settings.state_dir / "token"


def ensure_token(settings: Settings) -> tuple[tuple[str, ...], bool]:
    """The tokens to accept, and whether one was made just now. Raises SettingsError."""
    if settings.tokens:
        return settings.tokens, False
    file = token_file(settings)
    try:
        token, created = read_or_create(file)
    except FolderUnusable as exc:
        problem = f"{settings.names['state_dir']}: expected a folder that can be written; {exc}"
        raise SettingsError((problem,)) from exc
    except TokenFileError as exc:
        raise SettingsError((str(exc),)) from exc
    if short := public_token_problem(settings.host, (token,), str(file)):
        raise SettingsError((short,))
    return (token,), created
