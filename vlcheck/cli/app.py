"""The command line: `vlcheck` and its commands, a file for each group of them.

Imports stay inside the commands, so that each starts fast: torch is waited for where a model is built, and not before.
"""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer
from typer.models import CommandInfo

from vlcheck.cli.audit import audit, check_adapter
from vlcheck.cli.convert import convert
from vlcheck.cli.dry_run import dry_run
from vlcheck.cli.evaluate import compare, evaluate
from vlcheck.cli.fit import fit, probe
from vlcheck.cli.init import init, schema
from vlcheck.cli.merge import merge
from vlcheck.cli.preflight import preflight
from vlcheck.cli.reproduce import reproduce
from vlcheck.cli.rulebook import explain, rules
from vlcheck.cli.show import show
from vlcheck.cli.snapshot import snapshot
from vlcheck.cli.streams import CLEAN, say, tolerate_encodings
from vlcheck.cli.train import train

EXIT_CODES = (
    "Exit codes: 0 no finding at or above --fail-on; 1 findings at or above it; 2 could not run (unusable config or "
    "options, a rule that raised, with --strict a skipped rule); 130 interrupted."
)

app = typer.Typer(
    help="Find what silently ruins a vision-language QLoRA run, before it reaches a GPU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


for command in (audit, preflight, show, check_adapter):
    app.command(epilog=None if command is show else EXIT_CODES)(command)
app.command(
    "dry-run",
    epilog=EXIT_CODES,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)(dry_run)
for command in (
    fit, probe, train, evaluate, compare, merge, reproduce, snapshot, rules, explain, init, convert, schema,
):  # fmt: skip
    app.command()(command)


def main() -> None:
    """Run the `vlcheck` command."""
    gc.set_threshold(100_000)  # what torch and transformers import stays: looking for garbage there costs seconds
    tolerate_encodings()
    every = app.registered_commands
    app.registered_commands = [each for each in every if _called(each) in sys.argv[1:2]] or every
    try:
        app(prog_name="vlcheck")
    finally:
        app.registered_commands = every
        gc.freeze()  # or the interpreter walks over it all once more on its way out


def _called(command: CommandInfo) -> str:
    """A command's name; typer reads the options of every command that it is given, which takes a tenth of the start."""
    return command.name or getattr(command.callback, "__name__", "").replace("_", "-")


def _version(wanted: bool) -> None:
    if wanted:
        from vlcheck.versions import __version__

        say(f"vlcheck {__version__}\n")
        raise typer.Exit(CLEAN)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
