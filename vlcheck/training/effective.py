"""The effective batch: what the micro-batches of one optimizer step hold together, over all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelerate.utils import gather_object

from vlcheck.processing.collator import Batch
from vlcheck.training.feed import MicroBatch
from vlcheck.training.watch import RunStopped


@dataclass(frozen=True)
class Counts:
    """Sums over a step's micro-batches and processes."""

    supervised: int
    tokens: int
    images: int
    unreadable: dict[str, str]
    dropped: tuple[str, ...]


def counted(micro_batches: Sequence[MicroBatch], processes: int) -> Counts:
    """Add up what a step holds."""
    own = {
        "supervised": sum(micro.supervised for micro in micro_batches),
        "tokens": sum(micro.tokens for micro in micro_batches),
        "images": sum(micro.images for micro in micro_batches),
        "unreadable": [pair for micro in micro_batches for pair in micro.unreadable],
        "dropped": [str(row) for micro in micro_batches for row in micro.dropped],
    }
    every: list[dict[str, Any]] = gather_object([own]) if processes > 1 else [own]
    unreadable = {name: reason for each in every for name, reason in each["unreadable"]}
    dropped = tuple(text for each in every for text in each["dropped"])
    supervised, tokens, images = (sum(each[n] for each in every) for n in ("supervised", "tokens", "images"))
    return Counts(supervised, tokens, images, unreadable, dropped)


def weighed(micro_batches: Sequence[MicroBatch], supervised: int) -> list[tuple[Batch, float]]:
    """Each batch with its share of the step's supervised ids.

    Where every row of a micro-batch was left out another one takes its place at weight zero, so that the
    processes of a run stay in step.

    Raises:
        RunStopped: if this process has no row at all.
    """
    some = next((micro.batch for micro in micro_batches if micro.batch is not None), None)
    if some is None:
        raise RunStopped("one process has no usable row in a step; repair the data, or use a larger micro-batch")
    return [(micro.batch or some, micro.supervised / supervised) for micro in micro_batches]
