"""`vlcheck.check_run`: hold a job's own objects to the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import nn

from vlcheck.finding import Report
from vlcheck.integrations.job import Job, Split, judge
from vlcheck.integrations.places import called_at, collator_at
from vlcheck.spec import Framework, Intent

ROWS = 8
"""Rows of each split that are collated and judged."""


def check_run(  # noqa: PLR0913  one parameter a part of a run
    trainer: Any = None,
    *,
    model: nn.Module | None = None,
    collator: Callable[..., Any] | None = None,
    processor: Any = None,
    batches: Any = (),
    eval_batches: Any = (),
    optimizer: Any = None,
    answers: Literal["all", "last"] = "all",
    modalities: tuple[str, ...] = ("image", "text"),
    rows: int = ROWS,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    progress: Callable[[str], None] = lambda step: None,
) -> Report:
    """Judge a run by the objects that will train, or are training, it: of a trainer, or of any loop.

    Call it before the first step: it looks at the live model, its first real batches and the optimizer, and runs the
    model up to its head on one batch. Called again behind the first backward, it looks at the gradients too. Random
    states, gradients, modes and the order of the data loader stay as they are.

    Args:
        trainer: a `transformers.Trainer` or one of TRL's; what else is handed in takes the place of its own.
        model: as it is trained, with or without PEFT around it.
        collator: called with a list of rows.
        processor: tokenizer, image processor and chat template; evaluation's, where there are two.
        batches: a DataLoader (its data set is read by index, it is not iterated), or a list of batches, each a mapping
            of tensors or a list of rows for `collator`.
        eval_batches: the same of the evaluation split.
        optimizer: whose groups are held against the model.
        answers: `last` if only the last answer of a conversation is meant to be trained.
        modalities: what the samples hold: image, text, audio, video.
        rows: how many rows of each split are looked at.
        select, ignore, progress: as for `vlcheck.audit`.

    Raises:
        TypeError: if there is neither trainer nor model, or batches are neither of these.
        ConfigError: if vlcheck cannot tell the model's parts.
        ValueError: if a selected rule does not exist, or is not asked of a running job.
    """
    job = _job(trainer, model)
    parts: dict[str, Any] = {"processor": processor, "optimizer": optimizer}
    if batches or collator is not None:
        parts["training"] = _split(batches, collator or job.training.collate, "batches")
    if eval_batches:
        parts["evaluation"] = _split(eval_batches, collator or job.evaluation.collate, "eval_batches")
    given = {name: part for name, part in parts.items() if part is not None}
    job = Job(**{**vars(job), **given})
    return judge(
        job,
        rows=rows,
        intent=Intent(answers=answers),
        modalities=modalities,
        sources={**called_at(), **collator_at(job.training.collate)},
        select=tuple(select),
        ignore=tuple(ignore),
        progress=progress,
    )


def _job(trainer: Any, model: nn.Module | None) -> Job:
    if trainer is not None:
        job = of_trainer(trainer)
        return job if model is None else Job(**{**vars(job), "model": model})
    if model is None:
        raise TypeError("check_run takes a trainer, or model= with collator=, processor=, batches= and optimizer=")
    return Job(model, mode=model.training)


def of_trainer(trainer: Any) -> Job:
    """What a trainer holds before or while it trains; nothing of it is built for this.

    transformers names no public way to the columns that its loader drops, so its own method is asked (5.23).
    """
    collator = trainer.data_collator
    if not _is_table(trainer.train_dataset):
        collator = trainer._get_collator_with_removed_columns(collator)
    training = Split(_columns(trainer, trainer.train_dataset), collator)
    evaluated = trainer.eval_dataset
    if isinstance(evaluated, dict) and not _is_table(evaluated):
        evaluated = next(iter(evaluated.values()), None)
    return Job(
        trainer.model,
        training,
        Split(_columns(trainer, evaluated), collator),
        processor=trainer.processing_class,
        optimizer=trainer.optimizer,
        arguments=trainer.args,
        framework=framework_of(trainer),
        autocast=autocast_of(trainer.args, trainer.model),
    )


def autocast_of(arguments: Any, model: nn.Module) -> Callable[[], AbstractContextManager[Any]]:
    """The precision that a trainer computes its forward in, as accelerate sets it up."""
    half = torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else None
    kind = next(model.parameters()).device.type
    return lambda: torch.autocast(kind, half) if half is not None else nullcontext()


def framework_of(trainer: Any) -> Framework:
    """Whose trainer it is."""
    homes = {each.__module__.partition(".")[0] for each in type(trainer).__mro__}
    return "trl" if "trl" in homes else "transformers"


def _is_table(dataset: Any) -> bool:
    """Whether it is a `datasets.Dataset`, of which transformers' loader drops columns itself."""
    return hasattr(dataset, "column_names") and hasattr(dataset, "remove_columns")


def _columns(trainer: Any, dataset: Any) -> Any:
    return trainer._remove_unused_columns(dataset) if _is_table(dataset) else dataset


def _split(batches: Any, collate: Any, name: str) -> Split:
    """Where the batches of a loop come from."""
    if hasattr(batches, "dataset") and hasattr(batches, "collate_fn"):
        return Split(batches.dataset, collate or batches.collate_fn)
    if hasattr(batches, "__len__") and hasattr(batches, "__getitem__"):
        return Split(batches=tuple(batches), collate=collate)
    raise TypeError(
        f"{name} is {type(batches).__name__}; allowed: a DataLoader, or a list of batches. What can be read only once "
        "would lose its first batches"
    )
