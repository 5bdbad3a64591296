"""How evidence about the batches of a running job is had: its own collator, rows and images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vlcheck.collators.batch import Candidate
from vlcheck.collators.judge import CollatorChecks
from vlcheck.collators.pixels import ImageFaults
from vlcheck.collators.recorded import images_of, judge_recorded
from vlcheck.collators.trial import Trial
from vlcheck.evidence.live_run import LiveRun
from vlcheck.finding import NotApplicable, Unavailable, collector
from vlcheck.processing.collator import Collator
from vlcheck.processing.lengths import Lengths, measure_rows
from vlcheck.spec import RunSpec


@dataclass(frozen=True)
class PictureFlow:
    """Images on their way from the first rows to the model."""

    rows: int
    asked: int
    """Image parts that the rows' messages hold."""
    held: int
    """Images that the rows hold."""
    soft_tokens: int
    """Soft tokens in the batches' ids."""
    batches: int
    pixels: int
    """Batches that hold pixels."""
    blank: int
    """Of these, batches whose pixels are one value all over."""
    columns: tuple[str, ...]
    """Of the first row."""


@collector("looking at the live run's collator")
def candidate(live_run: LiveRun) -> Candidate:
    """The run's own collator, which is given rows of the run's data alone.

    Raises:
        Unavailable: if no row is known.
    """
    if live_run.collate is None:
        raise Unavailable("only batches are known, and not the rows that they were made of")
    return Candidate(live_run.collate, live_run.collator)


@collector("judging the run's own batches")
def checks(spec: RunSpec, live_run: LiveRun, own_collator: Collator) -> CollatorChecks:
    """One row check for each row of the first batches, of the training split and of the evaluation split.

    Raises:
        Unavailable: if there is no batch, or no assistant's turn was recognised in any.
    """
    batches = (*live_run.batches, *live_run.evaluated)
    if not batches:
        raise Unavailable("no batch of the run is known", "hand in batches=, rows or a DataLoader")
    found = judge_recorded(_maker(live_run), own_collator, batches, answers=spec.intent.answers)
    if not found.rows and not found.refused:
        raise Unavailable("no assistant's turn was recognised in the first batches, so no label was judged")
    return found


@collector("holding the evaluation's images against the processor's")
def evaluated_images(live_run: LiveRun, own_collator: Collator) -> ImageFaults:
    """What differs in the images of the evaluation split's first batch from what the processor makes of them.

    Raises:
        NotApplicable: if no row of an evaluation split is known.
    """
    if not any(batch.conversations for batch in live_run.evaluated):
        raise NotApplicable("no rows of an evaluation split are known")
    return images_of(_maker(live_run), own_collator, live_run.evaluated)


@collector("following images from the rows to the batches")
def picture_flow(live_run: LiveRun, own_collator: Collator) -> PictureFlow:
    """Images that the first training rows ask for and hold, and what of them is in the batches.

    Raises:
        Unavailable: if there is no batch.
    """
    made = [batch.made for batch in live_run.batches if batch.made is not None]
    rows = [row for batch in live_run.batches for row in batch.rows if isinstance(row, Mapping)]
    if not made:
        raise Unavailable("no batch of the run is known", "hand in batches=, rows or a DataLoader")
    soft = own_collator.processor.tokenizer.convert_tokens_to_ids(own_collator.dialogue.image_tokens[0])
    return PictureFlow(
        len(rows),
        sum(len(_parts(row)) for row in rows),
        sum(_images(row) for row in rows),
        sum(int((batch["input_ids"] == soft).sum()) for batch in made if "input_ids" in batch),
        len(made),
        sum(any(_is_pixels(value) for value in batch.values()) for batch in made),
        sum(_is_blank([value for value in batch.values() if _is_pixels(value)]) for batch in made),
        tuple(map(str, rows[0])) if rows else (),
    )


@collector("measuring the run's first rows")
def lengths(live_run: LiveRun, own_collator: Collator) -> Lengths:
    """Tokens, images and answers of the rows that are known; the plan says that they are not all."""
    rows = [row for batch in live_run.batches for row in batch.conversations]
    found = measure_rows(rows, own_collator)
    return Lengths(found.rows, f"only the first {len(rows)} rows were measured", found.names, found.slack)


@collector("leaving the miniature out: the model itself is here")
def trial() -> Trial:
    """No miniature is run where the model itself takes its batches."""
    return Trial("not measured: no miniature is built for a live run")


def _maker(live_run: LiveRun) -> Candidate:
    return Candidate(live_run.collate or (lambda conversations: {}), live_run.collator)


def _is_pixels(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() > 0 and value.dim() > 1


def _is_blank(pixels: list[torch.Tensor]) -> bool:
    """Whether nothing is to be seen: each tensor holds one value, all over."""
    return bool(pixels) and all(bool((value == value.flatten()[0]).all()) for value in pixels)


def _parts(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Image parts of a row's messages."""
    messages = [each for key in ("messages", "prompt", "completion") for each in _listed(row.get(key))]
    contents = [part for each in messages if isinstance(each, Mapping) for part in _listed(each.get("content"))]
    return [each for each in contents if isinstance(each, Mapping) and each.get("type") in ("image", "image_url")]


def _images(row: Mapping[str, Any]) -> int:
    """Images of a row, in its columns or inside its messages."""
    columns = [each for key in ("images", "image") for each in _listed(row.get(key))]
    inside = [part.get(key) for part in _parts(row) for key in ("image", "image_url", "url", "path")]
    return sum(each is not None for each in (*columns, *inside))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


BATCH_COLLECTORS = (candidate, checks, evaluated_images, picture_flow, lengths, trial)
