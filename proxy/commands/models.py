"""`relay models`: the list of models, and its refresh from the account."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import anyio
import click
import msgspec
from click.shell_completion import CompletionItem
from rich.table import Column, Table

from adapters.catalogue import Catalogue, Model, load_snapshot
from adapters.cloudflare_account import Access, search_models
from adapters.errors import RelayError
from adapters.transport import open_transport
from proxy.commands.options import print_table, settings_or_exit, source_flags, source_options, state_dir_flag
from proxy.settings import Settings
from proxy.stored_catalogue import StoredCatalogueError, read_catalogue, write_catalogue

_CAPABILITIES = (("function_calling", "tools"), ("reasoning", "reasoning"), ("vision", "vision"))


class _ListByDefault(click.Group):
    """`relay models --json` means `relay models list --json`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and ctx.resilient_parsing:  # a shell that completes wants the commands' names too
            return super().parse_args(ctx, args)
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        known = {item.value for item in found}
        if incomplete.startswith("-"):
            with click.Context(list_models, parent=ctx, info_name="list") as inner:
                found += [item for item in list_models.shell_complete(inner, incomplete) if item.value not in known]
        return found


@click.group("models", cls=_ListByDefault, short_help="List the models, or refresh the list.")
def command() -> None:
    """List the models, or refresh the list from the Cloudflare account.

    Without a command it lists, and the options of `list` (--json, --task TASK, --all) work without naming it:
    `relay models --json` is `relay models list --json`.
    """


@command.command("list")
@source_flags
@state_dir_flag
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--task", metavar="TASK", help='Only models of this task, such as "Text Generation".')
@click.option("--all", "everything", is_flag=True, help="Also models that are retired.")
def list_models(as_json: bool, task: str | None, everything: bool, **flags: Any) -> None:
    """List the models that the relay knows; this is the default."""
    settings = settings_or_exit(source_options(flags))
    catalogue = _catalogue(settings)
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
