"""Judge the batches that a run itself collates: its own rows where they are known, and bare batches where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from vlcheck.collators.batch import Candidate, checked, readable, real_ids
from vlcheck.collators.judge import CollatorChecks, Oracle, judge_rows, refused
from vlcheck.collators.pixels import ImageFaults, compare_images
from vlcheck.collators.probes import Probe
from vlcheck.collators.recovered import recovered
from vlcheck.collators.regions import map_tokens
from vlcheck.collators.rows import Subject, check_row
from vlcheck.data.conversation import Conversation
from vlcheck.processing.collator import Collator


@dataclass(frozen=True)
class RecordedBatch:
    """A batch of a run, and the rows that it was made of."""

    made: Mapping[str, Any] | None
    """What the collator returned; None if it raised."""
    error: str = ""
    rows: tuple[Any, ...] = ()
    """What the collator was given, where that is known."""
    conversations: tuple[Conversation, ...] = ()
    """What the rows are as conversations; empty unless each of them is one."""


def judge_recorded(
    candidate: Candidate,
    collator: Collator,
    batches: Sequence[RecordedBatch],
    *,
    answers: Literal["all", "last"] = "all",
) -> CollatorChecks:
    """Find out what each label of a run's own batches stands on, without a row that the run does not have.

    Args:
        candidate: makes the batch of conversations that `batches` hold.
        collator: ours over the same processor; it renders and expands, and is asked for no label.
        answers: which of a conversation's answers the run means to train.
    """
    oracle = Oracle(candidate, collator, map_tokens(collator.template), answers == "last")
    checks = CollatorChecks((), (), {}, (), (), 0, candidate.origin, ours=False)
    for number, batch in enumerate(batches):
        if batch.conversations:
            checks = judge_rows(checks, oracle, batch.conversations)
        elif batch.made is None:
            checks = refused(checks, f"batch {number}", batch.error)
        else:
            checks = _with_batch(checks, oracle, batch.made, f"batch {number}")
    return replace(checks, images=images_of(candidate, collator, batches))


def images_of(candidate: Candidate, collator: Collator, batches: Sequence[RecordedBatch]) -> ImageFaults:
    """The images of the first batch that has some, held against the processor's own; nothing where no row is known."""
    for batch in batches:
        if batch.made is None or not any(row.pictures for row in batch.conversations):
            continue
        try:
            return compare_images(checked(batch.made), batch.conversations, collator, candidate)
        except Exception:  # a row that the processor refuses; VLC225 says so
            continue
    return ImageFaults()


def _with_batch(checks: CollatorChecks, oracle: Oracle, made: Mapping[str, Any], name: str) -> CollatorChecks:
    """The checks with the rows of a batch that nothing is known of but its ids."""
    try:
        batch = readable(checked(made))
    except TypeError as error:
        return refused(checks, name, str(error))
    real = real_ids(batch, oracle.token_map.tokenizer.pad_token_id)
    rows = []
    for number, (ids, own) in enumerate(zip(batch["input_ids"], real, strict=True)):
        row = tuple(ids[own].tolist())
        conversation = recovered(row, oracle.token_map, f"{name}, row {number}")
        if conversation is not None:
            turns = conversation.answers[-1:] if oracle.last else conversation.answers
            subject = Subject(Probe("data", conversation), turns, row.count(oracle.token_map.soft_id), (), row)
            rows.append(check_row(subject, batch, number, oracle.collator, oracle.token_map))
    images = any(row.soft_tokens for row in rows)
    needed = tuple(sorted(oracle.collator.dialogue.batch_keys)) if images else ()
    return replace(
        checks,
        rows=(*checks.rows, *rows),
        asked=checks.asked + len(rows),
        keys=checks.keys or {key: tuple(value.shape) for key, value in batch.items()},
        processor_keys=checks.processor_keys or needed,
    )
