"""`vlcheck reproduce`: the article's systems end to end, and what faults cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vlcheck.cli.options import Debug, DocumentForm, DocumentFormat, Offline, Stream
from vlcheck.cli.quiet import working
from vlcheck.cli.streams import COULD_NOT_RUN, fail, guarded, json_text, say, terminal_options

SWEEP = Path("tests", "gpu", "standin", "sweep.py")


@guarded
def reproduce(  # noqa: PLR0913, PLR0917  one parameter an option
    system: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="One of the article's systems; repeat it for more.", show_default=False),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="`article` lists all names, `ours` does not; both if none is named."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(metavar="N", min=2, help="Rows of training and of evaluation: a trial.", show_default=False),
    ] = None,
    standin: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="fixtures/standin of a checkout: a small model.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the models' folders, instead of the cache.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The photos, instead of timm/oxford-iiit-pet.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the runs.")] = Path(
        "reproduction"
    ),
    harm: Annotated[bool, typer.Option("--harm", help="What faults cost; with --standin, run what is left.")] = False,
    seconds: Annotated[int, typer.Option(metavar="N", min=60, help="Of one call of --harm --standin.")] = 480,
    form: DocumentForm = DocumentFormat.TEXT,
    offline: Offline = False,
    stream: Stream = False,
    debug: Debug = False,
) -> None:
    """Run the article's four systems and print its figures beside ours, with intervals.

    What has run is kept in --output and not run again. Exit code 2 if a system could not be run.
    """
    from vlcheck.evaluation.article import PROMPTS, SYSTEMS

    if harm:
        _harm(standin, seconds, form)
        return
    names, prompts = _chosen("--system", system, tuple(SYSTEMS)), _chosen("--prompt", prompt, PROMPTS)
    if standin is not None and (weights is not None or data is not None):
        fail("--standin takes the place of --weights and --data; name one or the other")
    lines: list[dict[str, Any]] = []
    with working(debug) as voice:
        from vlcheck.evaluation.reproduction import Reproduction, Weights
        from vlcheck.evaluation.standin import read_base
        from vlcheck.evidence.options import Options

        source = Weights(weights, data) if standin is None else read_base(standin)
        runs = Reproduction(
            source, output, samples, Options(offline=offline, stream=stream), progress=voice.progress,
        )  # fmt: skip
        for name in names:
            for asked in prompts:
                voice.progress(f"{name}, prompt {asked}")
                lines.append(runs.run(name, asked))
        parameters = getattr(source, "parameters", None)
    from vlcheck.reports.reproduction import render_reproduction

    as_json = form is DocumentFormat.JSON
    text = json_text(lines) if as_json else render_reproduction(lines, parameters=parameters, **terminal_options())
    say(text, utf8=as_json)
    if any("exact" not in line for line in lines):
        raise typer.Exit(COULD_NOT_RUN)


def _chosen(option: str, given: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in given or () if name not in known]:
        fail(f"{option} {unknown[0]}; allowed: {', '.join(known)}")
    return tuple(name for name in known if given is None or name in given)


def _harm(standin: Path | None, seconds: int, form: DocumentFormat) -> None:
    from vlcheck.reports.harm import measured, read_table, render_harm
    from vlcheck.rules import every_rule

    table = measured()
    if standin is not None:
        checkout = standin.resolve().parent.parent
        if not (checkout / SWEEP).is_file():
            fail(f"--harm --standin {standin}: {checkout / SWEEP} is not there; name fixtures/standin of a checkout")
        _sweep(checkout, seconds)
        table = read_table(checkout / "vlcheck" / "reports" / "harm.json")
    as_json = form is DocumentFormat.JSON
    say(json_text(table) if as_json else render_harm(table, every_rule()), utf8=as_json)


def _sweep(checkout: Path, seconds: int) -> None:
    """Some of the runs that are left, each a line in fixtures/harm of the checkout."""
    import subprocess
    import sys

    import torch

    if not torch.cuda.is_available():
        fail("--harm --standin needs a CUDA GPU, where a run takes 20 to 100 s; on a CPU one takes half an hour. "
             "--harm alone prints what was measured")  # fmt: skip
    command = [sys.executable, "-m", "tests.gpu.standin.harm", "--seconds", str(seconds)]
    if subprocess.run(command, cwd=checkout, check=False).returncode:
        fail("the sweep could not be run; what it says is above")
