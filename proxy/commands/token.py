"""`relay token`: the only command that prints a secret."""

from __future__ import annotations

from typing import Any

import click

from proxy.commands.options import settings_or_exit, source_flags, source_options, state_dir_flag, tokens_or_exit


@click.command("token", short_help="Print a token that the relay accepts.")
@source_flags
@state_dir_flag
def command(**flags: Any) -> None:
    """Print a token that the relay accepts: the first one configured, else the stored one.

    Makes and stores one if there is none yet.
    """
    tokens, _ = tokens_or_exit(settings_or_exit(source_options(flags)))
    click.echo(tokens[0])
