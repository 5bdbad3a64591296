"""Run `vlcheck fit` and `vlcheck probe`, and print what they found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vlcheck.cli.output import json_text
from vlcheck.cli.quiet import quieted, spinner
from vlcheck.cli.streams import fail, say
from vlcheck.gpus import GPUS, UnknownGpu, gpu
from vlcheck.gpus import card as card_of

if TYPE_CHECKING:
    from vlcheck.spec import RunSpec


def show_fit(spec: RunSpec, source: str, names: Sequence[str], tokens: int | None, *, as_json: bool, offline: bool,
             debug: bool) -> None:  # fmt: skip
    """Print the ledger, what else would fit, and the table over cards."""
    with _cards_known("--gpu"):
        wanted = [*GPUS] if "all" in names else [gpu(name) for name in names]
    own = wanted[0] if wanted and "all" not in names else None
    with _cards_known("hardware.gpu"):
        card = own or card_of(spec.hardware.gpu, spec.hardware.memory_gib)
    if card is None:
        known = ", ".join(row.name for row in GPUS)
        fail(f"the config names no hardware.gpu: give --gpu or --memory-gib (known: {known})")
    with working(debug) as progress:
        from vlcheck.memory.search import fit
        from vlcheck.reports.memory import fit_document, render_fit

        config, family = _model(spec, offline)
        progress("simulating training steps")
        found = fit(spec, config, family, card, tuple(wanted or GPUS), _shape(spec, config, family, tokens))
    say(json_text(fit_document(found)) if as_json else render_fit(found, source), utf8=as_json)


def show_probe(spec: RunSpec, source: str, steps: int, tokens: int | None, *, as_json: bool, offline: bool,
               debug: bool) -> None:  # fmt: skip
    """Print measured beside projected."""
    with working(debug) as progress:
        from vlcheck.memory.probe import probe, probe_document
        from vlcheck.reports.memory import render_probe

        config, family = _model(spec, offline)
        found = probe(spec, config, family, _shape(spec, config, family, tokens), steps=steps, progress=progress)
        document = probe_document(found, steps)
    say(json_text(document) if as_json else render_probe(document, source), utf8=as_json)


@contextlib.contextmanager
def working(debug: bool) -> Iterator[Callable[[str], None]]:
    """Quiet libraries, a spinner, and one line for what cannot be done."""
    from vlcheck.finding import Unavailable

    try:
        with spinner() as progress, contextlib.nullcontext() if debug else quieted():
            progress("importing torch")
            yield progress
    except Unavailable as unavailable:
        if debug:
            raise
        fail(f"{unavailable.reason}{f'; {unavailable.unlock}' if unavailable.unlock else ''}")


def _model(spec: RunSpec, offline: bool) -> tuple[Any, Any]:
    """The model's config and family, as the audit finds them."""
    from vlcheck.evidence.resolve import Evidence

    evidence = Evidence(spec, {}, offline=offline)
    found: tuple[Any, Any] = evidence.call(lambda config, family: (config.values, family))
    return found


def _shape(spec: RunSpec, config: Any, family: Any, tokens: int | None) -> Any:
    if tokens is None:
        return None
    from vlcheck.memory.rows import shape_of
    from vlcheck.model.build import transformers_config

    return shape_of(
        spec.data, family, transformers_config(config).to_dict(), rows=spec.training.per_device_train_batch_size,
        tokens=tokens,
    )  # fmt: skip


@contextlib.contextmanager
def _cards_known(origin: str) -> Iterator[None]:
    try:
        yield
    except UnknownGpu as unknown:
        fail(f"{origin}: {unknown}; --memory-gib takes any card")
