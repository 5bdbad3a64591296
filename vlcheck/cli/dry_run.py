"""`vlcheck dry-run`: run a training script up to its first step, and judge what it holds there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlcheck.cli.audit import usual_format
from vlcheck.cli.options import (
    FailOn,
    Format,
    Ignore,
    MemoryGib,
    OneGpu,
    Output,
    Rows,
    Select,
    Strict,
)
from vlcheck.cli.streams import codes, destined, fail, guarded, say, write

if TYPE_CHECKING:
    from vlcheck.integrations.rehearsal.parent import Rehearsal

UNCONTAINED = (
    "Writing outside the rehearsal's folder, network and other programs were refused as far as Python's audit hooks "
    "see them; native code is not contained."
)


@guarded
def dry_run(  # noqa: PLR0913, PLR0917  one parameter an option
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="Training script or notebook.", show_default=False)],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="Its own arguments.", show_default=False)
    ] = None,
    form: Format = None,
    output: Output = None,
    strict: Strict = False,
    fail_on: FailOn = None,
    select: Select = None,
    ignore: Ignore = None,
    rows: Rows = 32,
    gpu: OneGpu = None,
    memory_gib: MemoryGib = None,
    seconds: Annotated[int, typer.Option(min=1, max=86_400, metavar="N", help="The script is killed then.")] = 300,
    script_gib: Annotated[float, typer.Option(min=0.5, max=4096, metavar="N", help="Memory that it may have.")] = 4.0,
) -> None:
    """Run SCRIPT up to its first step, offline and in miniature, and report what it holds there.

    This runs the code of SCRIPT, in a child process. Models are answered with the same architecture in miniature and
    random weights, data with its first rows; the report says what was replaced and what was refused. Options stand
    before SCRIPT.
    """
    from vlcheck.config.project import read_project
    from vlcheck.integrations.rehearsal.parent import rehearse
    from vlcheck.reports.project import weighing
    from vlcheck.rules.choosing import asked, choose_live

    if not script.is_file():
        fail(f"{script} is no file; allowed: a Python script or a notebook")
    if sys.platform != "linux":
        fail("vlcheck dry-run limits its child process as Linux does, and runs nowhere else")
    project = read_project(script.parent)
    selected, ignored = asked(project, live=True)
    selected, ignored = codes("--select", select) or selected, codes("--ignore", ignore) or ignored
    try:
        choose_live(selected, ignored)
    except ValueError as unknown:
        fail(str(unknown))
    weighing(project)  # what is wrong with it is said before the script runs
    delivery = destined(output, form, script, usual=usual_format(project))
    forms = sorted({wanted for wanted, _ in delivery.files} | {delivery.printed or "text"})
    options = {
        "forms": forms, "fail_on": (fail_on or project.threshold).name, "strict": strict, "memory_gib": memory_gib,
        "gpu": gpu or (None if memory_gib else project.gpu), "home": str(Path.cwd()), "select": selected,
        "ignore": ignored,
    }  # fmt: skip
    typer.echo(f"dry-run: running the code of {script} in a child process, at most {seconds} s", err=True)
    done = rehearse(script, arguments or (), seconds=seconds, memory_gib=script_gib, rows=rows, options=options)
    if not done.reports:
        if done.output.strip():
            typer.echo(done.output.rstrip()[-2000:], err=True)
        typer.echo(_told(done), err=True, nl=False)
        fail(done.failure)
    texts = {each: f"{text}\n{_told(done)}" if each == "text" else text for each, text in done.reports.items()}
    for each, path in delivery.files:
        write(path, texts[each])
    if delivery.printed is None:
        say(f"report written to {', '.join(str(path) for _, path in delivery.files)}\n")
    else:
        say(texts[delivery.printed], utf8=delivery.printed != "text")
    if delivery.printed != "text":
        typer.echo(_told(done), err=True, nl=False)
    if done.failure and done.code == 0:
        fail(done.failure)
    raise typer.Exit(done.code)


def _told(done: Rehearsal) -> str:
    """What a reader must know of how the script ran."""
    lines = [f"replaced: {line}" for line in done.replaced] + [f"refused: {line}" for line in done.refused]
    stopped = [f"not taken: {done.failure}"] if done.failure and done.reports else []
    return "\n".join([*lines, *stopped, UNCONTAINED]) + "\n"
