"""`vlcheck preflight`: judge a run together with the job that is about to be paid for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from vlcheck.cli.audit import conclude, settle
from vlcheck.cli.options import (
    AllowCode,
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
    Rows,
    Select,
    Settings,
    Stream,
    Strict,
    Verbose,
)
from vlcheck.cli.quiet import working
from vlcheck.cli.streams import guarded


@guarded
def preflight(  # noqa: PLR0913, PLR0917  one parameter an option
    config: ConfigHere = Path("vlcheck.yaml"),
    job: Annotated[
        Path | None,
        typer.Option("--job", metavar="FILE", help="The job's own file; without it, launch: of the config.",
                     show_default=False),
    ] = None,
    requirements: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Requirements file or Dockerfile of the job's image.", show_default=False),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="metrics.jsonl of an earlier run on the job's card.", show_default=False),
    ] = None,
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
    stream: Stream = False,
    rows: Rows = 32,
    gpu: OneGpu = None,
    memory_gib: MemoryGib = None,
    gpus: GpuCount = None,
    framework_version: FrameworkVersion = None,
    settings: Settings = None,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Report what would go wrong with a run and with the job that starts it.

    All that `vlcheck audit` says, and rules VLC6xx on the job: a Cloud Run job's YAML, a `gcloud run jobs` command,
    Terraform's plan, a Kubernetes Job, SkyPilot, Modal, AWS Batch, SageMaker or RunPod, told by its content. Nothing is
    started, and paths of the job are not looked for here.

    --select and --ignore take lists with commas and can be repeated.
    """
    from vlcheck.config.project import read_project
    from vlcheck.launch.arguments import pinned_version
    from vlcheck.launch.earlier import read_step_seconds
    from vlcheck.launch.mounted import load_for
    from vlcheck.launch.native import job_of_config
    from vlcheck.launch.read import read_job, with_requirements

    hardware: dict[str, Any] = {"gpu": gpu, "memory_gib": memory_gib, "gpus": gpus, "settings": settings or ()}
    project = read_project(config.parent)
    started = None if job is None else read_job(job)
    spec, told = load_for(config, started, framework_version=framework_version, project=project, **hardware)
    terms = settle(
        spec, project, config, form, output, fail_on, select, ignore, baseline, write_baseline, launched=True
    )
    started = started or job_of_config(spec)
    for file in requirements or ():
        started = with_requirements(started, file)
    if framework_version is None and (pinned := pinned_version(spec, started)):
        spec, told = load_for(config, started, framework_version=pinned, project=project, **hardware)
    started = replace(started, remarks=(*started.remarks, *told))
    earlier = {} if metrics is None else {"earlier_seconds": read_step_seconds(metrics)}
    with working(debug, allow_code=allow_code) as voice:
        from vlcheck.engine import preflight as judge

        report = judge(
            spec, started, allow_code=allow_code, offline=offline, stream=stream, rows=rows, progress=voice.progress,
            **terms.rules, **earlier,
        )  # fmt: skip
    conclude(report, terms, strict=strict, verbose=verbose)
