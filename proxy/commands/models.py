"""`relay models`: the list of models, and its refresh from the account."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import anyio
import click
import msgspec
from rich.table import Column, Table

from adapters.catalogue import Catalogue, Model, load_snapshot
from adapters.cloudflare_account import Access, search_models
from adapters.errors import RelayError
from adapters.transport import open_transport
from proxy.commands.list_by_default import ListByDefault
from proxy.commands.model_store import list_local, pull, rm
from proxy.commands.options import print_table, settings_or_exit, source_flags, source_options, state_dir_flag
from proxy.commands.running_engines import engines_as_they_run
from proxy.engine_models import engine_models
from proxy.local_models import local_models
from proxy.settings import Settings
from proxy.stored_catalogue import StoredCatalogueError, read_catalogue, write_catalogue

_CAPABILITIES = (("function_calling", "tools"), ("reasoning", "reasoning"), ("vision", "vision"))


@click.group("models", cls=ListByDefault, short_help="List, refresh, pull and remove models.")
def command() -> None:
    """List the models, refresh the list from the Cloudflare account, fetch models to this machine and remove them.

    Without a command it lists, and the options of `list` (--json, --task TASK, --all, --local) work without naming it:
    `relay models --json` is `relay models list --json`.
    """


@command.command("list")
@source_flags
@state_dir_flag
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--task", metavar="TASK", help='Only models of this task, such as "Text Generation".')
@click.option("--all", "everything", is_flag=True, help="Also models that are retired.")
@click.option("--local", is_flag=True, help="Only the model files on this machine.")
def list_models(as_json: bool, task: str | None, everything: bool, local: bool, **flags: Any) -> None:
    """List the models that the relay knows, those of engines included; this is the default."""
    settings = settings_or_exit(source_options(flags))
    if local:
        list_local(settings, as_json)
        return
    catalogue = _catalogue(settings)
    engines = anyio.run(engines_as_they_run, settings)
    catalogue = catalogue.with_models(engine_models(engines, catalogue, settings.model_rules))
    models = [model for model in catalogue if everything or not model.is_retired]
    if task is not None:
        models = _of_task(models, task)
    if as_json:
        document = {"as_of": catalogue.as_of, "aliases": dict(settings.aliases), "models": models}
        click.echo(json.dumps(msgspec.to_builtins(document), indent=2))
        return
    # An id is there to be copied: the other columns give way.
    names = Column("model", no_wrap=True, min_width=max((len(model.id) for model in models), default=0))
    table = Table(names, "task", "context", "answer", "can", "status", box=None, pad_edge=False)
    for model in models:
        table.add_row(*_row(model))
    print_table(table)
    click.echo(f"{len(models)} models, as of {catalogue.as_of}")
    if stored := [model.id for model in local_models(settings.state_dir)]:
        click.echo(f"files on this machine (relay models list --local): {', '.join(stored)}")
    if settings.aliases:
        click.echo("aliases:")
    for alias, target in settings.aliases.items():
        click.echo(f"  {alias} -> {target}")


def _row(model: Model) -> tuple[str, ...]:
    can = ", ".join(word for attribute, word in _CAPABILITIES if getattr(model, attribute))
    counts = (str(count) if count else "-" for count in (model.context_window, model.max_output))
    return (model.id, model.task, *counts, can or "-", model.status)


def _of_task(models: list[Model], task: str) -> list[Model]:
    """Raises UsageError with the tasks there are."""
    wanted = task.casefold().replace("-", " ")
    found = [model for model in models if model.task.casefold().replace("-", " ") == wanted]
    if not found:
        tasks = ", ".join(sorted({model.task for model in models}))
        raise click.UsageError(f"no model of task {task!r}; there are: {tasks}")
    return found


def _catalogue(settings: Settings) -> Catalogue:
    try:
        return read_catalogue(settings.state_dir)
    except StoredCatalogueError as exc:
        click.echo(f"warning: {exc}", err=True)
        return load_snapshot()


@command.command("refresh")
@source_flags
@state_dir_flag
def refresh(**flags: Any) -> None:
    """Ask the Cloudflare account for its models and store the answer. Costs nothing."""
    settings = settings_or_exit(source_options(flags))
    if settings.account_id is None or settings.api_token is None:
        raise click.ClickException("no Cloudflare credentials: set CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN")
    try:
        rows = anyio.run(_fetch, settings, settings.account_id, settings.api_token)
    except RelayError as exc:
        raise click.ClickException(f"{exc.message} `relay doctor` says more.") from exc
    if not rows:
        raise click.ClickException("the account lists no models; the stored list stays as it is")
    before = _catalogue(settings)
    after = load_snapshot().overlaid(rows, datetime.now(UTC).date().isoformat())
    try:
        file = write_catalogue(settings.state_dir, after)
    except OSError as exc:
        name = settings.names["state_dir"]
        raise click.ClickException(f"{name}: {settings.state_dir} cannot be written ({exc.strerror})") from exc
    added = {model.id for model in after} - {model.id for model in before}
    click.echo(f"{len(rows)} models listed by the account, {len(added)} of them new; stored in {file}")
    for model in sorted(added):
        click.echo(f"  {model}")


async def _fetch(settings: Settings, account_id: str, api_token: str) -> list[dict[str, Any]]:
    async with open_transport(connect_timeout=settings.connect_timeout) as transport:
        return await search_models(Access(transport, settings.api_base_url, account_id, api_token))


command.add_command(pull)
command.add_command(rm)
