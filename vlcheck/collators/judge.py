"""Check a collator: give it conversations, hold its labels against what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vlcheck.collators.probes import Probe, ProbeKind, budget, built_in, grown
from vlcheck.collators.regions import TokenMap, map_tokens
from vlcheck.collators.rows import RowCheck, Subject, check_row
from vlcheck.data.conversation import BadRow, Conversation
from vlcheck.processing.chat_template import RowText
from vlcheck.processing.collator import Batch, Collator


@dataclass(frozen=True)
class Candidate:
    """A collator that is checked, ours or another."""

    call: Callable[[Sequence[Conversation]], Mapping[str, Any]]
    origin: str
    """One phrase for the report."""
    ours: bool = False


@dataclass(frozen=True)
class Refused:
    """Conversations that the collator raised an error on."""

    name: str
    kind: ProbeKind
    error: str


@dataclass(frozen=True)
class CollatorChecks:
    """What a collator made of the probes."""

    rows: tuple[RowCheck, ...]
    refused: tuple[Refused, ...]
    keys: Mapping[str, tuple[int, ...]]
    """Keys and shapes of the first batch."""
    processor_keys: tuple[str, ...]
    """Keys that the processor itself makes of the same rows."""
    misaligned: tuple[str, ...]
    """Rows whose image types are not where their image ids are."""
    typed: int
    """Rows whose image types were looked at."""
    merged: bool
    """The collator made fewer rows than it was given: it packs."""
    origin: str
    ours: bool

    def of(self, *kinds: ProbeKind) -> tuple[RowCheck, ...]:
        """Rows of these kinds."""
        return tuple(row for row in self.rows if row.kind in kinds)


def judge(candidate: Candidate, collator: Collator, conversations: Sequence[Conversation] = (), *,
          instruction: str | None = None, batch: int = 4) -> CollatorChecks:  # fmt: skip
    """Let a collator make batches, and find out what each of its labels stands on.

    Args:
        candidate: the collator that is checked.
        collator: ours over the same processor; it renders and expands, and is asked for no label.
        conversations: rows of the run's data, judged as they are.
        instruction: the run's own question.
        batch: rows a batch.
    """
    token_map = map_tokens(collator.template)
    checks = CollatorChecks((), (), {}, (), (), 0, False, candidate.origin, candidate.ours)
    probes = built_in(conversations[0] if conversations else None, instruction)
    checks = _add(checks, candidate, collator, token_map, probes)
    for probe, made in grown(probes[0], collator, token_map):
        checks = _add(checks, candidate, collator, token_map, [probe], made)
    for start in range(0, len(conversations), batch):
        together = [Probe("data", conversation) for conversation in conversations[start : start + batch]]
        checks = _add(checks, candidate, collator, token_map, together)
    return checks


@dataclass(frozen=True)
class Expected:
    """What the processor makes of the same conversations, and what they are asked with."""

    rows: tuple[tuple[RowText, ...], ...]
    """Of each conversation."""
    tensors: Batch
    prompts: tuple[tuple[tuple[int, ...], ...], ...]
    """Ids of each answer's prompt, of each conversation; empty where they were not made."""


def _add(
    checks: CollatorChecks,
    candidate: Candidate,
    collator: Collator,
    token_map: TokenMap,
    probes: Sequence[Probe],
    made: Batch | None = None,
) -> CollatorChecks:
    """The checks with one more batch in them; `made` is what the processor makes of it, where that is known."""
    conversations, first = [probe.conversation for probe in probes], probes[0]
    names = ", ".join(str(conversation) for conversation in conversations)
    with budget(collator, first.budget):
        asked = first.kind != "grown" and not checks.of(first.kind)
        try:
            twice = made is None and (not candidate.ours or first.kind != "data")
            expected = _expected(collator, conversations, prompts=asked, twice=twice)
        except BadRow as bad:  # a built-in probe may have a shape that the family takes no picture of
            return _refused(checks, first, names, str(bad)) if first.kind == "data" else checks
        try:
            batch = _checked(candidate.call(conversations))
        except Exception as error:  # it may be the user's code
            return _refused(checks, first, names, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    if made is not None:
        expected = replace(expected, tensors=made)
    elif not expected.tensors:
        expected = replace(expected, tensors={key: value for key, value in batch.items() if key != "labels"})
    checks = replace(checks, keys=checks.keys or _shapes(batch))
    count = len(batch["input_ids"])
    subjects = _subjects(probes, expected, token_map, count)
    if len(subjects) == count:
        return _with_rows(checks, subjects, batch, expected, collator, token_map)
    if count < len(probes):
        return replace(checks, merged=True)
    return _refused(checks, first, names, f"{count} rows came back for {len(probes)} conversations")


def _refused(checks: CollatorChecks, probe: Probe, names: str, error: str) -> CollatorChecks:
    """The checks with one more refusal, unless it is of a row that the run cannot meet."""
    return checks if probe.beyond else replace(checks, refused=(*checks.refused, Refused(names, probe.kind, error)))


def _with_rows(
    checks: CollatorChecks,
    subjects: Sequence[Subject],
    batch: Batch,
    expected: Expected,
    collator: Collator,
    token_map: TokenMap,
) -> CollatorChecks:
    seen = tuple(check_row(subject, batch, number, collator, token_map) for number, subject in enumerate(subjects))
    typed, misaligned = _types(batch, expected.tensors, token_map, seen)
    return replace(
        checks,
        rows=(*checks.rows, *seen),
        processor_keys=checks.processor_keys or tuple(sorted(expected.tensors)),
        typed=checks.typed + typed,
        misaligned=(*checks.misaligned, *misaligned),
    )


def _expected(collator: Collator, conversations: Sequence[Conversation], *, prompts: bool, twice: bool) -> Expected:
    """Each pass over the images costs as much as the collator itself.

    So prompts are made of the first batch of each kind, and without `twice` the tensors are left to the collator
    that is judged, which is ours: it hands the processor's on as they are.
    """
    rows = tuple(collator.template.rows(conversation) for conversation in conversations)
    return Expected(
        rows,
        collator.tensors([row for own in rows for row in own]) if twice else {},
        tuple(_prompts(collator, conversation) for conversation in conversations) if prompts else (),
    )


def _shapes(batch: Batch) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in batch.items() if isinstance(value, torch.Tensor)}


def _prompts(collator: Collator, conversation: Conversation) -> tuple[tuple[int, ...], ...]:
    prompts = (collator.template.prompt(conversation, turn) for turn in conversation.answers)
    return tuple(tuple(collator.tensors([prompt])["input_ids"][0].tolist()) for prompt in prompts)


def _checked(batch: Any) -> Batch:
    """What a collator returned, if it is a batch.

    Raises:
        TypeError: if it is not; the message says what is missing.
    """
    if not isinstance(batch, Mapping):
        raise TypeError(f"the collator returned {type(batch).__name__}; allowed: a mapping of tensors")
    for key in ("input_ids", "labels"):
        if not isinstance(batch.get(key), torch.Tensor) or batch[key].dim() != 2:
            raise TypeError(f"the batch has no {key} of shape (rows, tokens); it has {', '.join(map(str, batch))}")
    if batch["labels"].shape != batch["input_ids"].shape:
        shapes = f"{tuple(batch['labels'].shape)} and {tuple(batch['input_ids'].shape)}"
        raise TypeError(f"labels and input_ids differ in shape: {shapes}")
    return dict(batch)


def _subjects(probes: Sequence[Probe], expected: Expected, token_map: TokenMap, rows: int) -> list[Subject]:
    """What each row of the batch holds: a conversation, or one of its answers where ours makes a row of each."""
    soft = (expected.tensors["input_ids"] == token_map.soft_id).sum(1).tolist()
    subjects: list[Subject] = []
    for number, (probe, own) in enumerate(zip(probes, expected.rows, strict=True)):
        prompts = (
            dict(zip(probe.conversation.answers, expected.prompts[number], strict=True)) if expected.prompts else {}
        )
        counts, soft = soft[: len(own)], soft[len(own) :]
        split = [(tuple(place.turn for place in row.places), count) for row, count in zip(own, counts, strict=True)]
        whole = [(probe.conversation.answers, counts[-1])]
        subjects += [
            Subject(probe, turns, count, tuple(prompts[turn] for turn in turns if turn in prompts))
            for turns, count in (split if rows == sum(map(len, expected.rows)) else whole)
        ]
    return subjects


def _types(
    batch: Mapping[str, torch.Tensor], expected: Batch, token_map: TokenMap, seen: Sequence[RowCheck]
) -> tuple[int, tuple[str, ...]]:
    """Rows whose image types were looked at, and names of those in which they stand elsewhere than image ids.

    Which keys mark images is read off the processor's own batch.
    """
    images = expected["input_ids"] == token_map.soft_id
    keys = [
        key
        for key, value in expected.items()
        if key in batch and value.shape == images.shape and images.any() and torch.equal(value == 1, images)
    ]
    wrong = [
        row.name
        for number, row in enumerate(seen)
        if any(
            batch[key].shape != batch["input_ids"].shape
            or not torch.equal(batch[key][number] == 1, batch["input_ids"][number] == token_map.soft_id)
            for key in keys
        )
    ]
    return (len(seen) if keys else 0), tuple(wrong)
