"""`relay models pull`, `list --local` and `rm`: model files on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Column, Table

from proxy.commands.options import (
    print_table,
    read_settings,
    settings_or_exit,
    source_flags,
    source_options,
    state_dir_flag,
)
from proxy.local_models import LocalModel, StoredFile, find_model, is_repository, local_models, remove_model
from proxy.settings import Settings, SettingsError

_HUB = "https://huggingface.co"
_NO_HUB = "relay models pull needs the extra 'hub': make install EXTRAS=hub (or pip install 'workers-ai-relay[hub]')"


def _repository(_: click.Context, parameter: click.Parameter, value: str) -> str:
    if not is_repository(value):
        raise click.BadParameter("expected ORG/NAME, as the hub calls a model", param=parameter)
    return value


@click.command("pull")
@source_flags
@state_dir_flag
@click.option("--revision", metavar="R", default="main", show_default=True, help="Branch, tag or commit.")
@click.option("--include", metavar="GLOB", multiple=True, help="These files instead of the usual ones; repeatable.")
@click.option("--all-formats", is_flag=True, help="Also formats that can run code while they are loaded.")
@click.argument("model", metavar="ORG/NAME", callback=_repository)
def pull(model: str, revision: str, include: tuple[str, ...], all_formats: bool, **flags: Any) -> None:
    """Fetch a model from the Hugging Face Hub, or what HF_ENDPOINT names; HF_TOKEN opens private and gated ones.

    Takes safetensors, configuration and tokenizer, checks every file and notes the commit. A download that was cut
    off goes on where it ended when the same command is run again.
    """
    settings = settings_or_exit(source_options(flags))
    # Before the library is loaded, which reads it then. The relay tells nobody what it runs on.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from proxy.commands import hub  # noqa: PLC0415  # an extra: all else works without it
    except ModuleNotFoundError as exc:
        raise click.ClickException(_NO_HUB) from exc
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or _HUB
    wanted = hub.Wanted(model, revision, include, all_formats, endpoint, os.environ.get("HF_TOKEN") or None)
    try:
        with _shown(model) as progress:
            stored = hub.pull(wanted, settings.state_dir, progress)
    except hub.PullFailed as exc:
        raise click.ClickException(str(exc)) from exc
    found = find_model(settings.state_dir, model)
    assert found is not None  # it was stored just now
    click.echo(f"{model} at commit {stored.commit}: {len(stored.files)} files, {decimal(stored.size)}")
    click.echo(f"in {found.folder}")


class _Shown:
    """A bar for all files together on a terminal; nothing elsewhere."""

    def __init__(self, bars: Progress, title: str) -> None:
        self._bars = bars
        self._task = bars.add_task(title, total=None)

    def begin(self, files: Sequence[StoredFile]) -> None:
        self._bars.update(self._task, total=sum(file.size for file in files))

    def advance(self, file: StoredFile, count: int) -> None:
        self._bars.update(self._task, advance=count, description=file.name)


@contextmanager
def _shown(title: str) -> Iterator[_Shown]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, markup=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield _Shown(bars, title)


def list_local(settings: Settings, as_json: bool) -> None:
    """What `relay models list --local` prints."""
    models = local_models(settings.state_dir)
    if as_json:
        click.echo(json.dumps({"models": [_document(model) for model in models]}, indent=2))
        return
    if not models:
        click.echo("no models on this machine; relay models pull ORG/NAME fetches one")
        return
    table = Table(Column("model", no_wrap=True), "commit", "size", "folder", box=None, pad_edge=False)
    for model in models:
        state = model.note.commit[:12] if model.note else "not whole: pull it again"
        table.add_row(model.id, state, decimal(model.size), str(model.folder))
    print_table(table)


def _document(model: LocalModel) -> dict[str, Any]:
    note = model.note
    return {
        "id": model.id,
        "folder": str(model.folder),
        "whole": note is not None,
        "bytes": model.size,
        "source": note and note.source,
        "revision": note and note.revision,
        "commit": note and note.commit,
        "files": [file.name for file in note.files] if note else None,
    }


def _complete_model(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    try:
        settings = read_settings(source_options({"state_dir": ctx.params.get("state_dir")}))
    except SettingsError:
        return []
    return [CompletionItem(model.id) for model in local_models(settings.state_dir) if model.id.startswith(incomplete)]


@click.command("rm")
@source_flags
@state_dir_flag
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("model", metavar="ORG/NAME", callback=_repository, shell_complete=_complete_model)
def rm(model: str, yes: bool, **flags: Any) -> None:
    """Delete a model's files from this machine."""
    settings = settings_or_exit(source_options(flags))
    found = find_model(settings.state_dir, model)
    if found is None:
        raise click.ClickException(f"no model {model} on this machine; relay models list --local shows those there are")
    if not yes:
        click.confirm(f"Delete {found.folder} ({decimal(found.size)})?", abort=True)
    try:
        remove_model(found)
    except OSError as exc:
        raise click.ClickException(f"{found.folder} cannot be deleted ({exc.strerror})") from exc
    click.echo(f"deleted {found.folder}")
