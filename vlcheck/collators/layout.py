"""Which conversation each row of a batch holds: a row each, a row an answer, several in one, or some left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from vlcheck.collators.batch import real_ids
from vlcheck.collators.probes import Probe
from vlcheck.collators.regions import TokenMap
from vlcheck.collators.rows import Subject
from vlcheck.data.conversation import BadRow, Conversation
from vlcheck.processing.chat_template import RowText
from vlcheck.processing.collator import Batch, Collator

PACKED = 0.8
"""Share of all conversations' words that fewer rows hold if they were packed and not left out."""


@dataclass(frozen=True)
class Expected:
    """What the processor makes of the same conversations, and what they are asked with."""

    rows: tuple[tuple[RowText, ...], ...]
    """Of each conversation."""
    tensors: Batch
    prompts: tuple[tuple[tuple[int, ...], ...], ...]
    """Ids of each answer's prompt, of each conversation; empty where they were not made."""
    own: bool = False
    """The tensors are the processor's own, and not those that the collator handed on."""

    def ids(self) -> list[tuple[int, ...]]:
        """Of each row, without padding."""
        real = real_ids(self.tensors, None)
        return [tuple(ids[own].tolist()) for ids, own in zip(self.tensors["input_ids"], real, strict=True)]


@dataclass(frozen=True)
class Layout:
    """What the rows of a batch ought to hold."""

    rows: tuple[tuple[Subject, ...], ...]
    """Of each row what it may hold, likeliest first."""
    lost: tuple[str, ...] = ()
    """Conversations that are in no row."""
    packed: int = 0
    """Conversations that share a row with another."""


def lay_out(
    probes: Sequence[Probe], expected: Expected, batch: Batch, collator: Collator, token_map: TokenMap, *, last: bool
) -> Layout | None:
    """Tell what each row holds; None where more rows came back than conversations and answers explain.

    Args:
        probes: the conversations that the batch was made of.
        expected: what the processor makes of them.
        batch: the collator's.
        collator: ours, over the same processor.
        token_map: from `map_tokens`.
        last: only a conversation's last answer is meant to be trained.
    """
    count, made = len(batch["input_ids"]), sum(map(len, expected.rows))
    answers = sum(len(probe.conversation.answers) for probe in probes)
    if count == made and not (last and count == len(probes)):
        return Layout(tuple((subject,) for subject in _as_ours(probes, expected, token_map)))
    if count == len(probes):
        return Layout(tuple((subject,) for subject in _whole(probes, expected, token_map, last=last)))
    if count == answers:
        return Layout(tuple(_an_answer_each(probes, collator, token_map)))
    if count < len(probes):
        return _fewer(_whole(probes, expected, token_map, last=last), batch, token_map)
    return None


def _as_ours(probes: Sequence[Probe], expected: Expected, token_map: TokenMap) -> list[Subject]:
    """A row for each row that our own collator makes."""
    ids, subjects = iter(expected.ids()), []
    for number, (probe, own) in enumerate(zip(probes, expected.rows, strict=True)):
        for row in own:
            turns, each = tuple(place.turn for place in row.places), next(ids)
            prompts = _prompts(probe, expected, number, turns)
            subjects.append(Subject(probe, turns, each.count(token_map.soft_id), prompts, each, expected.own))
    return subjects


def _whole(probes: Sequence[Probe], expected: Expected, token_map: TokenMap, *, last: bool) -> list[Subject]:
    """A row a conversation; where ours makes several, the longest of them shows all images."""
    ids, subjects = expected.ids(), []
    for number, (probe, own) in enumerate(zip(probes, expected.rows, strict=True)):
        each, ids = ids[len(own) - 1], ids[len(own) :]
        turns = probe.conversation.answers[-1:] if last else probe.conversation.answers
        prompts = _prompts(probe, expected, number, turns)
        subjects.append(Subject(probe, turns, each.count(token_map.soft_id), prompts, each, expected.own))
    return subjects


def _prompts(probe: Probe, expected: Expected, number: int, turns: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    if not expected.prompts:
        return ()
    known = dict(zip(probe.conversation.answers, expected.prompts[number], strict=True))
    return tuple(known[turn] for turn in turns)


def _an_answer_each(
    probes: Sequence[Probe], collator: Collator, token_map: TokenMap
) -> list[tuple[Subject, ...]]:  # fmt: skip
    """A row an answer: the conversation up to it, whose earlier answers may be trained once more or not."""
    rows = []
    for probe in probes:
        for turn in probe.conversation.answers:
            name = f"{probe.conversation}, turn {turn}"
            part = replace(probe, conversation=Conversation(probe.conversation.turns[: turn + 1], name))
            ids = _ids(collator, part.conversation)
            held = [(turn,), part.conversation.answers] if turn != part.conversation.answers[0] else [(turn,)]
            rows.append(tuple(Subject(part, turns, ids.count(token_map.soft_id), (), ids, True) for turns in held))
    return rows


def _ids(collator: Collator, conversation: Conversation) -> tuple[int, ...]:
    try:
        made = collator.tensors(collator.template.rows(conversation)[-1:])
    except BadRow:
        return ()
    return tuple(made["input_ids"][0].tolist())


def _fewer(subjects: Sequence[Subject], batch: Batch, token_map: TokenMap) -> Layout:
    """Rows that came back fewer: packed if they hold nearly all words, else the nearest conversation of each."""
    wanted = [_words(subject.ids, token_map) for subject in subjects]
    real = real_ids(batch, token_map.tokenizer.pad_token_id)
    said = [_words(ids[own].tolist(), token_map) for ids, own in zip(batch["input_ids"], real, strict=True)]
    if sum(map(len, said)) >= PACKED * sum(map(len, wanted)):
        return Layout(_packed(subjects) if len(said) == 1 else (), packed=len(subjects))
    left = list(range(len(subjects)))
    rows = []
    for words in said:
        best = max(left, key=lambda number: SequenceMatcher(None, words, wanted[number], autojunk=False).ratio())
        left.remove(best)
        rows.append((subjects[best],))
    return Layout(tuple(rows), lost=tuple(str(subjects[number].probe.conversation) for number in left))


def _packed(subjects: Sequence[Subject]) -> tuple[tuple[Subject, ...], ...]:
    """One row of all conversations, if one can be thought of as a single long one."""
    turns = tuple(turn for subject in subjects for turn in subject.probe.conversation.turns)
    try:
        joined = Conversation(turns, " and ".join(str(subject.probe.conversation) for subject in subjects))
    except ValueError:  # a system turn in the middle
        return ()
    probe = replace(subjects[0].probe, conversation=joined, shape="packed rows")
    return ((Subject(probe, joined.answers, sum(subject.soft_tokens for subject in subjects)),),)


def _words(ids: Sequence[int], token_map: TokenMap) -> list[int]:
    return [number for number in ids if number not in token_map.image_ids]
