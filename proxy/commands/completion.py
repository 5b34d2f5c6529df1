"""`relay completion`: a script that makes a shell complete `relay`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_RELAY_COMPLETE"  # click's own name for a program called `relay`


@click.command("completion", short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete relay's commands and flags.

    bash: eval "$(relay completion bash)"; the same for zsh. fish: relay completion fish | source
    """
    complete = get_completion_class(shell)
    if complete is None:  # click knows all three
        raise click.UsageError(f"no completion for {shell}")
    click.echo(complete(ctx.find_root().command, {}, "relay", _VARIABLE).source())
