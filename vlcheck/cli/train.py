"""`vlcheck train`: judge a run, then train it."""

from __future__ import annotations

from typing import Annotated

import typer

from vlcheck.cli.options import AllowCode, Config, Debug, Offline, Stream
from vlcheck.cli.quiet import working
from vlcheck.cli.streams import FOUND, guarded


@guarded
def train(
    config: Config,
    force: Annotated[
        bool, typer.Option("--force", help="Train in spite of the audit's errors, or of another framework.")
    ] = False,
    auto_batch: Annotated[
        bool, typer.Option("--auto-batch", help="Let the memory plan split the effective batch.")
    ] = False,
    extend: Annotated[
        str | None,
        typer.Option(metavar="STEPS", help="Go on from the finished run: 20, or '2 epochs'.", show_default=False),
    ] = None,
    allow_code: AllowCode = False,
    offline: Offline = False,
    stream: Stream = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Audit a run, then train its adapters; takes an interrupted run up where it ended.

    SIGTERM and Ctrl-C write the last finished step; the same command goes on from there. On several GPUs:
    accelerate launch --module vlcheck train CONFIG
    """
    from vlcheck.config.defaults import own_loop
    from vlcheck.config.load import load
    from vlcheck.config.project import read_project
    from vlcheck.reports.project import weighing
    from vlcheck.rules.choosing import asked

    project = read_project(config.parent)
    spec = own_loop(load(config, project=project), force=force)
    (select, ignore), weighed = asked(project), weighing(project)
    started = True
    with working(debug, allow_code=allow_code) as voice:
        from vlcheck.engine import NotStarted, train_run
        from vlcheck.reports import text
        from vlcheck.training.extend import extended

        origin = None
        if extend is not None:
            spec, origin = extended(spec, extend)
        try:
            train_run(
                spec,
                force=force,
                auto_batch=auto_batch,
                allow_code=allow_code,
                offline=offline,
                stream=stream,
                select=select,
                ignore=ignore,
                fail_on=project.threshold,
                origin=origin,
                say=voice.line,
                progress=voice.progress,
                weighed=weighed,
                judged=lambda report: voice.line(text.render(report)),
            )
        except NotStarted:
            started = False
    if not started:
        raise typer.Exit(FOUND)
