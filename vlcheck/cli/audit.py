"""`vlcheck audit` and `vlcheck check-adapter`: judge, and say where the report goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlcheck.cli.options import (
    AllowCode,
    Config,
    ConfigHere,
    Debug,
    FailOn,
    Format,
    FrameworkVersion,
    GpuCount,
    Ignore,
    MemoryGib,
    Offline,
    OneGpu,
    Output,
    ReportFormat,
    Rows,
    Select,
    Settings,
    Stream,
    Strict,
    Threshold,
    Verbose,
)
from vlcheck.cli.quiet import working
from vlcheck.cli.streams import fail, guarded, say, terminal_options, write

if TYPE_CHECKING:
    from vlcheck.finding import Report


@guarded
def audit(  # noqa: PLR0913, PLR0917  one parameter an option
    config: ConfigHere = Path("vlcheck.yaml"),
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
    framework_version: FrameworkVersion = None,
    settings: Settings = None,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Report what would silently spoil a run.

    Needs no GPU and no weights. Data that the config names is read in full where it lies on this machine;
    --ignore VLC5 leaves it alone, --stream reads it from the Hub.

    --select and --ignore take lists with commas and can be repeated.
    """
    from vlcheck.config.load import load

    spec = load(
        config,
        gpu=gpu,
        memory_gib=memory_gib,
        gpus=gpus,
        framework_version=framework_version,
        settings=settings or (),
    )
    chosen = _chosen(select, ignore)
    _check_output(output, config)
    with working(debug, allow_code=allow_code) as voice:
        from vlcheck.engine import audit as judge

        report = judge(
            spec, allow_code=allow_code, offline=offline, stream=stream, rows=rows, progress=voice.progress, **chosen
        )
    _deliver(report, form, output, verbose=verbose)
    raise typer.Exit(_exit_code(report, fail_on, strict))


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
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Report what is wrong with a saved LoRA adapter, before it is served.

    Holds the adapter's files against the model that CONFIG describes. Needs no GPU and no weights of the model.

    --select and --ignore take lists with commas and can be repeated.
    """
    from vlcheck.adapters.saved import read_adapter
    from vlcheck.config.load import load

    spec = load(config)
    chosen = _chosen(select, ignore, saved=True)
    _check_output(output, config)
    if output is not None and output.resolve().parent == folder.resolve():
        fail(f"--output {output} lies in the adapter's folder")
    adapter = read_adapter(folder)
    with working(debug, allow_code=allow_code) as voice:
        from vlcheck.engine import check_adapter as judge

        report = judge(spec, adapter, allow_code=allow_code, offline=offline, progress=voice.progress, **chosen)
    _deliver(report, form, output, verbose=verbose)
    raise typer.Exit(_exit_code(report, fail_on, strict))


def _chosen(
    select: Sequence[str] | None, ignore: Sequence[str] | None, *, saved: bool = False
) -> dict[str, tuple[str, ...]]:
    """What --select and --ignore say; they must name rules that there are, and leave one to run."""
    from vlcheck.rules import choose

    wanted = {"select": _codes("--select", select), "ignore": _codes("--ignore", ignore)}
    try:
        chosen = choose(**wanted, saved=saved)
    except ValueError as unknown:
        fail(str(unknown))
    if not chosen:
        fail("--select and --ignore leave no rule to run")
    return wanted


def _codes(option: str, given: Sequence[str] | None) -> tuple[str, ...]:
    """Split lists with commas; an option that was given but holds nothing is a mistake, not `all`."""
    codes = tuple(code.strip() for entry in given or () for code in entry.split(",") if code.strip())
    if given and not codes:
        fail(f"{option} holds no code")
    return codes


def _check_output(output: Path | None, config: Path) -> None:
    """End the command if a report cannot be written there, before any work is done for it."""
    from vlcheck.data.atomic_write import check_writable

    if output is None:
        return
    if output.resolve() == config.resolve():
        fail(f"--output {output} would overwrite the config")
    try:
        check_writable(output)
    except OSError as refused:
        fail(f"cannot write {refused.filename or output}: {refused.strerror}")


def _deliver(report: Report, form: ReportFormat, output: Path | None, *, verbose: bool) -> None:
    """Print a report, or write it and print its last line."""
    from vlcheck.reports.summary import summarise

    if output is None:
        say(_rendered(report, form, verbose=verbose), utf8=form is ReportFormat.JSON)
    else:
        write(output, _rendered(report, form, terminal=False, verbose=verbose))
        say(f"{summarise(report)}; report written to {output}\n")


def _rendered(report: Report, form: ReportFormat, *, terminal: bool = True, verbose: bool) -> str:
    from vlcheck.reports import RENDERERS, text

    if form is ReportFormat.TEXT:
        return text.render(report, verbose=verbose, **terminal_options() if terminal else {})
    return RENDERERS[form](report)


def _exit_code(report: Report, fail_on: Threshold, strict: bool) -> int:
    from vlcheck.finding import Severity

    return report.exit_code(fail_on=Severity[fail_on.name], strict=strict)
