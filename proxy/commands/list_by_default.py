"""A group of commands whose `list` runs where none is named."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


class ListByDefault(click.Group):
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
            default = self.commands["list"]
            with click.Context(default, parent=ctx, info_name="list") as inner:
                found += [item for item in default.shell_complete(inner, incomplete) if item.value not in known]
        return found
