"""VLC2xx: what a collator does to images, and whether its ids and its pixels belong together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, Unavailable, rule
from vlcheck.rules.row_checks import rows_of, where

if TYPE_CHECKING:
    from vlcheck.collators.judge import CollatorChecks
    from vlcheck.collators.trial import Trial
    from vlcheck.spec import RunSpec


@rule("VLC215", "placeholder-count", Severity.ERROR, explains=("VLC214", "VLC218"))
def placeholder_count(spec: RunSpec, checks: CollatorChecks, trial: Trial) -> Iterator[Finding | Examined]:
    """The ids hold another number of soft tokens than the images have features.

    Law: as many soft tokens as features. Too few or too many stop the model's forward, in the middle of a run
    where only some rows are so.

    Remedy: let one processor, with one set of options, make both ids and pixels.

    Source: https://github.com/huggingface/transformers/pull/37019
    """
    rows = rows_of(checks)
    yield Examined(len(rows), "rows")
    yield Examined(sum(row.soft_tokens for row in rows), "soft tokens")
    odd = [row for row in rows if row.soft_tokens != row.expected_soft_tokens]
    wrong = [row for row in odd if row.name in trial.fits and not _fit(row.soft_tokens, trial.fits[row.name], checks)]
    if odd and not trial.fits:
        wrong = odd
    if wrong:
        first = wrong[0]
        features = trial.fits.get(first.name) or first.expected_soft_tokens
        yield Finding(
            f"{checks.origin}: {first.name} holds {first.soft_tokens} soft tokens; its images have {features} features",
            where=where(spec, checks),
            measured={"rows": len(odd), "soft tokens": first.soft_tokens, "features": features},
            fix="make ids and pixels in one call of the processor",
        )
    elif trial.mismatch:
        yield Finding(
            f"{checks.origin}: a tiny model of the same structure refuses the batch: {trial.mismatch}",
            where=where(spec, checks),
            measured={"error": trial.mismatch},
            fix="make ids and pixels in one call of the processor",
        )


def _fit(soft_tokens: int, features: int | None, checks: CollatorChecks) -> bool:
    """Whether a batch's images have features for its soft tokens; of a batch with more rows only refusals count."""
    return features is not None


@rule("VLC216", "image-unseen", Severity.ERROR)
def image_unseen(spec: RunSpec, checks: CollatorChecks, trial: Trial) -> Iterator[Finding | Examined]:
    """The image never reaches the model: another picture changes no logit.

    Law: what the model computes depends on the picture. The probe collates the same row with two pictures of
    one size and compares the logits of a tiny model of the same structure.

    Remedy: pass the processor's pixels on, and let its placeholders stand in the text.

    Source: https://github.com/modelscope/ms-swift/pull/1183
    """
    if trial.swapped is None:
        raise Unavailable(trial.problem or "the batch could not be run through a tiny model")
    yield Examined(trial.logits, "logits compared with another picture in the row")
    if trial.swapped == 0:
        blank = f"; {trial.blank} has one value all over" if trial.blank else ""
        yield Finding(
            f"{checks.origin}: another picture in the row changes none of {trial.logits} logits{blank}",
            where=where(spec, checks),
            measured={"largest change": trial.swapped, "logits": trial.logits},
            fix="pass pixel_values on",
        )


@rule("VLC235", "images-misplaced", Severity.ERROR, explains=("VLC214", "VLC215", "VLC223", "VLC237"))
def images_misplaced(spec: RunSpec, checks: CollatorChecks, trial: Trial) -> Iterator[Finding | Examined]:
    """Images stand in another order or another row than the conversations have them.

    Law: the n-th placeholder of a row is the row's n-th image. Pixels of a batch lie end to end; a list that is
    reversed, sorted or taken from another row fits in every count and trains answers about other pictures.

    Remedy: hand the processor one list of images a row, in the order of their placeholders.

    Source: measured in tests/collators/test_table.py.
    """
    if not checks.images.compared:
        raise NotApplicable(_not_compared(checks))
    yield Examined(checks.images.compared, "images held against the processor's own")
    told = checks.images.misplaced
    if not told and trial.cause == "images":
        told = "a row has other images in a batch of two than it has alone"
    if told:
        yield Finding(
            f"{checks.origin}: {told}",
            where=where(spec, checks),
            measured={"images": checks.images.compared},
            fix="images=[row's images in their order for each row]",
        )


@rule("VLC236", "pixels-altered", Severity.ERROR)
def pixels_altered(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Pixels have other values than the vision tower was trained on.

    Law: pixels are scaled and normalised once, channels in the order red, green, blue. The processor is run again
    with each known mistake; the mistake that is named made the very pixels of the batch.

    Remedy: hand the processor RGB images as they are, and pass its tensors on unchanged.

    Source: measured in tests/collators/test_table.py.
    """
    if not checks.images.compared:
        raise NotApplicable(_not_compared(checks))
    yield Examined(checks.images.compared, "images held against the processor's own")
    if checks.images.altered:
        yield Finding(
            f"{checks.origin}: {checks.images.altered}",
            where=where(spec, checks),
            measured={"images": checks.images.compared},
            fix="hand the processor RGB images, and pass its pixels on unchanged",
        )


@rule("VLC237", "grid-differs", Severity.ERROR, explains=("VLC215", "VLC223", "VLC229"))
def grid_differs(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """The key that says how an image's patches lie says it wrongly.

    Law: height and width of a grid are those of the pixels beside it. Swapped, they fit in every count, and the
    vision tower sees the patches of a picture in lines of another length.

    Remedy: pass the grid on as the processor returns it: time, height, width.

    Source: measured in tests/collators/test_table.py.
    """
    if not checks.images.compared:
        raise NotApplicable(_not_compared(checks))
    yield Examined(checks.images.compared, "images held against the processor's own")
    if checks.images.grid:
        yield Finding(
            f"{checks.origin}: {checks.images.grid}",
            where=where(spec, checks),
            measured={"images": checks.images.compared},
            fix="pass the processor's grid on unchanged",
        )


@rule("VLC238", "image-settings", Severity.NOTE)
def image_settings(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Training prepares images with other settings than evaluation's processor.

    Ids and pixels fit together, so that training runs. Other sizes, limits or augmentation may be meant; where
    they are not, the model is asked about images that look unlike those it was trained on.

    Remedy: give the processor of evaluation the same settings, if augmentation is not the reason.

    Source: measured in tests/collators/test_table.py.
    """
    if not checks.images.compared:
        raise NotApplicable(_not_compared(checks))
    yield Examined(checks.images.compared, "images held against the processor's own")
    if checks.images.settings:
        yield Finding(
            f"{checks.origin}: {checks.images.settings}",
            where=where(spec, checks),
            measured={"images": checks.images.compared},
            fix="give evaluation's processor the same settings",
        )


def _not_compared(checks: CollatorChecks) -> str:
    if not checks.shapes:
        return "vlcheck's own collator hands the processor's tensors on as they are"
    return "the collator made no batch of two rows with images, or the family's batches have no pixels"
