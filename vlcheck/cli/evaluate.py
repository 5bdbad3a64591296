"""Run `vlcheck evaluate` and `vlcheck compare`, and print what they found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlcheck.cli.fit import working
from vlcheck.cli.output import json_text, terminal_options
from vlcheck.cli.streams import say

if TYPE_CHECKING:
    from vlcheck.spec import RunSpec


def show_evaluation(
    spec: RunSpec, adapter: Path | None, output: Path | None, wanted: dict[str, Any], *, as_json: bool, debug: bool
) -> None:
    """Evaluate a run and print the scores.

    Args:
        wanted: `max_new_tokens`, `limit` and the fields of `Options`.
    """
    folder = output or Path(spec.training.output_dir) / ("evaluation-base" if adapter is None else "evaluation")
    with working(debug) as progress:
        from vlcheck.evaluation.run import evaluate_run
        from vlcheck.evidence.options import Options
        from vlcheck.reports.evaluation import render_evaluation

        document = evaluate_run(
            spec,
            folder,
            adapter=adapter,
            max_new_tokens=wanted.pop("max_new_tokens"),
            limit=wanted.pop("limit"),
            options=Options(**wanted),
            progress=progress,
        )
    say(
        json_text(document) if as_json else render_evaluation(document, str(folder), **terminal_options()), utf8=as_json
    )


def show_comparison(first: Path, second: Path, *, as_json: bool) -> None:
    """Compare two evaluations and print what became better or worse."""
    from vlcheck.evaluation.compare import compare, comparison_document
    from vlcheck.reports.evaluation import render_comparison

    document = comparison_document(compare(first, second))
    say(json_text(document) if as_json else render_comparison(document, **terminal_options()), utf8=as_json)
