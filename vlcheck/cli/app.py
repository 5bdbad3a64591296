"""The command line; only this file and its `terminal` print or exit.

Imports stay inside the commands, so that each starts fast: torch is waited for where a model is built, and not before.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlcheck.cli.hardware import on_hardware
from vlcheck.cli.options import (
    AllowCode,
    Cards,
    Config,
    Debug,
    FailOn,
    Format,
    GpuCount,
    Ignore,
    MemoryGib,
    Offline,
    OneGpu,
    Output,
    ReportFormat,
    Rows,
    Select,
    Stream,
    Strict,
    Threshold,
    Tokens,
)
from vlcheck.cli.output import check_output, deliver, json_text, terminal_options, write
from vlcheck.cli.streams import CLEAN, fail, guarded, say, tolerate_encodings

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


def main() -> None:
    """Run the `vlcheck` command."""
    gc.set_threshold(100_000)  # what torch and transformers import stays: looking for garbage there costs seconds
    tolerate_encodings()
    try:
        app(prog_name="vlcheck")
    finally:
        gc.freeze()  # or the interpreter walks over it all once more on its way out


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


# --------------------------------------------------------------------------- vlcheck audit


@app.command(epilog=EXIT_CODES)
@guarded
def audit(  # noqa: PLR0913, PLR0917  one parameter an option
    config: Config,
    form: Format = ReportFormat.TEXT,
    output: Output = None,
    strict: Strict = False,
    fail_on: FailOn = Threshold.ERROR,
    select: Select = None,
    ignore: Ignore = None,
    allow_code: AllowCode = False,
    offline: Offline = False,
    stream: Stream = False,
    rows: Rows = 32,
    gpu: OneGpu = None,
    memory_gib: MemoryGib = None,
    gpus: GpuCount = None,
    debug: Debug = False,
) -> None:
    """Report what would silently spoil a run.

    Needs no GPU and no weights. Data that the config names is read in full where it lies on this machine;
    --ignore VLC5 leaves it alone, --stream reads it from the Hub.

    --select and --ignore take lists with commas and can be repeated.
    """
    spec = on_hardware(_loaded(config), gpu=gpu, memory_gib=memory_gib, gpus=gpus)
    chosen = {"select": _codes("--select", select), "ignore": _codes("--ignore", ignore)}
    _check_rules(chosen)
    if output is not None:
        check_output(output, config)
    report = _called(
        "audit", spec, debug=debug, allow_code=allow_code, offline=offline, stream=stream, rows=rows, **chosen
    )
    deliver(report, form, output)
    raise typer.Exit(_exit_code(report, fail_on, strict))


# --------------------------------------------------------------------------- vlcheck show


@app.command()
@guarded
def show(
    config: Config,
    row: Annotated[int, typer.Option(metavar="N", min=0, help="Row of the training split, from 0.")] = 0,
    allow_code: AllowCode = False,
    offline: Offline = False,
    stream: Stream = False,
    debug: Debug = False,
) -> None:
    """Print a collated row: supervised text green, prompt dim, each image one box.

    Shows what the run's own collator makes: vlcheck's, or the one that data.collator names (--allow-code).
    """
    from vlcheck.finding import Unavailable
    from vlcheck.reports.sample import render_view

    spec = _loaded(config)
    try:
        views = _called("show", spec, row, debug=debug, allow_code=allow_code, offline=offline, stream=stream)
    except Unavailable as missing:
        fail(f"{missing.reason}{f'; {missing.unlock}' if missing.unlock else ''}")
    options = terminal_options()
    say("\n".join(render_view(strip, **options) for strip in views))


# --------------------------------------------------------------------------- vlcheck check-adapter


@app.command(epilog=EXIT_CODES)
@guarded
def check_adapter(  # noqa: PLR0913, PLR0917  one parameter an option
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the saved adapter.", show_default=False)],
    config: Config,
    form: Format = ReportFormat.TEXT,
    output: Output = None,
    strict: Strict = False,
    fail_on: FailOn = Threshold.ERROR,
    select: Select = None,
    ignore: Ignore = None,
    allow_code: AllowCode = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Report what is wrong with a saved LoRA adapter, before it is served.

    Holds the adapter's files against the model that CONFIG describes. Needs no GPU and no weights of the model.

    --select and --ignore take lists with commas and can be repeated.
    """
    spec = _loaded(config)
    chosen = {"select": _codes("--select", select), "ignore": _codes("--ignore", ignore)}
    _check_rules(chosen, saved=True)
    if output is not None:
        check_output(output, config)
        if output.resolve().parent == folder.resolve():
            fail(f"--output {output} lies in the adapter's folder")
    from vlcheck.adapters.saved import read_adapter

    adapter = read_adapter(folder)
    report = _called("check_adapter", spec, adapter, debug=debug, allow_code=allow_code, offline=offline, **chosen)
    deliver(report, form, output)
    raise typer.Exit(_exit_code(report, fail_on, strict))


# --------------------------------------------------------------------------- vlcheck fit, probe


@app.command()
@guarded
def fit(
    config: Config,
    gpu: Cards = None,
    memory_gib: MemoryGib = None,
    gpus: GpuCount = None,
    tokens: Tokens = None,
    form: Format = ReportFormat.TEXT,
    offline: Offline = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Show what a run takes on its card, and what else would fit. Needs no GPU and no weights."""
    from vlcheck.cli.fit import show_fit

    names = gpu or ()
    if memory_gib is not None and (len(names) > 1 or "all" in names):
        fail("--memory-gib goes with one --gpu at most")
    named = names[0] if names and memory_gib is not None else None
    spec = on_hardware(_loaded(config), gpu=named, memory_gib=memory_gib, gpus=gpus)
    show_fit(
        spec, str(config), () if memory_gib is not None else names, tokens,
        as_json=form is ReportFormat.JSON, offline=offline, debug=debug,
    )  # fmt: skip


@app.command()
@guarded
def probe(
    config: Config,
    steps: Annotated[int, typer.Option(min=1, max=100, help="Optimizer steps to measure.")] = 3,
    tokens: Tokens = None,
    form: Format = ReportFormat.TEXT,
    offline: Offline = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Train a few steps with random weights on this machine's GPU, and hold them against the projection."""
    from vlcheck.cli.fit import show_probe

    show_probe(
        _loaded(config), str(config), steps, tokens, as_json=form is ReportFormat.JSON, offline=offline, debug=debug
    )


# --------------------------------------------------------------------------- vlcheck train


@app.command()
@guarded
def train(
    config: Config,
    force: Annotated[bool, typer.Option("--force", help="Train in spite of the audit's errors.")] = False,
    auto_batch: Annotated[
        bool, typer.Option("--auto-batch", help="Let the memory plan split the effective batch.")
    ] = False,
    allow_code: AllowCode = False,
    offline: Offline = False,
    stream: Stream = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Audit a run, then train its adapters; takes an interrupted run up where it ended.

    SIGTERM and Ctrl-C write the last finished step; the same command goes on from there. On several GPUs:
    accelerate launch --module vlcheck train CONFIG
    """
    from vlcheck.cli.train import run_training

    _find_own_code(allow_code)
    run_training(
        _loaded(config), force=force, auto=auto_batch, debug=debug, allow_code=allow_code, offline=offline,
        stream=stream,
    )  # fmt: skip


# --------------------------------------------------------------------------- vlcheck evaluate, compare


@app.command()
@guarded
def evaluate(  # noqa: PLR0913, PLR0917  one parameter an option
    config: Config,
    adapter: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of a saved adapter; left out, the base alone.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder of the evaluation; by default in training.output_dir."
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Most tokens of an answer; by default the longest label's and 8.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Evaluate the first N rows only.", show_default=False)
    ] = None,
    form: Format = ReportFormat.TEXT,
    allow_code: AllowCode = False,
    offline: Offline = False,
    stream: Stream = False,
    debug: Debug = False,
) -> None:
    """Let the run's model answer its evaluation split, and score the answers by exact match.

    Prompts and images are made by the collator that trains. What was predicted is kept when the command is
    interrupted; the same command takes it up.
    """
    from vlcheck.cli.evaluate import show_evaluation

    _find_own_code(allow_code)
    wanted = {
        "max_new_tokens": max_new_tokens,
        "limit": limit,
        "allow_code": allow_code,
        "offline": offline,
        "stream": stream,
    }
    show_evaluation(_loaded(config), adapter, output, wanted, as_json=form is ReportFormat.JSON, debug=debug)


@app.command()
@guarded
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of an evaluation.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="Folder of another.", show_default=False)],
    form: Format = ReportFormat.TEXT,
) -> None:
    """Say whether one evaluation is better than another, row by row: McNemar's exact test."""
    from vlcheck.cli.evaluate import show_comparison

    show_comparison(first, second, as_json=form is ReportFormat.JSON)


# --------------------------------------------------------------------------- what both do


def _loaded(config: Path) -> RunSpec:
    from vlcheck.config.load import load

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


def _check_rules(wanted: Mapping[str, tuple[str, ...]], *, saved: bool = False) -> None:
    from vlcheck.rules import choose

    try:
        chosen = choose(**wanted, saved=saved)
    except ValueError as unknown:
        fail(str(unknown))
    if not chosen:
        fail("--select and --ignore leave no rule to run")


def _find_own_code(allowed: bool) -> None:
    """Look for modules where a training script finds them; last, so that none is shadowed."""
    if allowed:
        sys.path.append(str(Path.cwd()))


def _called(entry: str, *subject: Any, debug: bool, allow_code: bool, **options: Any) -> Any:
    """Call an entry of the engine by name; only then is torch imported."""
    import contextlib

    from vlcheck.cli.quiet import quieted, spinner

    _find_own_code(allow_code)
    try:
        with spinner() as progress, contextlib.nullcontext() if debug else quieted():
            progress("importing torch")
            from vlcheck import engine

            return getattr(engine, entry)(*subject, progress=progress, allow_code=allow_code, **options)
    except ImportError as missing:
        if debug:
            raise
        fail(f"cannot import what the audit needs: {missing}")


def _exit_code(report: Report, fail_on: Threshold, strict: bool) -> int:
    from vlcheck.finding import Severity

    return report.exit_code(fail_on=Severity[fail_on.name], strict=strict)


# --------------------------------------------------------------------------- vlcheck rules, explain


@app.command()
@guarded
def rules(
    form: Annotated[ReportFormat, typer.Option("--format", help="Format of the list.")] = ReportFormat.TEXT,
) -> None:
    """List the rules: code, name, severity, title."""
    from vlcheck.reports.rulebook import list_rules, list_rules_json
    from vlcheck.rules import every_rule

    if form is ReportFormat.JSON:
        say(list_rules_json(every_rule()), utf8=True)
    else:
        say(list_rules(every_rule()))


@app.command()
@guarded
def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="Code or name of a rule.", show_default=False)],
) -> None:
    """Explain a rule: the mechanism, the remedy, the source."""
    from vlcheck.reports.rulebook import explain_rule
    from vlcheck.rules import every_rule, find

    try:
        rule = find(code)
    except ValueError as unknown:
        fail(str(unknown))
    say(explain_rule(rule, every_rule()))


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
    write(path, text)
    say(f"wrote {path}; next: vlcheck audit {path}\n")


def _recipes() -> dict[str, Traversable]:
    from importlib.resources import files

    found = (entry for entry in (files("vlcheck") / "recipes").iterdir() if entry.name.endswith(".yaml"))
    return {entry.name.removesuffix(".yaml"): entry for entry in sorted(found, key=lambda entry: entry.name)}


@app.command()
@guarded
def schema() -> None:
    """Print the config format's JSON Schema, for editors."""
    from vlcheck.config import native

    say(json_text(native.schema()), utf8=True)


if __name__ == "__main__":
    main()
