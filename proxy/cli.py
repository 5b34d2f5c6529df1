"""The `relay` command. Each of its commands is a module that is imported only when it runs."""

from __future__ import annotations

import importlib
import importlib.metadata

import click

# Module in `proxy.commands` and the line in `relay --help`, which so needs no module.
COMMANDS = {
    "serve": "Start the relay.",
    "token": "Print a token that the relay accepts.",
    "chat": "Talk to a model through the relay.",
    "models": "List, refresh, pull and remove models.",
    "engines": "Show, start, stop and drain the engines.",
    "config": "Show each setting and where it came from.",
    "doctor": "Check settings, network, token and account.",
    "wrangler": "Show a wrangler project, or point it at the relay.",
    "completion": "Print a shell's completion script.",
}


class LazyGroup(click.Group):
    """A group whose commands are found by name and imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"proxy.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    try:
        version = importlib.metadata.version("workers-ai-relay")
    except importlib.metadata.PackageNotFoundError:
        version = "(not installed)"
    click.echo(f"relay {version}")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def cli() -> None:
    """An OpenAI-compatible relay in front of Cloudflare Workers AI."""


def main() -> None:
    cli(prog_name="relay")


if __name__ == "__main__":
    main()
