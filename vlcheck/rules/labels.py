"""VLC2xx, first part: which ids a collator supervises.

The law: the supervised ids are exactly the answers with their end tokens. The oracle is the conversation; a
collator is never asked whether it is right. Any collator can be judged: ours, a framework's, the user's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.collators.region_kinds import Region
from vlcheck.finding import Examined, Finding, Severity, rule
from vlcheck.rules.row_checks import DEFAULTS, measured, names, rows_of, weighed, where

if TYPE_CHECKING:
    from vlcheck.collators.judge import CollatorChecks
    from vlcheck.collators.rows import RowCheck
    from vlcheck.spec import RunSpec


@rule("VLC202", "prompt-supervised", Severity.ERROR, weighs=(DEFAULTS,))
def prompt_supervised(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Ids of the prompt are supervised.

    Law: nothing before an answer is supervised. The model then learns to write the question, which takes most
    of the loss where the answer is a handful of tokens.

    Remedy: set labels to -100 up to the first id of the answer.

    Source: https://github.com/huggingface/trl/issues/3751
    """
    rows = rows_of(checks)
    yield Examined(sum(row.found == row.answers for row in rows), "rows")
    if wrong := [row for row in rows if row.supervised[Region.PROMPT] and row.found == row.answers]:
        worst = max(wrong, key=lambda row: row.supervised[Region.PROMPT])
        finding = Finding(
            f"{checks.origin}: {worst.supervised[Region.PROMPT]} of {worst.present[Region.PROMPT]} ids of the prompt "
            f"are supervised in {names(wrong)}; allowed: none",
            where=where(spec, checks),
            measured=measured(wrong, worst),
            fix="set labels to -100 up to the first id of the answer",
        )
        yield weighed(finding, checks, cause=not any(row.unmasked for row in rows))


@rule("VLC205", "image-supervised", Severity.ERROR, weighs=(DEFAULTS,))
def image_supervised(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Ids of images or padding are supervised.

    Law: no soft token, no token that frames an image and no padding is ever a label. A soft token cannot be
    written by the model; training on hundreds of them in a row drowns the answer's few.

    Remedy: set labels to -100 where the ids are the image's, and where the attention mask is 0.

    Source: https://github.com/huggingface/trl/issues/1880
    """
    rows = rows_of(checks)
    yield Examined(len(rows), "rows")
    yield Examined(sum(row.present[Region.IMAGE] for row in rows), "image ids")
    yield Examined(sum(row.present[Region.PADDING] for row in rows), "padding ids")
    for region, noun in ((Region.IMAGE, "image"), (Region.PADDING, "padding")):
        if wrong := [row for row in rows if row.supervised[region]]:
            worst = max(wrong, key=lambda row: row.supervised[region])
            finding = Finding(
                f"{checks.origin}: {worst.supervised[region]} of {worst.present[region]} {noun} ids are supervised in "
                f"{names(wrong)}; allowed: none",
                where=where(spec, checks),
                measured=measured(wrong, worst),
                fix=f"labels[{'ids == image id' if region is Region.IMAGE else 'attention_mask == 0'}] = -100",
            )
            yield weighed(finding, checks, cause=False)


@rule("VLC206", "answer-unsupervised", Severity.ERROR)
def answer_unsupervised(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """An answer is partly or wholly unsupervised.

    Law: every id of every answer is supervised. What is masked is never learnt: the first ids, without which
    generation starts wrongly, or every turn of a conversation but the last.

    Remedy: supervise from the first id of each answer.

    Source: https://github.com/huggingface/trl/issues/3751
    """
    rows = rows_of(checks)
    yield Examined(sum(row.found for row in rows), "answers")
    if wrong := [row for row in rows if row.supervised[Region.ANSWER] < row.present[Region.ANSWER]]:
        worst = min(wrong, key=lambda row: row.supervised[Region.ANSWER] / row.present[Region.ANSWER])
        yield Finding(
            f"{checks.origin}: {worst.supervised[Region.ANSWER]} of {worst.present[Region.ANSWER]} ids of the answer "
            f"are supervised in {names(wrong)}; allowed: all",
            where=where(spec, checks),
            measured=measured(wrong, worst),
            fix="supervise from the first id of each answer through its end token",
        )


@rule("VLC207", "everything-supervised", Severity.ERROR,
      explains=("VLC202", "VLC205", "VLC209", "VLC210"), weighs=(DEFAULTS,))  # fmt: skip
def everything_supervised(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Every id that is not padding is supervised: nothing masks the prompt.

    TRL's collator for images does this with rows of `messages` by default: prompt and soft tokens stay in the labels,
    and its official examples train so. A run that learns to write its questions is no broken run, but most of its
    loss, and what the loss says of it, is not about the answers.

    Remedy: in TRL rows of prompt and completion (`completion_only_loss`), or `assistant_only_loss=True`: both were
    tried with images, the latter works where TRL has a twin of the chat template that marks generations (Gemma 3,
    Idefics3, LLaVA-NeXT, Qwen2.5-VL, Qwen3-VL, SmolVLM) and is refused elsewhere. In a collator of your own mask
    everything before each answer.

    Source: trl 1.16, `DataCollatorForVisionLanguageModeling`; measured in tests/collators/test_foreign.py and
    tests/collators/test_frameworks.py.
    """
    rows = rows_of(checks)
    yield Examined(len(rows), "rows")
    if wrong := [row for row in rows if row.unmasked]:
        finding = Finding(
            f"{checks.origin}: all {wrong[0].tokens} ids of {names(wrong)} are supervised; allowed: "
            f"{wrong[0].present[Region.ANSWER] + wrong[0].present[Region.END]}, the answer and its end token",
            where=where(spec, checks),
            measured=measured(wrong, wrong[0]),
            fix="mask everything before each answer",
        )
        yield weighed(finding, checks)


@rule("VLC208", "end-unlearnt", Severity.ERROR)
def end_unlearnt(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """The token that ends a turn is not learnt.

    Law: the end token of every answer is supervised. A model that never saw it as a target goes on writing
    until the limit of new tokens.

    Remedy: let the row end with the turn's end token, and supervise it.

    Source: https://github.com/huggingface/trl/issues/976
    """
    rows = rows_of(checks)
    yield Examined(sum(row.found for row in rows), "answers")
    if wrong := [row for row in rows if _unended(row)]:
        worst = wrong[0]
        absent = worst.ended < worst.found
        yield Finding(
            f"{checks.origin}: the end token of {names(wrong)} is {'not in the row' if absent else 'not supervised'}",
            where=where(spec, checks),
            measured=measured(wrong, worst),
            fix="end every answer with the turn's end token and supervise it",
        )


def _unended(row: RowCheck) -> bool:
    """An answer is trained without its end token, or nothing is; answers that are left out whole are VLC206's."""
    missing = row.found - row.supervised[Region.END]
    return missing > (row.untrained if any(row.supervised.values()) else 0)


@rule("VLC209", "after-end-supervised", Severity.NOTE)
def after_end_supervised(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Something after a turn's end token is supervised.

    Law: nothing after an end token is supervised. Most often it is the newline that templates write there,
    which costs little: generation has stopped by then.

    Remedy: end the supervised span with the end token.

    Source: https://github.com/modelscope/ms-swift/issues/8124
    """
    rows = rows_of(checks)
    yield Examined(len(rows), "rows")
    if wrong := [row for row in rows if row.supervised[Region.AFTER]]:
        yield Finding(
            f"{checks.origin}: {wrong[0].supervised[Region.AFTER]} ids after the end token are supervised in "
            f"{names(wrong)}",
            where=where(spec, checks),
            measured=measured(wrong, wrong[0]),
            fix="end the span with the end token",
        )


@rule("VLC210", "header-supervised", Severity.NOTE)
def header_supervised(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """The header of an assistant's turn is supervised.

    Law: supervision starts with the answer. The header, `<|turn>model` and a newline, is part of the prompt
    when the model is asked; learning to write it costs a little of the loss.

    Remedy: start the span behind the header.

    Source: the backward search of a published Gemma 4 sample; measured in tests/collators/test_foreign.py.
    """
    rows = rows_of(checks)
    yield Examined(len(rows), "rows")
    if wrong := [row for row in rows if row.supervised[Region.HEADER]]:
        yield Finding(
            f"{checks.origin}: {wrong[0].supervised[Region.HEADER]} of {wrong[0].present[Region.HEADER]} ids of the "
            f"turn's header are supervised in {names(wrong)}",
            where=where(spec, checks),
            measured=measured(wrong, wrong[0]),
            fix="start the span with the answer's first id",
        )


@rule("VLC211", "nothing-supervised", Severity.ERROR, explains=("VLC206", "VLC208"))
def nothing_supervised(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """A row has no label at all.

    Law: every row supervises something. Such a row costs its time and trains nothing; where all rows of a
    batch are so, the loss is 0 or NaN.

    Remedy: see the finding that explains it; without one, the collator's search found no answer.

    Source: https://github.com/haotian-liu/LLaVA/issues/779
    """
    rows = rows_of(checks)
    yield Examined(len(rows), "rows")
    if wrong := [row for row in rows if not any(row.supervised.values())]:
        yield Finding(
            f"{checks.origin}: no id is supervised in {names(wrong)}",
            where=where(spec, checks),
            measured=measured(wrong, wrong[0]),
            fix="supervise the answer",
        )
