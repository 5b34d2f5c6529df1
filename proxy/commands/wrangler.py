"""`relay wrangler`: a project of Cloudflare's wrangler, what its files mean and how it is pointed at the relay."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from proxy.commands.options import print_table
from wrangler_compat.config import Project, read_project
from wrangler_compat.files import Files
from wrangler_compat.plugin_entry import CannotEdit, Entry, Form, not_inherited
from wrangler_compat.plugin_install import FOLDER, NotOurs, Wrangler, add_command, copy_plugin, installed_wrangler
from wrangler_compat.search import find_config
from wrangler_compat.syntax import parse_config

_PATH = click.Path(path_type=Path)
_ENV_NAME = re.compile(r"[A-Za-z0-9_-]+")
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


@click.group("wrangler", short_help="Show a wrangler project, or point it at the relay.")
def command() -> None:
    """Show what a wrangler project's files mean, or point its local development at the relay."""


@command.command("show")
@click.option("--config", metavar="FILE", type=_PATH, help="The configuration; otherwise it is searched for.")
@click.option("--script", metavar="FILE", type=_PATH, help="Search from the folder of this script.")
@click.option("--env", metavar="NAME", help='Environment; "" is the top level.')
@click.option("--env-file", "env_files", metavar="FILE", type=_PATH, multiple=True, help="Instead of .env; repeatable.")
@click.option("--redirect", is_flag=True, help="Follow .wrangler/deploy/config.json, as wrangler dev does.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(
    config: Path | None,
    script: Path | None,
    env: str | None,
    env_files: tuple[Path, ...],
    redirect: bool,
    as_json: bool,
) -> None:
    """Show what wrangler makes of the project in this folder, local variables and their values included.

    Exit status 1 if wrangler would refuse it.
    """
    project = read_project(
        Path.cwd(),
        config=config,
        env=env,
        env_files=env_files,
        script=script,
        redirect=redirect,
        environ=os.environ,
    )
    if as_json:
        click.echo(json.dumps(project.to_json_dict(), indent=2))
    else:
        _print_project(project)
    if project.errors:
        raise click.exceptions.Exit(1)


def _print_project(project: Project) -> None:
    table = Table("", "value", "from", box=None, pad_edge=False)
    document = project.to_json_dict()
    for key in ("config_path", "name", "account_id", "compatibility_date", "compatibility_flags", "ai"):
        table.add_row(key, _text(document[key]), "")
    for name, value in project.dev_vars.items():
        table.add_row(f"dev_vars.{name}", _text(value), project.dev_origins.get(name, project.vars_origin))
    print_table(table)
    for kind, texts in (("warning", project.warnings), ("error", project.errors)):
        for text in texts:
            click.echo(f"{kind}: {text}", err=True)


def _text(value: Any) -> str:
    if value is None or value == []:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _checked(pattern: re.Pattern[str], what: str) -> Any:
    def check(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if value is not None and not pattern.fullmatch(value):
            raise click.BadParameter(f"expected {what}", param=parameter)
        return value

    return check


@command.command("init")
@click.argument(
    "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--write", is_flag=True, help="Write the entry into the configuration instead of printing it.")
@click.option(
    "--form", type=click.Choice(["services", "unsafe"]), help="Form of the entry; otherwise by wrangler's version."
)
@click.option(
    "--env-name",
    metavar="NAME",
    default="relay",
    show_default=True,
    callback=_checked(_ENV_NAME, "letters, digits, - and _"),
    help="Environment that gets the entry.",
)
@click.option(
    "--binding",
    metavar="NAME",
    callback=_checked(_IDENTIFIER, "the name of a binding"),
    help="Name of the binding; otherwise that of `ai`, or AI.",
)
def init(directory: Path, write: bool, form: Form | None, env_name: str, binding: str | None) -> None:
    """Let the wrangler project in DIR develop against the relay, without an account or a login.

    Copies the relay's Miniflare plugin into the project and prints what its configuration needs, in an environment
    of its own that production does not see. Running it again changes nothing.
    """
    path, raw = _configuration(directory)
    wrangler = installed_wrangler(path.parent)
    form = form or wrangler.form
    if form is None:
        _explain_variables(wrangler)
        return
    entry = Entry(form, env_name, binding or _ai_binding(raw))
    try:
        copied = copy_plugin(path.parent)
    except NotOurs as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        raise click.ClickException(f"{FOLDER}: cannot be written ({exc.strerror})") from exc
    click.echo(f"wrangler {wrangler.version or '(none installed, so the newest is assumed)'}: form {form!r}")
    click.echo(f"{FOLDER}/: {'written; commit it' if copied else 'up to date'}")
    _configure(path, raw, entry, write)
    _explain_next(path.parent, raw, entry)


def _configuration(directory: Path) -> tuple[Path, dict[str, Any]]:
    """The project's configuration and what it holds. Raises ClickException."""
    files = Files(Path(os.path.abspath(directory)))
    path = find_config(files, None).config
    raw = parse_config(files, path) if path is not None else {}
    if files.errors or files.warnings:
        raise click.ClickException("; ".join([*files.errors, *files.warnings]))
    if path is None:
        raise click.ClickException(
            "no wrangler.json, wrangler.jsonc or wrangler.toml here or above; make a project first, "
            "for example with: npm create cloudflare"
        )
    return path, raw


def _ai_binding(raw: dict[str, Any]) -> str:
    ai = raw.get("ai")
    name = ai.get("binding") if isinstance(ai, dict) else None
    return name if isinstance(name, str) and _IDENTIFIER.fullmatch(name) else "AI"


def _configure(path: Path, raw: dict[str, Any], entry: Entry, write: bool) -> None:
    """Print the entry or write it. Raises ClickException with the entry where it cannot be written."""
    toml = path.suffix == ".toml"
    shown = entry.toml() if toml else entry.json()
    if entry.is_in(raw):
        click.echo(f"{os.path.relpath(path)}: has the entry")
        return
    if not write:
        click.echo(f"{os.path.relpath(path)}: add this, or run again with --write\n\n{shown}")
        return
    try:
        changed = entry.added_to(path.read_bytes().decode("utf-8"), toml=toml)
        path.write_bytes(changed.encode("utf-8"))
    except CannotEdit as exc:
        raise click.ClickException(
            f"{os.path.relpath(path)} stays as it is: {exc}. The entry, to add by hand:\n\n{shown}"
        ) from exc
    except OSError as exc:
        raise click.ClickException(f"{os.path.relpath(path)}: cannot be written ({exc.strerror})") from exc
    click.echo(f"{os.path.relpath(path)}: entry written for the environment {entry.env!r}")


def _explain_variables(wrangler: Wrangler) -> None:
    click.echo(
        f"wrangler {wrangler.version} needs no plugin. Start the relay (relay serve), then:\n\n"
        "  CLOUDFLARE_API_BASE_URL=http://127.0.0.1:8790/client/v4 CLOUDFLARE_ACCOUNT_ID=local \\\n"
        '    CLOUDFLARE_API_TOKEN="$(relay token)" npx wrangler dev\n\n'
        "Set them for this command alone: they redirect every command of wrangler, deploy too."
    )


def _explain_next(base: Path, raw: dict[str, Any], entry: Entry) -> None:
    click.echo(
        f"\nnext, in {base}:\n"
        f"  {add_command(base)}\n"
        "  relay serve                 # in another terminal\n"
        f'  CLOUDFLARE_API_TOKEN="$(relay token)" npx wrangler dev --env {entry.env}\n\n'
        f"The entry is for development: never deploy the environment {entry.env!r}.\n"
        f"The token belongs into the shell or into .env.{entry.env}.local (keep that out of git), never into a file "
        "that you commit."
    )
    missing = not_inherited(raw, entry.env)
    if missing:
        click.echo(f"{entry.env!r} does not inherit {', '.join(missing)}: repeat there what the Worker needs.")
