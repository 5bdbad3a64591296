"""One row of a collator's batch, held against the conversation that it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vlcheck.collators.probes import Probe, ProbeKind
from vlcheck.collators.region_kinds import Region
from vlcheck.collators.regions import TokenMap, divide
from vlcheck.data.conversation import Conversation
from vlcheck.processing.collator import Collator
from vlcheck.processing.labels import IGNORE_INDEX


@dataclass(frozen=True)
class Subject:
    """What a row of a batch ought to hold."""

    probe: Probe
    turns: tuple[int, ...]
    """Which of the conversation's turns are answers of this row."""
    soft_tokens: int
    prompts: tuple[tuple[int, ...], ...] = ()
    """Ids that the model is asked with for each answer, where they were made."""


@dataclass(frozen=True)
class RowCheck:
    """One row of a batch, held against its conversation."""

    name: str
    kind: ProbeKind
    beyond: bool
    """Its image takes more soft tokens than the run allows."""
    tokens: int
    """Ids that are not padding."""
    soft_tokens: int
    expected_soft_tokens: int
    """What the processor makes of the same images."""
    present: Mapping[Region, int]
    supervised: Mapping[Region, int]
    answers: int
    found: int
    """Answers that are among the ids."""
    ended: int
    """Of these, answers that an end token follows."""
    moved: int
    """Positions that the labels stand away from where they ought to; 0 where no single shift explains them."""
    gap: int | None
    """First supervised id less first id of the answer; None where either is missing."""
    contiguous: bool
    """Every id from the first supervised one to the answer is supervised."""
    unexpanded_gap: int
    """What `gap` would be, had the prompt been measured before its images were expanded."""
    foreign_labels: int
    """Labels that are neither ignored nor the id at their position."""
    bos: int
    """Begin-of-text ids in the row."""
    same_prompt: bool | None
    """Whether the ids before the answer are those of the evaluation prompt; None where the answer is not found."""
    text: str
    """What the supervised ids say."""

    @property
    def unmasked(self) -> bool:
        """Every id that is not padding is supervised."""
        real = [region for region in Region if region is not Region.PADDING]
        return self.present[Region.PROMPT] > 0 and all(self.supervised[r] == self.present[r] for r in real)

    @property
    def correct(self) -> bool:
        """The supervised ids are the answers with their end tokens, or differ by what harms nothing."""
        wrong = (Region.PADDING, Region.IMAGE, Region.PROMPT)
        return (
            self.found == self.answers
            and not any(self.supervised[region] for region in wrong)
            and all(self.supervised[region] == self.present[region] for region in (Region.ANSWER, Region.END))
        )


def check_row(
    subject: Subject, batch: Mapping[str, torch.Tensor], number: int, collator: Collator, token_map: TokenMap
) -> RowCheck:
    """One row of a batch against what it ought to hold."""
    conversation = subject.probe.conversation
    ids, labels = batch["input_ids"][number].tolist(), batch["labels"][number].numpy()
    mask = batch.get("attention_mask")
    pad = token_map.tokenizer.pad_token_id
    real = [each != pad for each in ids] if mask is None or mask.dim() != 2 else mask[number].bool().tolist()
    regions = divide(ids, real, conversation, subject.turns, token_map)
    supervised, law = labels != IGNORE_INDEX, regions.law()
    first = regions.starts[0] if regions.starts else None
    start = real.index(True) if any(real) else 0
    row = [number for number, is_real in zip(ids, real, strict=True) if is_real]
    bos = token_map.tokenizer.bos_token_id
    gap = int(np.argmax(supervised)) - first if first is not None and supervised.any() else None
    return RowCheck(
        name=str(conversation)
        + (f", turn {subject.turns[0]}" if len(conversation.answers) > len(subject.turns) else ""),
        kind=subject.probe.kind,
        beyond=subject.probe.beyond,
        tokens=len(row),
        soft_tokens=ids.count(token_map.soft_id),
        expected_soft_tokens=subject.soft_tokens,
        present={region: int((regions.of == region).sum()) for region in Region},
        supervised={region: int((supervised & (regions.of == region)).sum()) for region in Region},
        answers=len(subject.turns),
        found=regions.found,
        ended=regions.ended,
        moved=_moved(supervised, law),
        gap=gap,
        contiguous=first is not None and bool(supervised[int(np.argmax(supervised)) : first].all()),
        unexpanded_gap=_unexpanded(collator, conversation, first - start) if first is not None else 0,
        foreign_labels=int((supervised & (labels != np.asarray(ids))).sum()),
        bos=row.count(bos),
        same_prompt=_same_prompt(subject, ids, start, regions.starts),
        text=token_map.tokenizer.decode([each for each, said in zip(ids, supervised, strict=True) if said])[:2000],
    )


def _moved(supervised: np.ndarray, law: np.ndarray) -> int:
    """The shift that turns what ought to be supervised into what is; 0 where none or nothing does."""
    for shift in (-1, 1, -2, 2):
        if supervised.any() and np.array_equal(np.roll(law, shift), supervised):
            return shift
    return 0


def _unexpanded(collator: Collator, conversation: Conversation, answer: int) -> int:
    """Ids of the prompt as text, its images one placeholder each, less those of the prompt in the row."""
    prompt = collator.template.prompt(conversation, conversation.answers[0])
    options = {"add_special_tokens": False} if collator.template.opening.bos else {}
    return len(collator.processor.tokenizer(prompt.text, **options)["input_ids"]) - answer


def _same_prompt(subject: Subject, ids: Sequence[int], start: int, answers: Sequence[int]) -> bool | None:
    if not subject.prompts or len(answers) != len(subject.turns):
        return None
    before = (tuple(ids[start:answer]) for answer in answers)
    return all(row == asked for row, asked in zip(before, subject.prompts, strict=True))
