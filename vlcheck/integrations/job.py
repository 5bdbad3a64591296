"""What a job hands over to be judged, whatever loop trains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from torch import nn

from vlcheck.engine import report_on
from vlcheck.evidence.live import LIVE
from vlcheck.evidence.live_run import LiveRun
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Report
from vlcheck.integrations.description import adapted, describe
from vlcheck.integrations.first_rows import Collate, collate_again, from_batches, from_dataset
from vlcheck.integrations.undisturbed import undisturbed
from vlcheck.rules import choose_live
from vlcheck.spec import Framework, Intent, Location, RunSpec

BATCH = 4
"""Rows of a batch that is made to be judged, at most."""


@dataclass(frozen=True)
class Split:
    """Where batches of a split come from: rows and a collator, or batches that are made already."""

    dataset: Any = None
    collate: Collate | None = None
    batches: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Job:
    """The objects of a run."""

    model: nn.Module
    training: Split = field(default_factory=Split)
    evaluation: Split = field(default_factory=Split)
    processor: Any = None
    optimizer: Any = None
    arguments: Any = None
    framework: Framework = "other"
    mode: bool | None = None
    """Whether it trains in training mode; None where whoever trains sets the mode in each step."""
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    peak_bytes: int | None = None


def judge(
    job: Job,
    *,
    rows: int,
    intent: Intent | None = None,
    modalities: tuple[Any, ...] = ("image", "text"),
    sources: Mapping[str, Location] = MappingProxyType({}),
    select: tuple[str, ...] = (),
    ignore: tuple[str, ...] = (),
    progress: Callable[[str], None] = lambda step: None,
) -> Report:
    """Judge a job as it stands; its random states, gradients, modes and data loaders stay as they are.

    Args:
        rows: how many rows of each split are collated.
        intent, modalities: what the run means to train, and what its samples hold.
        sources: places that findings name, by section.
        select, ignore, progress: as for `vlcheck.audit`.

    Raises:
        ConfigError: if vlcheck cannot tell the model's parts.
        ValueError: if a selected rule does not exist, or is not asked of a running job.
    """
    rules = choose_live(select, ignore, adapted=adapted(job.model))
    spec = describe(
        job.model,
        arguments=job.arguments,
        optimizer=job.optimizer,
        framework=job.framework,
        intent=intent,
        modalities=modalities,
        sources=sources,
    )
    with undisturbed(*(part for split in (job.training, job.evaluation) for part in vars(split).values())):
        return report_on(spec, rules, evidence_of(job, spec, rows=rows, progress=progress))


def evidence_of(
    job: Job, spec: RunSpec, *, rows: int, progress: Callable[[str], None] = lambda step: None, **given: Any
) -> Evidence:
    """The evidence of a job; its first batches are collated at once, all else when a rule asks for it.

    Args:
        spec: its description, from `describe`.
        rows: how many rows of each split are collated.
        given: further evidence by name.
    """
    given |= {"model": job.model, "live_run": _live(job, rows)}
    return Evidence(spec, given, progress=progress, collectors=LIVE, offline=True, rows=rows)


def _live(job: Job, rows: int) -> LiveRun:
    size = min(getattr(job.arguments, "per_device_train_batch_size", BATCH), BATCH)
    training = _recorded(job.training, "training", rows, size)
    evaluated = _recorded(job.evaluation, "evaluation", rows, size)
    makers = [collate_again(training, job.training.collate), collate_again(evaluated, job.evaluation.collate)]
    return LiveRun(
        job.model,
        training,
        evaluated,
        optimizer=job.optimizer,
        processor=job.processor,
        collator=_named(job.training.collate),
        collate=_either(makers[0], makers[1]),
        mode=job.mode,
        autocast=job.autocast,
        peak_bytes=job.peak_bytes,
    )


def _recorded(split: Split, name: str, rows: int, size: int) -> Any:
    if split.batches:
        return from_batches(split.batches, split.collate, name)
    if split.dataset is None or split.collate is None:
        return ()
    return from_dataset(split.dataset, split.collate, name, rows=rows, batch=size)


def _either(training: Any, evaluation: Any) -> Any:
    """Rows of the evaluation split are collated by its own collator."""
    if training is None or evaluation is None:
        return training or evaluation
    return lambda rows: (evaluation if str(rows[0]).startswith("evaluation") else training)(rows)


def _named(collate: Any) -> str:
    inner = getattr(collate, "data_collator", collate)  # transformers' wrapper that drops columns
    name = getattr(inner, "__qualname__", None) or type(inner).__name__
    return f"the run's collator {name}" if collate is not None else "the run's collator"


def with_step(job: Job, **changed: Any) -> Job:
    """The same job at another moment."""
    return replace(job, **changed)


def whole_batch(batch: Mapping[str, Any]) -> Split:
    """A split of which one batch is known, as it came to the model."""
    return Split(batches=(dict(batch),))
