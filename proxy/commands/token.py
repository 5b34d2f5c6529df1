"""`relay token`: the only command that prints a secret."""

from __future__ import annotations

from typing import Any

import click

from proxy.commands.options import (
    read_settings,
    refuse,
    source_flags,
    source_options,
    state_dir_flag,
    tokens_or_exit,
)
from proxy.settings import Settings, SettingsError
from proxy.sources import SourceOptions


@click.command("token", short_help="Print a token that the relay accepts.")
@source_flags
@state_dir_flag
def command(**flags: Any) -> None:
    """Print a token that the relay accepts: the first one configured, else the stored one.

    Makes and stores one if there is none yet.
    """
    tokens, _ = tokens_or_exit(_settings(source_options(flags)))
    click.echo(tokens[0])


def _settings(options: SourceOptions) -> Settings:
    """Whatever is wrong with the rest, tokens can be told: half of Cloudflare's credentials may be wrangler's."""
    try:
        return read_settings(options)
    except SettingsError as exc:
        if exc.partial is None or exc.broken & {"tokens", "state_dir"}:
            refuse(exc)
        return exc.partial
