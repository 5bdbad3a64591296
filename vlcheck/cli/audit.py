"""`vlcheck audit` and `vlcheck check-adapter`: judge, and say where the report goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from vlcheck.cli.options import (
    Against,
    AllowCode,
    Config,
    ConfigHere,
    Debug,
    FailOn,
    Format,
    FrameworkVersion,
    GpuCount,
    Held,
    Ignore,
    MemoryGib,
    NewBaseline,
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
from vlcheck.cli.streams import Delivery, codes, deliver, destined, fail, guarded, tell, write

if TYPE_CHECKING:
    from vlcheck.config.project import ProjectSettings
    from vlcheck.finding import Report, Severity
    from vlcheck.reports.baseline import Baseline
    from vlcheck.spec import RunSpec


@guarded
def audit(  # noqa: PLR0913, PLR0917  one parameter an option
    config: ConfigHere = Path("vlcheck.yaml"),
    form: Format = None,
    output: Output = None,
    strict: Strict = False,
    fail_on: FailOn = None,
    select: Select = None,
    ignore: Ignore = None,
    baseline: Held = None,
    write_baseline: NewBaseline = None,
    against: Against = None,
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
    from vlcheck.config.project import read_project

    project = read_project(config.parent)
    spec = load(
        config,
        gpu=gpu,
        memory_gib=memory_gib,
        gpus=gpus,
        framework_version=framework_version,
        settings=settings or (),
        project=project,
    )
    terms = settle(spec, project, config, form, output, fail_on, select, ignore, baseline, write_baseline)
    with working(debug, allow_code=allow_code) as voice:
        from vlcheck.engine import audit as judge
        from vlcheck.evidence.snapshot import read_snapshot

        given: dict[str, Any] = {} if against is None else {"earlier": read_snapshot(against)}
        report = judge(
            spec,
            allow_code=allow_code,
            offline=offline,
            stream=stream,
            rows=rows,
            progress=voice.progress,
            **terms.rules,
            **given,
        )
    conclude(report, terms, strict=strict, verbose=verbose)


@guarded
def check_adapter(  # noqa: PLR0913, PLR0917  one parameter an option
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the saved adapter.", show_default=False)],
    config: Config,
    form: Format = None,
    output: Output = None,
    strict: Strict = False,
    fail_on: FailOn = None,
    select: Select = None,
    ignore: Ignore = None,
    baseline: Held = None,
    write_baseline: NewBaseline = None,
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
    from vlcheck.config.project import read_project

    spec, project = load(config), read_project(config.parent)
    terms = settle(spec, project, config, form, output, fail_on, select, ignore, baseline, write_baseline, saved=True)
    for _, path in terms.delivery.files:
        if path.resolve().parent == folder.resolve():
            fail(f"--output {path} lies in the adapter's folder")
    adapter = read_adapter(folder)
    with working(debug, allow_code=allow_code) as voice:
        from vlcheck.engine import check_adapter as judge

        report = judge(spec, adapter, allow_code=allow_code, offline=offline, progress=voice.progress, **terms.rules)
    conclude(report, terms, strict=strict, verbose=verbose)


@dataclass(frozen=True)
class Terms:
    """What options and the project's file ask of a report, settled before any work is done for it."""

    rules: Mapping[str, tuple[str, ...]]
    severities: Mapping[str, Severity]
    fail_on: Severity
    delivery: Delivery
    baseline: Baseline | None
    new_baseline: Path | None


def settle(  # noqa: PLR0913, PLR0917  what the options of a command with a report say
    spec: RunSpec,
    project: ProjectSettings,
    config: Path,
    form: ReportFormat | None,
    output: Sequence[str] | None,
    fail_on: Threshold | None,
    select: Sequence[str] | None,
    ignore: Sequence[str] | None,
    baseline: Path | None,
    write_baseline: Path | None,
    *,
    saved: bool = False,
    launched: bool = False,
) -> Terms:
    """Hold options against what there is; each that is given outranks the project's.

    Args:
        saved: for the rules of saved adapters.
        launched: for the rules of jobs too.
    """
    from vlcheck.finding import Severity
    from vlcheck.rules.ignores import check_ignores

    if spec.ignores:
        check_ignores(spec)
    if baseline is not None and write_baseline is not None:
        fail("--baseline and --write-baseline exclude each other")
    rules, graded = _rules(project, select, ignore, saved=saved, launched=launched)
    return Terms(
        rules=rules,
        severities=graded,
        fail_on=Severity[fail_on.name] if fail_on else project.threshold,
        delivery=destined(output, form, config, usual=usual_format(project)),
        baseline=_baseline(None if write_baseline else baseline or project.baseline),
        new_baseline=_new_file(write_baseline),
    )


def usual_format(project: ProjectSettings) -> str | None:
    """The format that a project wants where no option names one.

    Raises:
        ConfigError: if it is none that there is.
    """
    if project.format is not None and project.format not in list(ReportFormat):
        raise project.refuse("format", f"{project.format!r} is no format; allowed: {', '.join(ReportFormat)}")
    return project.format


def conclude(report: Report, terms: Terms, *, strict: bool, verbose: bool) -> NoReturn:
    """Deliver a report on these terms, see to the baseline, and end with the exit code."""
    from vlcheck.reports.baseline import baseline_of, held, render_baseline, shrunk
    from vlcheck.rules.choosing import graded

    report = graded(report, terms.severities) if terms.severities else report
    baseline = terms.baseline
    if terms.new_baseline is not None:
        baseline = baseline_of(report, terms.new_baseline)
        write(baseline.path, render_baseline(baseline))
        tell(f"{baseline.path} holds {len(baseline.entries)} findings; --baseline {baseline.path} leaves them out")
    if baseline is not None:
        smaller = shrunk(report, baseline)
        report = held(report, baseline)
        if fixed := len(baseline.entries) - len(smaller.entries):
            write(baseline.path, render_baseline(smaller))
            tell(f"{baseline.path}: {fixed} fixed and taken out, {len(smaller.entries)} left")
    deliver(report, terms.delivery, verbose=verbose, fail_on=terms.fail_on)
    raise typer.Exit(report.exit_code(fail_on=terms.fail_on, strict=strict))


def _rules(
    project: ProjectSettings,
    select: Sequence[str] | None,
    ignore: Sequence[str] | None,
    *,
    saved: bool,
    launched: bool,
) -> tuple[dict[str, tuple[str, ...]], dict[str, Severity]]:
    """The rules to run, which must be rules that there are, at least one; and severities by code."""
    from vlcheck.rules.choosing import asked, choose, severities

    usual = asked(project, saved=saved, launched=launched)
    wanted = {"select": codes("--select", select) or usual[0], "ignore": codes("--ignore", ignore) or usual[1]}
    try:
        chosen = choose(**wanted, saved=saved, launched=launched)
    except ValueError as unknown:
        fail(str(unknown))
    if not chosen:
        fail("--select and --ignore leave no rule to run")
    return wanted, severities(project.severity)


def _baseline(path: Path | None) -> Baseline | None:
    from vlcheck.data.atomic_write import check_writable
    from vlcheck.reports.baseline import read_baseline

    if path is None:
        return None
    found = read_baseline(path)
    try:
        check_writable(path)
    except OSError as refused:
        fail(f"cannot take fixed findings out of {path}: {refused.strerror}")
    return found


def _new_file(path: Path | None) -> Path | None:
    from vlcheck.data.atomic_write import check_writable

    if path is None:
        return None
    if path.exists():
        fail(f"{path} exists, and a baseline only shrinks: --baseline {path} takes fixed findings out of it")
    try:
        check_writable(path)
    except OSError as refused:
        fail(f"cannot write {refused.filename or path}: {refused.strerror}")
    return path
