"""`relay serve`."""

from __future__ import annotations

from typing import Any

import click

from proxy.commands.options import (
    refuse,
    setting_flags,
    settings_or_exit,
    source_flags,
    source_options,
    warn_of_exposed_token,
)
from proxy.server import run
from proxy.settings import SettingsError


@click.command("serve", short_help="Start the relay.")
@source_flags
@setting_flags
def command(**flags: Any) -> None:
    """Start the relay and serve until it is told to stop.

    Every flag can also be set by the environment variable behind it, or in relay.toml.
    """
    options = source_options(flags)
    settings = settings_or_exit(options)
    warn_of_exposed_token(settings)
    try:
        status = run(settings, options)
    except SettingsError as exc:  # the stored token cannot be read, or is no fit for this address
        refuse(exc)
    raise click.exceptions.Exit(status)
