"""`relay doctor`: what works, what does not, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any

import anyio
import click
import msgspec
from rich.console import Console

from adapters.transport import open_transport
from proxy.commands.checks import Check
from proxy.commands.diagnosis import diagnose
from proxy.commands.options import address_flags, read_settings, source_flags, source_options
from proxy.settings import Settings, SettingsError

_MARKS = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "failed": ("FAILED", "red"),
    "skipped": ("-", "cyan"),
}


@click.command("doctor", short_help="Check settings, network, token and account.")
@source_flags
@address_flags
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool, **flags: Any) -> None:
    """Check settings, storage, engines, network, token and account, with calls that cost nothing.

    Says for each failure what to do. Exit status 1 if something is broken.
    """
    show = _ignore if as_json else _print
    try:
        settings = read_settings(source_options(flags))
    except SettingsError as exc:
        checks = [Check(name="settings", status="failed", text=problem) for problem in exc.problems]
        upstream = None
        for check in checks:
            show(check)
    else:
        upstream = settings.upstream
        with _progress(as_json):
            checks = anyio.run(_examine, settings, show)
    broken = any(check.status == "failed" for check in checks)
    if as_json:
        document = {"ok": not broken, "upstream": upstream, "checks": checks}
        click.echo(json.dumps(msgspec.to_builtins(document), indent=2))
    raise click.exceptions.Exit(1 if broken else 0)


async def _examine(settings: Settings, show: Callable[[Check], None]) -> list[Check]:
    checks = [Check(name="settings", status="warning", text=warning) for warning in settings.warnings]
    if not checks:
        source = f"; credentials from {settings.credentials_origin}" if settings.credentials_origin else ""
        checks = [Check(name="settings", status="ok", text=f"complete{source}")]
    for check in checks:
        show(check)
    async with (
        open_transport(connect_timeout=settings.connect_timeout) as transport,
        aclosing(diagnose(settings, transport)) as diagnosis,
    ):
        async for check in diagnosis:
            checks.append(check)
            show(check)
    return checks


def _progress(as_json: bool) -> AbstractContextManager[object]:
    console = Console()
    return nullcontext() if as_json or not console.is_terminal else console.status("checking")


def _ignore(check: Check) -> None:
    """JSON comes in one piece at the end."""


def _print(check: Check) -> None:
    mark, colour = _MARKS[check.status]
    click.echo(f"{click.style(f'{mark:<8}', fg=colour)} {check.name:<9} {check.text}")
    if check.advice:
        click.echo(f"{'':<18} {check.advice}")
