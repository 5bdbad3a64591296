"""`vlcheck fit` and `vlcheck probe`: what a run takes on its card, projected and measured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from vlcheck.cli.options import (
    Answer,
    Cards,
    Config,
    Debug,
    DocumentForm,
    DocumentFormat,
    GpuCount,
    Images,
    MemoryGib,
    Offline,
    Settings,
    Tokens,
)
from vlcheck.cli.quiet import working
from vlcheck.cli.streams import fail, guarded, json_text, say

if TYPE_CHECKING:
    from vlcheck.evidence.resolve import Evidence
    from vlcheck.memory.shape import Shape
    from vlcheck.model.family import Family, Values
    from vlcheck.spec import RunSpec


@guarded
def fit(  # noqa: PLR0913, PLR0917  one parameter an option
    config: Config,
    gpu: Cards = None,
    memory_gib: MemoryGib = None,
    gpus: GpuCount = None,
    tokens: Tokens = None,
    images: Images = None,
    answer: Answer = None,
    settings: Settings = None,
    form: DocumentForm = DocumentFormat.TEXT,
    offline: Offline = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Show what a run takes on its card, and what else would fit. Needs no GPU and no weights."""
    from vlcheck.config.load import load
    from vlcheck.config.project import read_project
    from vlcheck.gpus import GPUS
    from vlcheck.gpus import card as card_of
    from vlcheck.gpus import gpu as row_of
    from vlcheck.memory.plan import YARDSTICK

    named = gpu or []
    if memory_gib is not None and (len(named) > 1 or "all" in named):
        fail("--memory-gib goes with one --gpu at most")
    alone = named[0] if named and memory_gib is not None else None
    spec = load(
        config,
        gpu=alone,
        memory_gib=memory_gib,
        gpus=gpus,
        settings=settings or (),
        project=read_project(config.parent),
    )
    named = [] if memory_gib is not None else named
    with _cards_known("--gpu"):
        wanted = [*GPUS] if "all" in named else [row_of(name) for name in named]
    own = wanted[0] if wanted and "all" not in named else None
    with _cards_known("hardware.gpu"):
        card = own or card_of(spec.hardware.gpu, spec.hardware.memory_gib)
    yardstick = card is None
    card = card or row_of(YARDSTICK)
    as_json = form is DocumentFormat.JSON
    with working(debug) as voice:
        from vlcheck.memory.search import fit as find_fit
        from vlcheck.reports.memory import fit_document, render_fit

        evidence = _evidence(spec, offline, voice.progress)
        model, family = _model(evidence)
        shape = _shape(spec, model, family, tokens, images, answer)
        lengths = evidence.get("lengths") if shape is None else None
        voice.progress("simulating training steps")
        found = find_fit(
            evidence.get("aimed"), model, family, card, tuple(wanted or GPUS), shape, lengths, named=not yardstick
        )
    say(json_text(fit_document(found)) if as_json else render_fit(found, str(config)), utf8=as_json)


@guarded
def probe(
    config: Config,
    steps: Annotated[int, typer.Option(min=1, max=100, help="Optimizer steps to measure.")] = 3,
    tokens: Tokens = None,
    form: DocumentForm = DocumentFormat.TEXT,
    offline: Offline = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Train a few steps with random weights on this machine's GPU, and hold them against the projection."""
    from vlcheck.config.load import load

    spec = load(config)
    as_json = form is DocumentFormat.JSON
    with working(debug) as voice:
        from vlcheck.memory.probe import probe as measure
        from vlcheck.memory.probe import probe_document
        from vlcheck.reports.memory import render_probe

        evidence = _evidence(spec, offline, voice.progress)
        model, family = _model(evidence)
        found = measure(
            evidence.get("aimed"),
            model,
            family,
            _shape(spec, model, family, tokens),
            steps=steps,
            progress=voice.progress,
        )
        document = probe_document(found, steps)
    say(json_text(document) if as_json else render_probe(document, str(config)), utf8=as_json)


def _evidence(spec: RunSpec, offline: bool, progress: Callable[[str], None]) -> Evidence:
    """The run's evidence, as the audit finds it; a run whose processor is not here can be planned too."""
    from vlcheck.evidence.resolve import Evidence

    return Evidence(spec, {}, offline=offline, progress=progress)


def _model(evidence: Evidence) -> tuple[Values, Family]:
    return evidence.get("config").values, evidence.get("family")


def _shape(spec: RunSpec, config: Values, family: Family, tokens: int | None, images: int | None = None,
           answer: int | None = None) -> Shape | None:  # fmt: skip
    """What the caller says of the rows; None where nothing is said, so that the rows themselves decide."""
    if tokens is None and images is None and answer is None:
        return None
    from vlcheck.memory.rows import shape_of
    from vlcheck.model.build import transformers_config

    return shape_of(
        spec.data, family, transformers_config(config).to_dict(), rows=spec.training.per_device_train_batch_size,
        tokens=tokens, images=images, answer=answer,
    )  # fmt: skip


@contextlib.contextmanager
def _cards_known(origin: str) -> Iterator[None]:
    from vlcheck.gpus import UnknownGpu

    try:
        yield
    except UnknownGpu as unknown:
        fail(f"{origin}: {unknown}; --memory-gib takes any card")
