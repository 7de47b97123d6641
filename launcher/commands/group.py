"""The shape of the command: `launch [RECIPE …]` beside `launch COMMAND`."""

import os

import click

from launcher.nearest import nearest


class DefaultCommand(click.Group):
    """`launch sample.yaml` means `launch train sample.yaml`: a first word that names no command,
    or no word at all, belongs to the main command."""

    default = "train"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "--version")):
            self._require_recipe(args[0] if args else "--")
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def _require_recipe(self, first: str) -> None:
        """A bare word that is neither command nor file is more likely a slip than a recipe."""
        if first.startswith("-") or "." in first or os.path.exists(first):
            return
        from launcher import paths  # only for a bare word

        shipped = paths.recipes()
        if first in shipped:
            return
        near = nearest(first, [*self.commands, *shipped], 1)
        hint = f"; did you mean `launch {near[0]}`?" if near else "; `launch --help` lists them"
        raise click.UsageError(f"no command and no recipe is called {first}{hint}")

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("launch", "[RECIPE …] [OPTIONS]  |  COMMAND …")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        main = self.commands[self.default]
        rows = [r for p in main.get_params(ctx) if (r := p.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl([r for r in rows if not r[0].startswith("--help")])
        self.format_commands(ctx, formatter)
