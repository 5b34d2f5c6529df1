"""`relay config`: each setting, its value and where it came from."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table

from proxy.commands.options import address_flags, print_table, read_settings, refuse, source_flags, source_options
from proxy.setting_table import SETTINGS
from proxy.settings import Settings, SettingsError


@click.command("config", short_help="Show each setting and where it came from.")
@source_flags
@address_flags
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool, **flags: Any) -> None:
    """Show each setting, its value and where it came from. Secrets are masked.

    Where some are wrong, the others are shown, then what is wrong; exit status 2.
    """
    try:
        settings = read_settings(source_options(flags))
    except SettingsError as exc:
        if exc.partial is not None:
            _show(exc.partial, exc.problems, as_json)
        refuse(exc)
    _show(settings, (), as_json)
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)


def _show(settings: Settings, problems: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_document(settings, problems), indent=2))
        return
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for setting in SETTINGS:
        table.add_row(setting.env, _text(settings.shown(setting)), settings.origins[setting.attribute])
    for alias, model in settings.aliases.items():
        table.add_row(f'aliases."{alias}"', model, settings.origins["aliases"])
    for model, mode in settings.model_streams.items():
        table.add_row(f'models."{model}".stream', mode, settings.origins["model_streams"])
    print_table(table)


def _document(settings: Settings, problems: tuple[str, ...]) -> dict[str, Any]:
    return {
        "upstream": settings.upstream,
        "settings": {
            setting.env: {"value": settings.shown(setting), "origin": settings.origins[setting.attribute]}
            for setting in SETTINGS
        },
        "aliases": dict(settings.aliases),
        "models": {model: {"stream": mode} for model, mode in settings.model_streams.items()},
        "warnings": list(settings.warnings),
        "problems": list(problems),
    }


def _text(value: Any) -> str:
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, list) else str(value)
