"""What several commands share: the flags that name sources, and reading the settings through them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.table import Table

from auth.token_file import exposure
from proxy.commands.tokens import ensure_token, token_file
from proxy.setting_table import SETTINGS, Setting
from proxy.settings import Settings, SettingsError, load_settings
from proxy.sources import SourceOptions

WRONG_USAGE = 2

_Command = TypeVar("_Command", bound=Callable[..., Any])


def source_flags(command: _Command) -> _Command:
    """Adds `--config`, `--wrangler-config` and `--env`."""
    for flag, metavar, text in (
        ("--env", "NAME", "Environment in the wrangler files."),
        ("--wrangler-config", "FILE", "wrangler.json, .jsonc or .toml to take credentials from."),
        ("--config", "FILE", "Settings file instead of ./relay.toml."),
    ):
        command = click.option(flag, metavar=metavar, help=text)(command)
    return command


def setting_flag(setting: Setting) -> Callable[[_Command], _Command]:
    """The flag of one setting. It takes any text: settings report all that is wrong at once."""
    text = f"{setting.help} [{setting.env}]"
    if isinstance(setting.default, bool):
        switch = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}"
        return click.option(switch, setting.attribute, default=None, help=text)
    return click.option(setting.flag, setting.attribute, metavar="VALUE", help=text)


def setting_flags(command: _Command) -> _Command:
    """Adds a flag for every setting but the secrets, which other users could read in the process list."""
    for setting in reversed(SETTINGS):
        if not setting.secret:
            command = setting_flag(setting)(command)
    return command


def state_dir_flag(command: _Command) -> _Command:
    return _flags_of(command, "state_dir")


def address_flags(command: _Command) -> _Command:
    """Adds `--host`, `--port` and `--state-dir`: which relay is meant, and where its token is."""
    return _flags_of(command, "host", "port", "state_dir")


def _flags_of(command: _Command, *attributes: str) -> _Command:
    for setting in reversed(SETTINGS):
        if setting.attribute in attributes:
            command = setting_flag(setting)(command)
    return command


def source_options(flags: dict[str, Any]) -> SourceOptions:
    """From the keyword arguments of a command that has `source_flags`."""
    return SourceOptions.from_flags(flags)


def read_settings(options: SourceOptions) -> Settings:
    """The settings of this process. Raises SettingsError."""
    return load_settings(options.as_flags(), os.environ, Path.cwd())


def surroundings() -> Mapping[str, str]:
    """The environment variables of this process, for those that it starts."""
    return os.environ


def settings_or_exit(options: SourceOptions) -> Settings:
    """The settings, with their warnings on stderr; all their problems and exit status 2 if they are wrong."""
    try:
        settings = read_settings(options)
    except SettingsError as exc:
        refuse(exc)
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    return settings


def tokens_or_exit(settings: Settings) -> tuple[tuple[str, ...], bool]:
    """`ensure_token`, with a warning on stderr if others can read the stored token."""
    try:
        tokens, created = ensure_token(settings)
    except SettingsError as exc:
        refuse(exc)
    warn_of_exposed_token(settings)
    return tokens, created


def warn_of_exposed_token(settings: Settings) -> None:
    """A line on stderr if other users can read the token that clients present."""
    if not settings.tokens and (problem := exposure(token_file(settings))):
        click.echo(f"warning: {problem}", err=True)


def print_table(table: Table) -> None:
    """To a terminal in its width, elsewhere in lines as long as they have to be."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 1000
    console.print(table)


def refuse(error: SettingsError) -> NoReturn:
    """Warnings and problems on stderr, and exit status 2."""
    for warning in error.warnings:
        click.echo(f"warning: {warning}", err=True)
    for problem in error.problems:
        click.echo(f"error: {problem}", err=True)
    raise click.exceptions.Exit(WRONG_USAGE)
