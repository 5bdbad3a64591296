"""`vlcheck fit` and `vlcheck probe`: what a run takes on its card, projected and measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from vlcheck.cli.options import Cards, Config, Debug, Format, Offline, ReportFormat, Tokens
from vlcheck.cli.quiet import working
from vlcheck.cli.streams import fail, guarded, json_text, say

if TYPE_CHECKING:
    from vlcheck.gpus import Gpu
    from vlcheck.memory.shape import Shape
    from vlcheck.model.family import Family, Values
    from vlcheck.spec import RunSpec


@guarded
def fit(
    config: Config,
    gpu: Cards = None,
    tokens: Tokens = None,
    form: Format = ReportFormat.TEXT,
    offline: Offline = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Show what a run takes on its card, and what else would fit. Needs no GPU and no weights."""
    from vlcheck.config.load import load
    from vlcheck.gpus import GPUS

    spec = load(config)
    named = gpu or ()
    wanted = [*GPUS] if "all" in named else [_card(name, "--gpu") for name in named]
    own = wanted[0] if wanted and "all" not in named else None
    card = own or (_card(spec.hardware.gpu, "hardware.gpu") if spec.hardware.gpu else None)
    if card is None:
        fail(f"the config names no hardware.gpu: give --gpu (known: {', '.join(row.name for row in GPUS)})")
    as_json = form is ReportFormat.JSON
    with working(debug) as voice:
        from vlcheck.memory.search import fit as find_fit
        from vlcheck.reports.memory import fit_document, render_fit

        model, family = _model(spec, offline, voice.progress)
        voice.progress("simulating training steps")
        found = find_fit(spec, model, family, card, tuple(wanted or GPUS), _shape(spec, model, tokens))
    say(json_text(fit_document(found)) if as_json else render_fit(found, str(config)), utf8=as_json)


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
    from vlcheck.config.load import load

    spec = load(config)
    as_json = form is ReportFormat.JSON
    with working(debug) as voice:
        from vlcheck.memory.probe import probe as measure
        from vlcheck.memory.probe import probe_document
        from vlcheck.reports.memory import render_probe

        model, family = _model(spec, offline, voice.progress)
        found = measure(spec, model, family, _shape(spec, model, tokens), steps=steps, progress=voice.progress)
        document = probe_document(found, steps)
    say(json_text(document) if as_json else render_probe(document, str(config)), utf8=as_json)


def _model(spec: RunSpec, offline: bool, progress: Callable[[str], None]) -> tuple[Values, Family]:
    """The model's config and family, as the audit finds them; a run whose processor is not here can be planned too."""
    from vlcheck.evidence.resolve import Evidence

    evidence = Evidence(spec, {}, offline=offline, progress=progress)
    return evidence.get("config").values, evidence.get("family")


def _shape(spec: RunSpec, config: Values, tokens: int | None) -> Shape | None:
    if tokens is None:
        return None
    from vlcheck.memory.rows import shape_of
    from vlcheck.model.build import transformers_config

    return shape_of(spec, transformers_config(config).to_dict(), tokens=tokens)


def _card(name: str, origin: str) -> Gpu:
    from vlcheck.gpus import gpu

    try:
        return gpu(name)
    except ValueError as unknown:
        fail(f"{origin}: {unknown}")
