"""The command line; only this file, through `streams`, prints or exits.

Imports stay inside the commands, so that each starts fast: none but `audit` waits for torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlcheck.terminal.streams import CLEAN, fail, guarded, say, tolerate_encodings

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from vlcheck.finding import Report
    from vlcheck.spec import RunSpec

EXIT_CODES = (
    "Exit codes: 0 no finding at or above --fail-on; 1 findings at or above it; 2 could not run (unusable config or "
    "options, a rule that raised, with --strict a skipped rule); 130 interrupted."
)

app = typer.Typer(
    help="Find what silently ruins a vision-language QLoRA run, before it reaches a GPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class ReportFormat(StrEnum):
    """The names in `vlcheck.render.RENDERERS`."""

    TEXT = "text"
    JSON = "json"


class Threshold(StrEnum):
    """The names of `vlcheck.finding.Severity`."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


def main() -> None:
    """Run the `vlcheck` command."""
    tolerate_encodings()
    app(prog_name="vlcheck")


def _version(wanted: bool) -> None:
    if wanted:
        from vlcheck import __version__

        say(f"vlcheck {__version__}\n")
        raise typer.Exit(CLEAN)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


# --------------------------------------------------------------------------- vlcheck audit


@app.command(epilog=EXIT_CODES)
@guarded
def audit(  # noqa: PLR0913, PLR0917  one parameter an option
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Config file of the run.", show_default=False)],
    form: Annotated[ReportFormat, typer.Option("--format", help="Format of the report.")] = ReportFormat.TEXT,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the report there.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 if a rule had to be skipped.")] = False,
    fail_on: Annotated[Threshold, typer.Option(help="Least severity that exits 1.")] = Threshold.ERROR,
    select: Annotated[
        list[str] | None, typer.Option(metavar="CODES", help="Run only these: codes, prefixes (VLC1) or names.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="CODES", help="Leave these out.")] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run the code that model.patch names, from here or installed.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the Hub.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and what libraries print.")] = False,
) -> None:
    """Report what would silently spoil a run.

    Needs no GPU, no weights and no data.

    --select and --ignore take lists with commas and can be repeated.
    """
    spec = _loaded(config)
    chosen = {"select": _codes("--select", select), "ignore": _codes("--ignore", ignore)}
    _check_rules(**chosen)
    if output is not None:
        _check_output(output, config)
    if allow_code:
        sys.path.append(str(Path.cwd()))  # where a training script finds its modules; last, so that none is shadowed
    report = _audited(spec, debug, **chosen, allow_code=allow_code, offline=offline)
    if output is None:
        say(_rendered(report, form), utf8=form is ReportFormat.JSON)
    else:
        _write(output, _rendered(report, form, terminal=False))
        say(f"{_summary(report)}; report written to {output}\n")
    from vlcheck.finding import Severity

    raise typer.Exit(report.exit_code(fail_on=Severity[fail_on.name], strict=strict))


def _loaded(config: Path) -> RunSpec:
    from vlcheck.dialects import load

    try:
        return load(config)
    except OSError as unreadable:
        fail(f"{config}: {unreadable.strerror or unreadable}")


def _codes(option: str, given: Sequence[str] | None) -> tuple[str, ...]:
    """Split lists with commas; an option that was given but holds nothing is a mistake, not `all`."""
    codes = tuple(code.strip() for entry in given or () for code in entry.split(",") if code.strip())
    if given and not codes:
        fail(f"{option} holds no code")
    return codes


def _check_rules(select: tuple[str, ...], ignore: tuple[str, ...]) -> None:
    from vlcheck.rules import choose

    try:
        chosen = choose(select, ignore)
    except ValueError as unknown:
        fail(str(unknown))
    if not chosen:
        fail("--select and --ignore leave no rule to run")


def _check_output(output: Path, config: Path) -> None:
    from vlcheck.terminal.whole_file import check_writable

    if output.resolve() == config.resolve():
        fail(f"--output {output} would overwrite the config")
    try:
        check_writable(output)
    except OSError as refused:
        fail(f"cannot write {refused.filename or output}: {refused.strerror}")


def _audited(spec: RunSpec, debug: bool, **options: Any) -> Report:
    import contextlib

    from vlcheck.terminal.hush import hushed, spinner

    try:
        with spinner() as progress, contextlib.nullcontext() if debug else hushed():
            progress("importing torch")
            from vlcheck.engine import audit as audit_run

            return audit_run(spec, progress=progress, **options)
    except ImportError as missing:
        if debug:
            raise
        fail(f"cannot import what the audit needs: {missing}")


def _rendered(report: Report, form: ReportFormat, *, terminal: bool = True) -> str:
    from vlcheck.render import RENDERERS, text

    if form is ReportFormat.TEXT and terminal and sys.stdout is not None and sys.stdout.isatty():
        from shutil import get_terminal_size

        color = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return text.render(report, width=max(40, min(120, get_terminal_size().columns)), color=color)
    return RENDERERS[form](report)


def _summary(report: Report) -> str:
    from vlcheck.render.summary import summarise

    return str(summarise(report))


# --------------------------------------------------------------------------- vlcheck rules, explain


@app.command()
@guarded
def rules(
    form: Annotated[ReportFormat, typer.Option("--format", help="Format of the list.")] = ReportFormat.TEXT,
) -> None:
    """List the rules: code, name, severity, title."""
    from vlcheck.render.rulebook import list_rules, list_rules_json
    from vlcheck.rules import RULES

    if form is ReportFormat.JSON:
        say(list_rules_json(RULES), utf8=True)
    else:
        say(list_rules(RULES))


@app.command()
@guarded
def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="Code or name of a rule.", show_default=False)],
) -> None:
    """Explain a rule: the mechanism, the remedy, the source."""
    from vlcheck.render.rulebook import explain_rule
    from vlcheck.rules import RULES, find

    try:
        rule = find(code)
    except ValueError as unknown:
        fail(str(unknown))
    say(explain_rule(rule, RULES))


# --------------------------------------------------------------------------- vlcheck init, schema


@app.command()
@guarded
def init(
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="File to write; - is stdout.")] = Path("vlcheck.yaml"),
    recipe: Annotated[str, typer.Option(metavar="NAME", help="Recipe to start from.")] = "starter",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented config to start from."""
    recipes = _recipes()
    if recipe not in recipes:
        fail(f"no recipe {recipe!r}; recipes: {', '.join(recipes)}")
    text = recipes[recipe].read_text(encoding="utf-8")
    if str(path) == "-":
        say(text, utf8=True)
        return
    if path.exists() and not path.is_dir() and not force:
        fail(f"{path} exists; --force overwrites it")
    _write(path, text)
    say(f"wrote {path}; next: vlcheck audit {path}\n")


def _recipes() -> dict[str, Traversable]:
    from importlib.resources import files

    found = (entry for entry in (files("vlcheck") / "recipes").iterdir() if entry.name.endswith(".yaml"))
    return {entry.name.removesuffix(".yaml"): entry for entry in sorted(found, key=lambda entry: entry.name)}


@app.command()
@guarded
def schema() -> None:
    """Print the config format's JSON Schema, for editors."""
    import json

    from vlcheck.dialects import native

    say(json.dumps(native.schema(), indent=2, ensure_ascii=False) + "\n", utf8=True)


# --------------------------------------------------------------------------- files


def _write(path: Path, text: str) -> None:
    from vlcheck.terminal.whole_file import check_writable, write_whole

    try:
        check_writable(path)
        write_whole(path, text)
    except OSError as refused:
        fail(f"cannot write {refused.filename or path}: {refused.strerror}")


if __name__ == "__main__":
    main()
