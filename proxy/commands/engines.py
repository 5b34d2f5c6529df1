"""`relay engines`: what runs, what it writes, and starting and stopping by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import anyio
import click
from click.shell_completion import CompletionItem

from adapters.errors import Fault, RelayError
from adapters.local.control import EngineClient
from adapters.local.folders import control_socket, log_file
from adapters.local.spec import EngineSpec
from adapters.local.status import EngineStatus, Place, PlaceStatus
from proxy.commands.engine_check import check_engine
from proxy.commands.engine_list import engine_document, engine_table
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


@click.group("engines", cls=ListByDefault, short_help="Show, start, stop and drain the engines.")
def command() -> None:
    """Show, start, stop and drain the engines of relay.toml, and read their logs.

    Without a command it lists: `relay engines --json` is `relay engines list --json`.
    """


def _configured(ctx: click.Context) -> Sequence[EngineSpec]:
    """The engines of the settings that a line to be completed names; none where they are wrong."""
    flags = {name: ctx.params.get(name) for name in ("config", "wrangler_config", "env", "state_dir")}
    try:
        return read_settings(source_options(flags)).engines
    except SettingsError:
        return ()


def _complete_engine(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(engine.name, help="local" if engine.is_local else "remote")
        for engine in _configured(ctx)
        if engine.name.startswith(incomplete)
    ]


_name = click.argument("name", metavar="NAME", shell_complete=_complete_engine)


def _settings_and_engine(name: str, flags: dict[str, Any]) -> tuple[Settings, EngineSpec]:
    """Raises UsageError if there is no such engine."""
    settings = settings_or_exit(source_options(flags))
    engine = next((engine for engine in settings.engines if engine.name == name), None)
    if engine is None:
        raise _no_engine(name, [engine.name for engine in settings.engines])
    return settings, engine


def _no_engine(name: str, known: Sequence[str]) -> click.UsageError:
    there = f"there are: {', '.join(known)}" if known else "relay.toml has no [[engines]]"
    return click.UsageError(f"no engine {name!r}{nearest(name, known)}; {there}")


def _local(engine: EngineSpec) -> None:
    if not engine.is_local:
        raise click.ClickException(f"{engine.name} runs elsewhere, at {', '.join(engine.urls)}: only its owner can")


def _ask(settings: Settings, question: Callable[[EngineClient], Awaitable[T]]) -> T:
    """What the running relay's supervisor answers. Raises RelayError."""

    async def ask() -> T:
        async with EngineClient(control_socket(settings.state_dir)) as client:
            return await question(client)

    return anyio.run(ask)


def _ask_or_exit(settings: Settings, question: Callable[[EngineClient], Awaitable[T]], advice: str = "") -> T:
    """`advice` is where to look if the relay answers that it cannot be done."""
    try:
        return _ask(settings, question)
    except RelayError as exc:
        raise click.ClickException(_NOT_RUNNING if _nobody_answers(settings) else exc.message + advice) from exc


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
    places: dict[Place, PlaceStatus] = {}
    running = False
    if settings.engines:
        try:
            statuses, replicas = _ask(settings, _everything)
            known = {status.name: status for status in statuses}
            places = {replica.place: replica for replica in replicas}
            running = True
        except RelayError as exc:
            if exc.fault is not Fault.UPSTREAM_UNREACHABLE:
                raise click.ClickException(exc.message) from exc
    rows = [engine_document(engine, known.get(engine.name), places) for engine in settings.engines]
    if as_json:
        click.echo(json.dumps({"running": running, "engines": rows}, indent=2))
        return
    if not rows:
        click.echo("no engines; [[engines]] in relay.toml names them")
        return
    print_table(engine_table(rows))
    if not running:
        click.echo(_NOT_RUNNING)


async def _everything(client: EngineClient) -> tuple[list[EngineStatus], list[PlaceStatus]]:
    return await client.status(), await client.replicas()


@command.command("start")
@source_flags
@state_dir_flag
@_name
def start(name: str, **flags: Any) -> None:
    """Start an engine of the running relay and wait until it is ready."""
    settings, engine = _settings_and_engine(name, flags)
    _local(engine)
    advice = f"\n  What it wrote: relay engines logs {name}"
    status = _ask_or_exit(settings, lambda client: client.start(name, _teller()), advice)
    click.echo(f"{name} is {status.state.value}")


def _teller() -> Callable[[str], None]:
    """Prints what is under way, each text once in a row."""
    shown: list[str] = []

    def show(text: str) -> None:
        if text and shown[-1:] != [text]:
            shown.append(text)
            click.echo(text, err=True)

    return show


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


def _complete_replica(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    name, _, _ = (ctx.params.get("name") or "").partition("/")
    return [
        CompletionItem(str(number), help=text)
        for number, text in enumerate(_replicas_of(_configured(ctx), name), 1)
        if str(number).startswith(incomplete)
    ]


def _replicas_of(engines: Iterable[EngineSpec], name: str) -> list[str]:
    """What an engine's replicas are known by, in their order."""
    found = [engine for engine in engines if engine.upstream == name]
    return [text for engine in found for text in (engine.urls or (engine.name,))]


_replica = click.argument("replica", metavar="[REPLICA]", required=False, default="", shell_complete=_complete_replica)


def _settings_and_replica(name: str, replica: str, flags: dict[str, Any]) -> tuple[Settings, str, str]:
    """The settings, the engine's name, and the replica as the supervisor knows it: `farm/2` means `farm` and `2`.

    Raises UsageError if there is no such engine.
    """
    settings = settings_or_exit(source_options(flags))
    name, _, behind = name.partition("/")
    if behind and replica:
        raise click.UsageError(f"{name}/{behind} is one replica already, and {replica!r} would be another")
    known = dict.fromkeys(name for engine in settings.engines for name in (engine.upstream, engine.name))
    if name not in known:
        raise _no_engine(name, list(known))
    replica = replica or behind
    urls = {url.removesuffix("/v1"): url for url in _replicas_of(settings.engines, name)}
    return settings, name, urls.get(replica.rstrip("/").removesuffix("/v1"), replica)


@command.command("drain")
@source_flags
@state_dir_flag
@click.option("--no-wait", is_flag=True, help="Return at once, whatever is under way there.")
@_name
@_replica
def drain(name: str, replica: str, no_wait: bool, **flags: Any) -> None:
    """Give an engine no new requests, and wait until those that it has are answered.

    REPLICA is one of its addresses, by its place in relay.toml (1, 2, ...) or its URL; without it all are meant. The
    next candidate answers meanwhile. Lasts until `resume`, or until the relay ends.
    """
    settings, name, replica = _settings_and_replica(name, replica, flags)

    async def ask(client: EngineClient) -> list[PlaceStatus]:
        return await client.drain(name, replica, wait=not no_wait, on_progress=_teller())

    try:
        _tell_replicas(_ask_or_exit(settings, ask))
    except KeyboardInterrupt:
        click.echo("no longer waited for; it gets no new requests until relay engines resume", err=True)
        raise click.exceptions.Exit(1) from None


@command.command("resume")
@source_flags
@state_dir_flag
@_name
@_replica
def resume(name: str, replica: str, **flags: Any) -> None:
    """Give an engine, or one of its replicas, requests again after `drain`."""
    settings, name, replica = _settings_and_replica(name, replica, flags)
    _tell_replicas(_ask_or_exit(settings, lambda client: client.resume(name, replica)))


def _tell_replicas(replicas: Iterable[PlaceStatus]) -> None:
    for status in replicas:
        where = f" ({status.address})" if status.address else ""
        state = status.state if status.state in ("draining", "drained") else "taking requests"
        work = f", {status.open} under way" if status.open else ""
        click.echo(f"{status.place}{where} is {state}{work}")


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
        if found.advice:
            click.echo(f"  {found.advice}")
    raise click.exceptions.Exit(0 if all(found.fine for found in checks) else 1)
