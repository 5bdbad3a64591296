"""VLC2xx: what comes back from a collator: an error, too few rows, a batch that the model refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, Unavailable, rule
from vlcheck.rules.row_checks import quoted, where

if TYPE_CHECKING:
    from vlcheck.collators.judge import CollatorChecks
    from vlcheck.collators.trial import Trial
    from vlcheck.spec import RunSpec


@rule("VLC225", "collator-fails", Severity.ERROR)
def collator_fails(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """The collator raises an error on a conversation.

    Law: a row is collated, or refused with a reason that names it. Here it is found before the run, which would
    stop when that row comes up.

    Remedy: mend the row, or the collator.

    Source: https://github.com/huggingface/trl/issues/4289
    """
    yield Examined(len(checks.rows) + len(checks.refused), "batches and rows")
    for refused in checks.refused:
        yield Finding(
            f"{checks.origin}: {refused.name}: {refused.error}",
            where=where(spec, checks),
            measured={"error": refused.error},
        )


@rule("VLC228", "shape-untaken", Severity.NOTE)
def shape_untaken(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Conversations of a shape that the data does not hold would be refused or labelled wrongly.

    A collator for one question about one image need not take a system turn, two answers or a row without image.
    It is said so that a change of the data does not come as a surprise.

    Remedy: none, as long as the data stays as it is.

    Source: measured in tests/collators/test_table.py.
    """
    if not checks.shapes:
        raise NotApplicable("vlcheck's own collator takes every shape that the family's template takes")
    if not checks.of("plain"):
        raise Unavailable("the collator made no batch of these conversations, see VLC225")
    yield Examined(checks.shapes, "shapes of conversation")
    told = [f"{refused.shape}: {quoted(refused.error)}" for refused in checks.unmet]
    simple = [row for row in checks.of("plain", "grown") if not row.beyond]
    if all(row.correct for row in simple):
        told += [
            f"{row.shape}: labels say {quoted(row.text)}" for row in checks.rows if not row.met and not row.correct
        ]
    if all(row.same_prompt is not False for row in simple):
        told += [
            f"{row.shape}: another prompt than evaluation's"
            for row in checks.rows
            if not row.met and row.correct and row.same_prompt is False
        ]
    if told:
        yield Finding(
            f"{checks.origin}: not ready for {'; '.join(dict.fromkeys(told))}",
            where=where(spec, checks),
            measured={"shapes": len(told)},
        )


@rule("VLC229", "batch-refused", Severity.ERROR)
def batch_refused(spec: RunSpec, checks: CollatorChecks, trial: Trial) -> Iterator[Finding | Examined]:
    """The model refuses the collator's batch, though it takes vlcheck's batch of the same rows.

    Law: a batch is what the model's forward takes. A tiny model of the same structure is given both; ours is the
    control, so that a refusal of theirs is theirs. Labels that are int32 or floats, or ids beyond the embedding,
    stop the run at its first step.

    Remedy: see the model's own words.

    Source: measured in tests/collators/test_table.py.
    """
    if not checks.keys or (trial.problem and not trial.refused and trial.swapped is None):
        raise Unavailable(trial.problem or "the collator made no batch, see VLC225")
    yield Examined(2, "batches, of one row and of two")
    if trial.refused:
        yield Finding(
            f"{checks.origin}: a tiny model of the same structure takes vlcheck's batch of the same rows, and refuses "
            f"the collator's: {trial.refused}",
            where=where(spec, checks),
            measured={"error": trial.refused},
        )


@rule("VLC230", "rows-lost", Severity.ERROR)
def rows_lost(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """The collator leaves conversations out.

    Law: nothing is lost silently. Fewer rows come back than conversations were given, and those that came back do
    not hold the missing ones: the run trains on less than its data, and reports nothing.

    Remedy: collate every row, or raise an error that names the one that cannot be.

    Source: measured in tests/collators/test_table.py.
    """
    if not checks.asked:
        raise Unavailable("the collator made no batch of these conversations, see VLC225")
    yield Examined(checks.asked, "conversations")
    if checks.lost:
        yield Finding(
            f"{checks.origin}: {len(checks.lost)} of {checks.asked} conversations are dropped: "
            f"{'; '.join(checks.lost[:3])} came back in no row",
            where=where(spec, checks),
            measured={"dropped": len(checks.lost), "of": checks.asked},
            fix="collate every row",
        )


@rule("VLC231", "rows-packed", Severity.NOTE)
def rows_packed(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """The collator packs several conversations into one row.

    Packed rows train as well as rows by themselves if the model is told where each begins; VLC223 finds out.

    Remedy: none, unless VLC223 finds that they see each other.

    Source: https://github.com/axolotl-ai-cloud/axolotl/pull/3817
    """
    if not checks.asked:
        raise Unavailable("the collator made no batch of these conversations, see VLC225")
    yield Examined(checks.asked, "conversations")
    if checks.packed:
        yield Finding(
            f"{checks.origin}: {checks.packed} of {checks.asked} conversations share a row with others",
            where=where(spec, checks),
            measured={"packed": checks.packed, "of": checks.asked},
        )
