"""`relay config`: each setting, its value and where it came from."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table

from proxy.commands.options import print_table, settings_or_exit, source_flags, source_options
from proxy.setting_table import SETTINGS
from proxy.settings import Settings


@click.command("config", short_help="Show each setting and where it came from.")
@source_flags
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool, **flags: Any) -> None:
    """Show each setting, its value and where it came from. Secrets are masked."""
    settings = settings_or_exit(source_options(flags))
    if as_json:
        click.echo(json.dumps(_document(settings), indent=2))
        return
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for setting in SETTINGS:
        table.add_row(setting.env, _text(settings.shown(setting)), settings.origins[setting.attribute])
    for alias, model in settings.aliases.items():
        table.add_row(f'aliases."{alias}"', model, settings.origins["aliases"])
    for model, mode in settings.model_streams.items():
        table.add_row(f'models."{model}".stream', mode, settings.origins["model_streams"])
    print_table(table)


def _document(settings: Settings) -> dict[str, Any]:
    return {
        "upstream": settings.upstream,
        "settings": {
            setting.env: {"value": settings.shown(setting), "origin": settings.origins[setting.attribute]}
            for setting in SETTINGS
        },
        "aliases": dict(settings.aliases),
        "models": {model: {"stream": mode} for model, mode in settings.model_streams.items()},
        "warnings": list(settings.warnings),
    }


def _text(value: Any) -> str:
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, list) else str(value)
