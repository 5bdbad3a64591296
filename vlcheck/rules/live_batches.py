"""VLC0xx: what the first batches of a running job hold, beside their labels' places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule
from vlcheck.rules.row_checks import names, quoted, rows_of, where

if TYPE_CHECKING:
    from vlcheck.collators.judge import CollatorChecks
    from vlcheck.collators.pixels import ImageFaults
    from vlcheck.collators.rows import RowCheck
    from vlcheck.evidence.live_batches import PictureFlow
    from vlcheck.spec import RunSpec


@rule("VLC005", "labels-of-another-text", Severity.ERROR,
      explains=("VLC202", "VLC205", "VLC206", "VLC208", "VLC209", "VLC210", "VLC212", "VLC233"))  # fmt: skip
def labels_of_another_text(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Labels are ids that the row does not hold at any shift: another tokenizer's, or of another text.

    Law: a label that is not -100 is the id at its own position. Labels that were cut by a tokenizer of their own, the
    base model's before tokens were added or an older one from the cache, are trained as whatever words those ids are
    to the model.

    Remedy: take labels from `input_ids`: `labels = input_ids.clone()`, then -100 outside the answers.

    Source: measured in tests/integrations/test_planted_faults.py.
    """
    rows = rows_of(checks)
    yield Examined(sum(sum(row.supervised.values()) for row in rows), "labels")
    if wrong := [row for row in rows if _foreign(row)]:
        worst = max(wrong, key=lambda row: row.foreign_labels)
        yield Finding(
            f"{checks.origin}: {worst.foreign_labels} of {sum(worst.supervised.values())} labels of {names(wrong)} are "
            f"not the row's ids at any shift: to this tokenizer they say {quoted(worst.label_text)}. They were made by "
            "another tokenizer, or of another text",
            where=where(spec, checks),
            measured={"rows": len(wrong), "foreign labels": worst.foreign_labels},
            fix="labels = input_ids.clone(), then -100 outside the answers",
        )


def _foreign(row: RowCheck) -> bool:
    """More than half of the labels are unlike their ids, and no shift explains them."""
    return 2 * row.foreign_labels > sum(row.supervised.values()) and not row.shifted


@rule("VLC006", "images-gone", Severity.ERROR, explains=("VLC204", "VLC406", "VLC008", "VLC009"))
def images_gone(spec: RunSpec, picture_flow: PictureFlow) -> Iterator[Finding | Examined]:
    """The first batches hold no pixels.

    A `map` that returns new columns and removes the old ones, a column that the trainer drops, a collator that takes
    the text alone, a tensor that is never filled: the run trains a language model on text, and the loss falls as it
    would with images.

    Remedy: keep the column of the images through every `map`, and hand the processor both; for a run on text, say
    `modalities=("text",)`.

    Source: measured in tests/integrations/test_planted_faults.py.
    """
    if "image" not in spec.data.modalities:
        raise NotApplicable("the run's data holds no images")
    flow = picture_flow
    yield Examined(flow.batches, "batches")
    yield Examined(flow.rows, "rows")
    lost = flow.asked > flow.held and flow.rows
    if flow.pixels > flow.blank and not lost:
        return
    told = f"the messages of {flow.rows} rows ask for {flow.asked} images, and the rows hold {flow.held}"
    if not lost:
        told = f"none of the first {flow.batches} batches holds pixels"
        told = f"the pixels of the first {flow.batches} batches are one value all over" if flow.pixels else told
        told += f", though their ids hold {flow.soft_tokens} soft tokens" if flow.soft_tokens else ""
        told += f", and their rows hold {flow.held} images" if flow.held else ""
    columns = f"; columns of the rows: {', '.join(flow.columns)}" if flow.columns else ""
    yield Finding(
        f"{told}{columns}",
        where=spec.where("data"),
        measured={"images asked for": flow.asked, "images in rows": flow.held, "batches with pixels": flow.pixels},
        fix="keep the images' column in every map, and pass the processor's pixels on",
    )


@rule("VLC011", "evaluation-images", Severity.ERROR, explains=("VLC235", "VLC236", "VLC237", "VLC238"))
def evaluation_images(
    spec: RunSpec, checks: CollatorChecks, evaluated_images: ImageFaults
) -> Iterator[Finding | Examined]:
    """Evaluation prepares images otherwise than training does.

    Images of both splits are held against the same processor. Where one split's are the processor's and the other's
    are not, the model is scored on pictures of another size or scale than it learns from: every evaluation of the run
    is of another task.

    Remedy: one processor, with one set of options, for both splits.

    Source: measured in tests/integrations/test_planted_faults.py.
    """
    if not checks.images.compared or not evaluated_images.compared:
        raise NotApplicable("no images of both splits could be held against the processor's")
    yield Examined(checks.images.compared + evaluated_images.compared, "images of both splits")
    if checks.images.misplaced and evaluated_images.misplaced:
        return  # how it shows depends on how many rows a batch has
    own, other = _told(checks.images), _told(evaluated_images)
    if own != other and "at random" not in own:  # augmentation is training's own affair
        yield Finding(
            f"training: {own or 'images as the processor makes them'}; evaluation: "
            f"{other or 'images as the processor makes them'}",
            where=spec.where("data.eval_split"),
            measured={"training": own or "alike", "evaluation": other or "alike"},
            fix="prepare both splits with one processor",
        )


def _told(faults: ImageFaults) -> str:
    return faults.misplaced or faults.altered or faults.grid or faults.settings
