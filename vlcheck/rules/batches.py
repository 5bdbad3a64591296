"""VLC2xx: what a collator's batch holds beside its labels, and what a model makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, Unavailable, rule
from vlcheck.rules.row_checks import rows_of, where

if TYPE_CHECKING:
    from vlcheck.collators.judge import CollatorChecks
    from vlcheck.collators.trial import Trial
    from vlcheck.model.family import Family
    from vlcheck.spec import RunSpec

ROUNDING = 1e-4
"""Relative difference of two float32 losses that rounding explains."""

SHOWN = "its attention_mask is 1 there; allowed: 0 at padding"


@rule("VLC204", "missing-batch-key", Severity.ERROR, explains=("VLC214", "VLC216", "VLC219", "VLC223", "VLC229"))
def missing_batch_key(
    spec: RunSpec, family: Family, checks: CollatorChecks, trial: Trial
) -> Iterator[Finding | Examined]:
    """The batch lacks a key that the processor makes and the model needs.

    Law: every key of the processor's reaches the batch. Some losses are silent: without `mm_token_type_ids`
    Gemma 4 runs and attends causally over its images. The loss with and without each missing key is
    measured on a tiny model of the same structure. A key that changes nothing in the collator's own batch, because
    another of its keys stands in for it, is not missed. A batch with padding needs its attention mask, 0 at the
    padding, even where a causal model computes the same without.

    Remedy: pass every tensor on that the processor returns.

    Source: https://github.com/huggingface/trl/issues/5807; measured in tests/bench/test_trial.py.
    """
    if not checks.keys:
        raise Unavailable("the collator made no batch, see VLC225")
    needed = [key for key in checks.processor_keys if key in (family.dialogue.batch_keys if family.dialogue else ())]
    yield Examined(len(needed), "keys")
    for key in needed:
        if key not in checks.keys and key not in trial.replaced:
            effect = trial.without.get(key, trial.problem or "its effect was not measured")
            yield Finding(
                f"{checks.origin}: the batch has no {key}; without it, on a tiny {family.name}: {effect}",
                where=where(spec, checks),
                measured={"keys": ", ".join(sorted(checks.keys)), "missing": key, "effect": effect},
                fix=f"pass {key} on from what the processor returns",
            )
    if checks.unmasked_padding:
        lacks = "attention_mask" not in checks.keys
        effect = trial.without.get("attention_mask", trial.problem or "its effect was not measured")
        told = f"has no attention_mask; without it, on a tiny {family.name}: {effect}" if lacks else SHOWN
        yield Finding(
            f"{checks.origin}: the batch of {checks.unmasked_padding[0]} is padded and {told}",
            where=where(spec, checks),
            measured={"batches": len(checks.unmasked_padding), "missing": "attention_mask", "effect": effect},
            fix="pass attention_mask on from what the processor returns",
        )


@rule("VLC214", "image-types-misaligned", Severity.ERROR, explains=("VLC219", "VLC223"))
def image_types_misaligned(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """The key that says which ids are an image's says it of other ids.

    Law: type is image exactly where the id is an image's. Types padded on the other side than ids mark text as
    image and image as text; the model then lets the wrong ids see each other.

    Remedy: pad every per-token key on the side that `input_ids` are padded on.

    Source: https://github.com/huggingface/trl/issues/5785
    """
    rows_of(checks)
    if not checks.typed:
        raise NotApplicable("no key of this family's batches marks image ids, or the batch lacks it (VLC204)")
    yield Examined(checks.typed, "rows")
    if checks.misaligned:
        yield Finding(
            f"{checks.origin}: image types stand elsewhere than image ids in {len(checks.misaligned)} of "
            f"{checks.typed} rows, first in {checks.misaligned[0]}",
            where=where(spec, checks),
            measured={"rows": len(checks.misaligned), "of": checks.typed},
            fix="pad every per-token key on the same side",
        )


@rule("VLC219", "answer-visible", Severity.ERROR)
def answer_visible(spec: RunSpec, checks: CollatorChecks, trial: Trial) -> Iterator[Finding | Examined]:
    """An answer is visible to the positions that have to predict it.

    Law: changing an answer's id changes no earlier logit. Token types that mark the answer as part of a prefix
    let the prefix see it; the loss falls to nothing, and generation has learnt nothing.

    Remedy: mark the answer as what is to be predicted (`suffix`, token type 1).

    Source: https://github.com/huggingface/transformers/pull/30918
    """
    if trial.leaked is None:
        raise Unavailable(trial.problem or "the batch could not be run through a tiny model")
    yield Examined(trial.earlier, "logits before a changed answer id")
    if trial.leaked > 0:
        yield Finding(
            f"{checks.origin}: changing the answer's last id changes logits before it by up to {trial.leaked:.2g}",
            where=where(spec, checks),
            measured={"largest change": trial.leaked, "logits": trial.earlier},
            fix="let no key of the batch mark the answer as prompt",
        )


@rule("VLC223", "rows-cross", Severity.ERROR, explains=("VLC231",))
def rows_cross(spec: RunSpec, checks: CollatorChecks, trial: Trial) -> Iterator[Finding | Examined]:
    """Rows that are collated together see each other: packed without borders, or padded wrongly.

    Law: what else is in the batch changes no logit of an answer. Where it does, one tensor at a time is put as each
    row has it alone, to tell positions and padding from rows that see each other. Packing puts several samples
    into one row; with images, positions have several dimensions and masks are the model's own affair, so that samples
    attend to each other unless everything is told where each begins.

    Remedy: one row a conversation; do not pack rows with images.

    Source: https://github.com/axolotl-ai-cloud/axolotl/pull/3817
    """
    if trial.packed is None:
        raise Unavailable(trial.problem or "two rows could not be run through a tiny model")
    yield Examined(trial.packed_labels, "labels whose logits were compared in one batch and apart")
    if trial.packed > ROUNDING and trial.cause != "images":
        how, why, fix = _crossed(checks, trial)
        yield Finding(
            f"{checks.origin}: {how} the logits of answers by up to {trial.packed:.2g}; allowed: 0{why}",
            where=where(spec, checks),
            measured={"largest change": trial.packed, "labels": trial.packed_labels, "cause": trial.cause},
            fix=fix,
        )


def _crossed(checks: CollatorChecks, trial: Trial) -> tuple[str, str, str]:
    """How rows came to change each other, by which tensor the change went away with."""
    if checks.merged:
        return "packing moves", "", "return one row a conversation"
    if trial.cause == "attention_mask":
        why = "; with a mask that hides the padding the change is gone"
        return "batching moves", why, "let attention_mask be 0 where a row is padded"
    if trial.cause != "rows":
        why = f"; with the {trial.cause} of each row alone the change is gone"
        return "batching moves", why, f"make {trial.cause} of a padded row as of the row alone"
    return "batching moves", "", "return one row a conversation"


@rule("VLC224", "accumulation-changes-loss", Severity.WARNING)
def accumulation_changes_loss(spec: RunSpec, trial: Trial) -> Iterator[Finding | Examined]:
    """Accumulating micro-batches gives another loss than one batch of all rows.

    Law: 4 x 1 and 1 x 4 are the same step. A model whose forward ignores `num_items_in_batch` averages each
    micro-batch by itself: rows with short answers then weigh more.

    Remedy: a transformers version whose model takes `num_items_in_batch`; vlcheck's own loop sums losses and
    divides once.

    Source: https://github.com/huggingface/transformers/issues/37197
    """
    if spec.training.gradient_accumulation_steps == 1:
        raise NotApplicable("no micro-batches are accumulated")
    if spec.data.collator is None:
        raise NotApplicable("vlcheck's own loop sums the loss over supervised ids and divides once")
    if trial.accumulated is None:
        raise Unavailable(trial.problem or "the batch could not be run through a tiny model")
    together, apart = trial.accumulated
    yield Examined(2, "rows, in one batch and one by one")
    if abs(together - apart) > ROUNDING * abs(together):
        yield Finding(
            f"loss {together:.5f} in one batch, {apart:.5f} accumulated row by row",
            where=spec.where("training.gradient_accumulation_steps"),
            measured={"one batch": together, "accumulated": apart},
            fix="upgrade transformers, or train without accumulation",
        )
