"""`relay config`: each setting, its value and where it came from."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table

from proxy.commands.options import address_flags, print_table, read_settings, refuse, source_flags, source_options
from proxy.engine_table import shown_engine
from proxy.setting_table import SETTINGS
from proxy.settings import MASK, Settings, SettingsError


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
    for model, options in _models(settings).items():
        for option, value in options.items():
            table.add_row(f'models."{model}".{option}', _text(value), settings.origins["model_rules"])
    for engine in settings.engines:
        for key, value in shown_engine(engine, MASK).items():
            if key != "name":
                table.add_row(f'engines."{engine.name}".{key}', _text(value), settings.origins["engines"])
    print_table(table)


def _document(settings: Settings, problems: tuple[str, ...]) -> dict[str, Any]:
    return {
        "upstream": settings.upstream,
        "settings": {
            setting.env: {"value": settings.shown(setting), "origin": settings.origins[setting.attribute]}
            for setting in SETTINGS
        },
        "aliases": dict(settings.aliases),
        "models": _models(settings),
        "engines": [shown_engine(engine, MASK) for engine in settings.engines],
        "warnings": list(settings.warnings),
        "problems": list(problems),
    }


def _models(settings: Settings) -> dict[str, dict[str, Any]]:
    """What the tables of models say, by the names that they have."""
    models: dict[str, dict[str, Any]] = {model: {"stream": mode} for model, mode in settings.model_streams.items()}
    for model, rule in settings.model_rules.items():
        options = models.setdefault(model, {})
        if rule.candidates:
            options["candidates"] = [str(candidate) for candidate in rule.candidates]
        options["policy"] = rule.policy
        if rule.share:
            options["share"] = dict(rule.share)
        if rule.handover_after is not None:
            options["handover_after"] = rule.handover_after
    return models


def _text(value: Any) -> str:
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{name} = {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
