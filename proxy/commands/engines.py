"""`relay engines`: what runs, what it writes, and starting and stopping by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import anyio
import click
from click.shell_completion import CompletionItem
from rich.filesize import decimal
from rich.table import Column, Table

from adapters.errors import Fault, RelayError
from adapters.local.control import EngineClient
from adapters.local.folders import control_socket, log_file
from adapters.local.spec import EngineSpec
from adapters.local.status import EngineStatus, State
from proxy.commands.engine_check import check_engine
from proxy.commands.engine_log import LogReader
from proxy.commands.list_by_default import ListByDefault
from proxy.commands.options import (
    print_table,
    read_settings,
    settings_or_exit,
    source_flags,
    source_options,
    state_dir_flag,
)
from proxy.settings import Settings, SettingsError
from proxy.toml_tables import nearest

T = TypeVar("T")

_LOOKS_APART = 0.2  # seconds between two looks at a log that is followed
_NOT_RUNNING = "no relay with engines runs on this state folder; engines run as long as `relay serve` does"


@click.group("engines", cls=ListByDefault, short_help="Show, start and stop the engines.")
def command() -> None:
    """Show, start and stop the engines of relay.toml, and read their logs.

    Without a command it lists: `relay engines --json` is `relay engines list --json`.
    """


def _complete_engine(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    flags = {name: ctx.params.get(name) for name in ("config", "wrangler_config", "env", "state_dir")}
    try:
        engines = read_settings(source_options(flags)).engines
    except SettingsError:
        return []
    return [
        CompletionItem(engine.name, help="local" if engine.is_local else "remote")
        for engine in engines
        if engine.name.startswith(incomplete)
    ]


_name = click.argument("name", metavar="NAME", shell_complete=_complete_engine)


def _settings_and_engine(name: str, flags: dict[str, Any]) -> tuple[Settings, EngineSpec]:
    """Raises UsageError if there is no such engine."""
    settings = settings_or_exit(source_options(flags))
    engine = next((engine for engine in settings.engines if engine.name == name), None)
    if engine is None:
        known = [engine.name for engine in settings.engines]
        there = f"there are: {', '.join(known)}" if known else "relay.toml has no [[engines]]"
        raise click.UsageError(f"no engine {name!r}{nearest(name, known)}; {there}")
    return settings, engine


def _local(engine: EngineSpec) -> None:
    if not engine.is_local:
        raise click.ClickException(f"{engine.name} runs elsewhere, at {', '.join(engine.urls)}: only its owner can")


def _ask(settings: Settings, question: Callable[[EngineClient], Awaitable[T]]) -> T:
    """What the running relay's supervisor answers. Raises RelayError."""

    async def ask() -> T:
        async with EngineClient(control_socket(settings.state_dir)) as client:
            return await question(client)

    return anyio.run(ask)


def _ask_or_exit(settings: Settings, question: Callable[[EngineClient], Awaitable[T]]) -> T:
    try:
        return _ask(settings, question)
    except RelayError as exc:
        raise click.ClickException(_NOT_RUNNING if _nobody_answers(settings) else exc.message) from exc


def _nobody_answers(settings: Settings) -> bool:
    try:
        _ask(settings, EngineClient.status)
    except RelayError as exc:
        return exc.fault is Fault.UPSTREAM_UNREACHABLE
    return False


@command.command("list")
@source_flags
@state_dir_flag
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_engines(as_json: bool, **flags: Any) -> None:
    """List the engines and, where a relay runs, what they are doing; this is the default."""
    settings = settings_or_exit(source_options(flags))
    known: dict[str, EngineStatus] = {}
    running = False
    if any(engine.is_local for engine in settings.engines):
        try:
            known = {status.name: status for status in _ask(settings, EngineClient.status)}
            running = True
        except RelayError as exc:
            if exc.fault is not Fault.UPSTREAM_UNREACHABLE:
                raise click.ClickException(exc.message) from exc
    rows = [_document(engine, known.get(engine.name)) for engine in settings.engines]
    if as_json:
        click.echo(json.dumps({"running": running, "engines": rows}, indent=2))
        return
    if not rows:
        click.echo("no engines; [[engines]] in relay.toml names them")
        return
    print_table(_table(rows))
    if not running and any(engine.is_local for engine in settings.engines):
        click.echo(_NOT_RUNNING)


def _document(engine: EngineSpec, status: EngineStatus | None) -> dict[str, Any]:
    """An engine for JSON. Bytes, seconds; `null` is not known."""
    document: dict[str, Any] = {
        "name": engine.name,
        "kind": "local" if engine.is_local else "remote",
        "profile": engine.profile,
        "models": dict(engine.models),
        "state": (status.state if status else State.STOPPED).value if engine.is_local else "unknown",
        "address": list(engine.urls) or None,
        "memory": engine.memory,
    }
    if status is None:
        return document
    address = status.address
    return document | {
        "address": address and [f"unix:{address.uds}" if address.uds else address.url],
        "memory": engine.memory if status.memory is None else status.memory,
        "seconds": status.seconds,
        "pid": status.pid,
        "busy": status.busy,
        "waiting": status.waiting,
        "idle_for": status.idle_for,
        "starts": status.starts,
        "failures": status.failures,
        "retry_in": status.retry_in,
        "progress": status.progress or None,
        "error": status.error,
    }


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(Column("engine", no_wrap=True), "", "profile", "state", "requests", "memory", "address", "note")
    table.box, table.pad_edge = None, False
    for row in rows:
        table.add_row(
            row["name"],
            row["kind"],
            row["profile"],
            row["state"],
            _requests(row),
            decimal(row["memory"]) if row["memory"] else "-",
            ", ".join(row["address"] or ["-"]),
            _note(row),
        )
    return table


def _requests(row: dict[str, Any]) -> str:
    if row.get("waiting"):
        return f"{row['waiting']} waiting"
    if row.get("busy"):
        return "busy"
    return "-" if row.get("idle_for") is None else f"idle for {row['idle_for']:.0f} s"


def _note(row: dict[str, Any]) -> str:
    """What the operator wants to know beyond the state: how far a start is, or what went wrong."""
    notes = [text for text in (row.get("progress"), row.get("error")) if text]
    if row.get("retry_in"):
        notes.append(f"again in {row['retry_in']:.0f} s")
    return "; ".join(notes)


@command.command("start")
@source_flags
@state_dir_flag
@_name
def start(name: str, **flags: Any) -> None:
    """Start an engine of the running relay and wait until it is ready."""
    settings, engine = _settings_and_engine(name, flags)
    _local(engine)
    shown: list[str] = []

    def show(text: str) -> None:
        if text and shown[-1:] != [text]:
            shown.append(text)
            click.echo(text, err=True)

    status = _ask_or_exit(settings, lambda client: client.start(name, show))
    click.echo(f"{name} is {status.state.value}")


@command.command("stop")
@source_flags
@state_dir_flag
@_name
def stop(name: str, **flags: Any) -> None:
    """Let an engine's requests finish, then stop it. The next request for one of its models starts it again."""
    settings, engine = _settings_and_engine(name, flags)
    _local(engine)
    status = _ask_or_exit(settings, lambda client: client.stop(name))
    click.echo(f"{name} is {status.state.value}")


@command.command("logs")
@source_flags
@state_dir_flag
@click.option("-f", "--follow", is_flag=True, help="Go on with what the engine writes; Ctrl-C ends it.")
@click.option("-n", "--lines", metavar="N", type=click.IntRange(0), default=50, show_default=True, help="Last lines.")
@_name
def logs(name: str, follow: bool, lines: int, **flags: Any) -> None:
    """Print what an engine wrote last."""
    settings, engine = _settings_and_engine(name, flags)
    _local(engine)
    try:
        reader = LogReader(log_file(settings.state_dir, name))
    except FileNotFoundError as exc:
        raise click.ClickException(
            f"{name} has written nothing yet; the first request for its models starts it"
        ) from exc
    except OSError as exc:
        raise click.ClickException(f"{exc.filename} cannot be read ({exc.strerror})") from exc
    try:
        for line in reader.last(lines):
            click.echo(line)
        if follow:
            for line in reader.follow(lambda: time.sleep(_LOOKS_APART)):
                click.echo(line)
    except KeyboardInterrupt:
        return
    finally:
        reader.close()


@command.command("check")
@source_flags
@state_dir_flag
@_name
def check(name: str, **flags: Any) -> None:
    """Ask an engine for its models, as the relay would reach it; a local one has to run. Exit status 1 if it fails."""
    settings, engine = _settings_and_engine(name, flags)
    urls = engine.urls
    if engine.is_local:
        statuses = _ask_or_exit(settings, EngineClient.status)
        address = next((status.address for status in statuses if status.name == name), None)
        if address is None:
            raise click.ClickException(f"{name} does not run; relay engines start {name} starts it")
        urls = (f"unix:{address.uds}" if address.uds else address.url,)
    checks = anyio.run(check_engine, engine, urls, settings.connect_timeout)
    for found in checks:
        click.echo(f"{found.url}: {found.text}")
    raise click.exceptions.Exit(0 if all(found.fine for found in checks) else 1)
