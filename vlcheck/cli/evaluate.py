"""`vlcheck evaluate` and `vlcheck compare`: what a model answers, and whether another answers better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlcheck.cli.options import AllowCode, Config, Debug, DocumentForm, DocumentFormat, Offline, Stream
from vlcheck.cli.quiet import working
from vlcheck.cli.streams import guarded, json_text, say, terminal_options


@guarded
def evaluate(  # noqa: PLR0913, PLR0917  one parameter an option
    config: Config,
    adapter: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of a saved adapter; left out, the base alone.", show_default=False),
    ] = None,
    merged: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of a merged model, asked in the base's place.", show_default=False),
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
        int | None,
        typer.Option(metavar="N", min=1, help="Evaluate N rows only, every label in turn.", show_default=False),
    ] = None,
    class_list: Annotated[
        bool, typer.Option("--class-list", help="List the split's labels behind each question.")
    ] = False,
    few_shot: Annotated[
        int, typer.Option(metavar="N", min=0, max=64, help="Show N rows of the training split, with their answers.")
    ] = 0,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="Draw tokens at this temperature; 0 takes the most probable.")
    ] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0, help="Draw among this share of probability.")] = 1.0,
    beams: Annotated[int, typer.Option(min=1, max=64, help="Follow so many answers at a time.")] = 1,
    form: DocumentForm = DocumentFormat.TEXT,
    force: Annotated[bool, typer.Option("--force", help="Evaluate a run of another framework all the same.")] = False,
    allow_code: AllowCode = False,
    offline: Offline = False,
    stream: Stream = False,
    debug: Debug = False,
) -> None:
    """Let the run's model answer its evaluation split, and score the answers by exact match.

    Prompts and images are made by the collator that trains. What was predicted is kept when the command is
    interrupted; the same command takes it up.
    """
    from vlcheck.config.defaults import own_loop
    from vlcheck.config.load import load

    spec = own_loop(load(config), force=force)
    usual = "evaluation-merged" if merged else "evaluation-base" if adapter is None else "evaluation"
    folder = output or Path(spec.training.output_dir) / usual
    with working(debug, allow_code=allow_code) as voice:
        from vlcheck.evaluation.run import evaluate_run
        from vlcheck.evidence.options import Options
        from vlcheck.processing.generate import Decoding

        document = evaluate_run(
            spec,
            folder,
            adapter=adapter,
            merged=merged,
            max_new_tokens=max_new_tokens,
            limit=limit,
            class_list=class_list,
            few_shot=few_shot,
            decoding=Decoding(temperature, top_p, beams, spec.training.seed),
            options=Options(allow_code=allow_code, offline=offline, stream=stream),
            progress=voice.progress,
        )
    from vlcheck.reports.evaluation import render_evaluation

    as_json = form is DocumentFormat.JSON
    text = json_text(document) if as_json else render_evaluation(document, str(folder), **terminal_options())
    say(text, utf8=as_json)


@guarded
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of an evaluation.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="Folder of another.", show_default=False)],
    form: DocumentForm = DocumentFormat.TEXT,
) -> None:
    """Say whether one evaluation is better than another, row by row: McNemar's exact test."""
    from vlcheck.evaluation.compare import compare as hold
    from vlcheck.evaluation.compare import comparison_document
    from vlcheck.reports.evaluation import render_comparison

    document = comparison_document(hold(first, second))
    as_json = form is DocumentFormat.JSON
    say(json_text(document) if as_json else render_comparison(document, **terminal_options()), utf8=as_json)
