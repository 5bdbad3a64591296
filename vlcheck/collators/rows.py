"""One row of a collator's batch, held against the conversation that it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from vlcheck.collators.batch import real_ids
from vlcheck.collators.difference import Difference, begins_late, difference, is_cut
from vlcheck.collators.probes import Probe, ProbeKind
from vlcheck.collators.region_kinds import Region
from vlcheck.collators.regions import Regions, TokenMap, divide
from vlcheck.data.conversation import Conversation
from vlcheck.processing.collator import Batch, Collator
from vlcheck.processing.labels import IGNORE_INDEX

FEWEST = 3
"""Labels of one value beside the answers that make it one that stands for "ignore"."""


@dataclass(frozen=True)
class Subject:
    """What a row of a batch ought to hold."""

    probe: Probe
    turns: tuple[int, ...]
    """Which of the conversation's turns are answers of this row."""
    soft_tokens: int
    prompts: tuple[tuple[int, ...], ...] = ()
    """Ids that the model is asked with for each answer, where they were made."""
    ids: tuple[int, ...] = ()
    """What the processor makes of the conversation, without padding; empty where it was not asked."""
    own: bool = False
    """These ids are the processor's own, and not those that the collator handed on."""


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
    untrained: int
    """Of these, answers of which no id is supervised, nor its end token."""
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
    shape: str = ""
    met: bool = True
    """Rows of its shape are judged; see `Probe`."""
    ignored_as: int | None = None
    """The label that stands where -100 ought to, if there is one."""
    ignored_count: int = 0
    """Labels of that value."""
    cut: bool = False
    """It ends where its conversation goes on, or begins in the middle of it."""
    difference: Difference | None = None
    """Where its answers read otherwise than the conversation's; None where they are all there, or it was cut."""
    foreign_text: str = ""
    """What its supervised foreign ids say."""
    label_text: str = ""
    """What its labels say, where they are not the ids at their positions."""
    shifted: bool = False
    """Most of its labels are the ids one or two places beside them."""

    @property
    def unmasked(self) -> bool:
        """Every id that is not padding is supervised, in a row that was not cut."""
        real = [region for region in Region if region is not Region.PADDING]
        return (
            self.present[Region.PROMPT] > 0
            and not self.cut
            and all(self.supervised[r] == self.present[r] for r in real)
        )

    @property
    def correct(self) -> bool:
        """The supervised ids are the answers with their end tokens, or differ by what harms nothing."""
        wrong = (Region.PADDING, Region.IMAGE, Region.PROMPT, Region.FOREIGN)
        return (
            self.found == self.answers
            and not self.foreign_labels
            and not any(self.supervised[region] for region in wrong)
            and all(self.supervised[region] == self.present[region] for region in (Region.ANSWER, Region.END))
        )


def check_row(subject: Subject, batch: Batch, number: int, collator: Collator, token_map: TokenMap) -> RowCheck:
    """One row of a batch against what it ought to hold."""
    conversation = subject.probe.conversation
    ids, labels = batch["input_ids"][number].tolist(), batch["labels"][number].numpy().copy()
    alone: Batch = {key: batch[key][number : number + 1] for key in ("input_ids", "attention_mask") if key in batch}
    real = real_ids(alone, token_map.tokenizer.pad_token_id)[0].tolist()
    regions = divide(ids, real, conversation, subject.turns, token_map)
    ignored = _ignored_as(labels, ids, regions)
    count = int((labels == ignored).sum()) if ignored is not None else 0
    if ignored is not None:
        labels[(labels == ignored) & ~regions.law()] = IGNORE_INDEX
    supervised, law = labels != IGNORE_INDEX, regions.law()
    first = regions.starts[0] if regions.starts else None
    start = real.index(True) if any(real) else 0
    row = [number for number, is_real in zip(ids, real, strict=True) if is_real]
    bos = token_map.tokenizer.bos_token_id
    gap = int(np.argmax(supervised)) - first if first is not None and supervised.any() else None
    missing = regions.found < len(subject.turns) and bool(subject.ids)
    cut = (missing and is_cut(row, subject.ids, token_map)) or begins_late(row, subject.ids, token_map)
    foreign = supervised & (regions.of == Region.FOREIGN)
    unlike = supervised & (labels != np.asarray(ids))
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
        untrained=_untrained(supervised, law),
        moved=_moved(supervised, law),
        gap=gap,
        contiguous=first is not None and bool(supervised[int(np.argmax(supervised)) : first].all()),
        unexpanded_gap=_unexpanded(collator, conversation, first - start) if first is not None else 0,
        foreign_labels=int(unlike.sum()),
        bos=row.count(bos),
        same_prompt=_same_prompt(subject, ids, start, regions.starts, token_map),
        text=token_map.text_of([each for each, said in zip(ids, supervised, strict=True) if said])[:2000],
        shape=subject.probe.shape,
        met=subject.probe.met,
        ignored_as=ignored,
        ignored_count=count,
        cut=cut,
        difference=_difference(subject, row, start, token_map) if missing and not cut else None,
        foreign_text=token_map.text_of([each for each, said in zip(ids, foreign, strict=True) if said]),
        label_text=token_map.text_of(labels[supervised].tolist())[:2000] if unlike.any() else "",
        shifted=bool(unlike.any()) and _shifted(labels, np.asarray(ids), supervised),
    )


def _shifted(labels: np.ndarray, ids: np.ndarray, supervised: np.ndarray) -> bool:
    """Whether most labels are the ids that stand one or two places beside them."""
    alike = [(labels == np.roll(ids, shift))[supervised].mean() for shift in (-2, -1, 1, 2)]
    return bool(max(alike) > 1 / 2)


def _ignored_as(labels: np.ndarray, ids: Sequence[int], regions: Regions) -> int | None:
    """The one value that labels have beside the answers where they are neither -100 nor the id."""
    beside = ~regions.law() & (labels != IGNORE_INDEX)
    odd = np.unique(labels[beside & (labels != np.asarray(ids))])
    if len(odd) != 1 or not regions.found:
        return None
    held = labels[beside] == odd[0]
    return int(odd[0]) if held.sum() >= FEWEST else None


def _difference(subject: Subject, row: Sequence[int], start: int, token_map: TokenMap) -> Difference | None:
    return difference(row, start, subject.ids, _divided(subject, token_map).of, token_map)


def _divided(subject: Subject, token_map: TokenMap) -> Regions:
    """The processor's own row."""
    real = [True] * len(subject.ids)
    return divide(subject.ids, real, subject.probe.conversation, subject.turns, token_map)


def _untrained(supervised: np.ndarray, law: np.ndarray) -> int:
    """Stretches that ought to be supervised and are not at all."""
    starts = np.flatnonzero(np.diff(np.concatenate(([0], law.astype(np.int8)))) == 1)
    stops = np.flatnonzero(np.diff(np.concatenate((law.astype(np.int8), [0]))) == -1) + 1
    return sum(not supervised[start:stop].any() for start, stop in zip(starts, stops, strict=True))


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


def _same_prompt(
    subject: Subject, ids: Sequence[int], start: int, answers: Sequence[int], token_map: TokenMap
) -> bool | None:
    """Id for id where the prompts were made, else in the words of the processor's row."""
    if len(answers) != len(subject.turns):
        return None
    before, images = [ids[start:answer] for answer in answers], token_map.image_ids
    if subject.prompts:
        pairs = zip(before, subject.prompts, strict=True)
        return all(_words(row, images) == _words(asked, images) for row, asked in pairs)
    if not subject.own or not subject.ids:
        return None
    places = _divided(subject, token_map).starts
    meant = [_solid(_words(subject.ids[:place], images), token_map) for place in places]
    return [_solid(_words(row, images), token_map) for row in before] == meant if places else None


def _solid(ids: Sequence[int], token_map: TokenMap) -> bytes:
    """What ids say without white space: an earlier answer may have more of it than the conversation."""
    return b"".join(b"".join(map(token_map.bytes_of, ids)).split())


def _words(ids: Sequence[int], images: Set[int]) -> list[int]:
    """Ids that are no image's: how many an image has is judged elsewhere."""
    return [number for number in ids if number not in images]
