"""Check a collator: give it conversations, hold its labels against what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from vlcheck.collators.batch import Candidate, readable, real_ids
from vlcheck.collators.layout import Expected, lay_out
from vlcheck.collators.order import order_of
from vlcheck.collators.pixels import ImageFaults, look_at_images
from vlcheck.collators.probes import Probe, ProbeKind, budget, built_in, few_tiles, grown
from vlcheck.collators.regions import TokenMap, map_tokens
from vlcheck.collators.remembered import remembered
from vlcheck.collators.rows import RowCheck, check_row
from vlcheck.collators.shapes import shape_probes
from vlcheck.config.frameworks import Framework
from vlcheck.data.conversation import BadRow, Conversation
from vlcheck.processing.collator import Batch, Collator

__all__ = ["Candidate", "CollatorChecks", "Refused", "judge"]


@dataclass(frozen=True)
class Refused:
    """Conversations that the collator raised an error on."""

    name: str
    kind: ProbeKind
    error: str
    shape: str = ""


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
    origin: str
    ours: bool
    lost: tuple[str, ...] = ()
    """Conversations that are in no row of their batch."""
    packed: int = 0
    """Conversations that share a row with another."""
    asked: int = 0
    """Conversations that were given."""
    shapes: int = 0
    """Shapes of conversation that were tried beside."""
    unmet: tuple[Refused, ...] = ()
    """Shapes that the data does not hold and that the collator raises an error on."""
    unmasked_padding: tuple[str, ...] = ()
    """Batches with padding that no attention mask hides."""
    images: ImageFaults = field(default_factory=ImageFaults)
    default: Framework | None = None
    """The framework whose own default the collator is; None for code, or a choice, of the user's."""
    unlike: tuple[tuple[str, Batch], ...] = ()
    """Batches whose soft tokens are not as many as the processor makes, for a model to judge."""

    @property
    def merged(self) -> bool:
        """The collator packs rows."""
        return self.packed > 0

    def of(self, *kinds: ProbeKind) -> tuple[RowCheck, ...]:
        """Rows of these kinds."""
        return tuple(row for row in self.rows if row.kind in kinds)


@dataclass(frozen=True)
class Oracle:
    """What every batch is judged with."""

    candidate: Candidate
    collator: Collator
    token_map: TokenMap
    last: bool


UNLIKE = 4
"""Batches with an odd number of soft tokens that are kept for a model to judge."""


def judge(
    candidate: Candidate,
    collator: Collator,
    conversations: Sequence[Conversation] = (),
    *,
    instruction: str | None = None,
    answers: Literal["all", "last"] = "all",
    batch: int = 4,
) -> CollatorChecks:
    """Let a collator make batches, and find out what each of its labels stands on.

    Args:
        candidate: the collator that is checked.
        collator: ours over the same processor; it renders and expands, and is asked for no label.
        conversations: rows of the run's data, judged as they are.
        instruction: the run's own question.
        answers: which of a conversation's answers the run means to train.
        batch: rows a batch.
    """
    with remembered(collator.processor.image_processor):
        return _judged(candidate, collator, conversations, instruction, answers, batch)


def _judged(
    candidate: Candidate,
    collator: Collator,
    conversations: Sequence[Conversation],
    instruction: str | None,
    answers: str,
    batch: int,
) -> CollatorChecks:
    token_map = map_tokens(collator.template)
    oracle = Oracle(candidate, collator, token_map, answers == "last")
    checks = CollatorChecks((), (), {}, (), (), 0, candidate.origin, candidate.ours,
                           default=candidate.default)  # fmt: skip
    probes = built_in(conversations[0] if conversations else None, instruction)
    few = _tiles(oracle, probes[0])
    with few():
        checks = _add(checks, oracle, probes)
    for probe, made in grown(probes[0], collator, token_map):
        checks = _add(checks, oracle, [probe], made)
    if candidate.thorough:
        with few():
            for tried in shape_probes(collator.template, conversations):
                checks = _add(replace(checks, shapes=checks.shapes + 1), oracle, tried)
            checks = replace(checks, images=look_at_images(candidate, collator))
    for start in range(0, len(conversations), batch):
        checks = judge_rows(checks, oracle, conversations[start : start + batch])
    return checks


def judge_rows(checks: CollatorChecks, oracle: Oracle, conversations: Sequence[Conversation]) -> CollatorChecks:
    """The checks with a batch of these rows of the run's data in them."""
    return _add(checks, oracle, [Probe("data", conversation) for conversation in conversations])


def refused(checks: CollatorChecks, name: str, error: str) -> CollatorChecks:
    """The checks with a batch of the run's own data that could not be made."""
    return replace(checks, refused=(*checks.refused, Refused(name, "data", error)))


def _tiles(oracle: Oracle, probe: Probe) -> Callable[[], AbstractContextManager[None]]:
    """Few tiles an image, if the collator's processor is the one that was given: a second one keeps its settings."""
    row, soft = [probe.conversation], oracle.token_map.soft_id
    with few_tiles(oracle.collator):
        try:
            made = oracle.candidate.batch(row)["input_ids"]
            same = int((made == soft).sum()) == int((oracle.collator(row)["input_ids"] == soft).sum())
        except Exception:  # it may be the user's code; VLC225 says so
            same = False
    return (lambda: few_tiles(oracle.collator)) if same else nullcontext


def _add(
    checks: CollatorChecks, oracle: Oracle, probes: Sequence[Probe], made: Batch | None = None
) -> CollatorChecks:  # fmt: skip
    """The checks with one more batch in them; `made` is what the processor makes of it, where that is known."""
    conversations, first, candidate = [probe.conversation for probe in probes], probes[0], oracle.candidate
    with budget(oracle.collator, first.budget):
        asked = first.kind not in ("grown", "shape") and not checks.of(first.kind)
        try:
            twice = made is None and (not candidate.ours or first.kind != "data" or oracle.last)
            expected = _expected(oracle.collator, conversations, prompts=asked, twice=twice)
        except BadRow as bad:  # a built-in probe may have a shape that the family takes no picture of
            return _refused(checks, probes, str(bad)) if first.kind == "data" else checks
        try:
            batch = readable(candidate.batch(conversations))
        except Exception as error:  # it may be the user's code
            return _refused(checks, probes, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        order = order_of(batch, conversations, expected.tensors, oracle.collator, oracle.token_map)
        if order is not None:
            probes = [probes[number] for number in order]
            own = [conversations[number] for number in order]
            expected = _expected(oracle.collator, own, prompts=asked, twice=True)
    if made is not None:
        expected = replace(expected, tensors=made)
    elif not expected.tensors:
        expected = replace(expected, tensors={key: value for key, value in batch.items() if key != "labels"})
    expected = replace(expected, own=not candidate.ours)
    if first.met and not first.beyond:
        checks = replace(checks, asked=checks.asked + len(probes))
    return _with_rows(replace(checks, keys=checks.keys or _shapes(batch)), probes, batch, expected, oracle)


def _refused(checks: CollatorChecks, probes: Sequence[Probe], error: str) -> CollatorChecks:
    """The checks with one more refusal; of a row that the run cannot meet, or may never meet, it is no error."""
    first = probes[0]
    if first.beyond:
        return checks
    refused = Refused(", ".join(str(probe.conversation) for probe in probes), first.kind, error, first.shape)
    if first.kind == "shape" and not first.held:
        return replace(checks, unmet=(*checks.unmet, refused))
    return replace(checks, refused=(*checks.refused, refused))


def _with_rows(
    checks: CollatorChecks, probes: Sequence[Probe], batch: Batch, expected: Expected, oracle: Oracle
) -> CollatorChecks:
    layout = lay_out(probes, expected, batch, oracle.collator, oracle.token_map, last=oracle.last)
    if layout is None:
        return _refused(checks, probes, f"{len(batch['input_ids'])} rows came back for {len(probes)} conversations")
    seen = tuple(_likeliest([check_row(subject, batch, number, oracle.collator, oracle.token_map) for subject in row])
                 for number, row in enumerate(layout.rows))  # fmt: skip
    typed, misaligned = _types(batch, expected.tensors, oracle.token_map, seen)
    met = probes[0].met and not probes[0].beyond
    bare = met and not layout.packed and _shows_padding(batch, expected.tensors, oracle.token_map)
    odd = [row for row in seen if row.soft_tokens != row.expected_soft_tokens]
    return replace(
        checks,
        rows=(*checks.rows, *seen),
        processor_keys=checks.processor_keys or tuple(sorted(expected.tensors)),
        typed=checks.typed + typed,
        misaligned=(*checks.misaligned, *misaligned),
        lost=(*checks.lost, *(layout.lost if met else ())),
        packed=checks.packed + layout.packed,
        unmasked_padding=(*checks.unmasked_padding, *([str(probes[0].conversation)] if bare else ())),
        unlike=(*checks.unlike, (odd[0].name, batch)) if odd and met and len(checks.unlike) < UNLIKE else checks.unlike,
    )


def _shows_padding(batch: Batch, expected: Batch, token_map: TokenMap) -> bool:
    """Whether rows are padded, and no mask says so: none is there, or it is not 0 at a row's end of padding ids."""
    mask, wanted = batch.get("attention_mask"), expected.get("attention_mask")
    if mask is None:
        return wanted is not None and bool((wanted == 0).any())
    if wanted is None or mask.shape != batch["input_ids"].shape:
        return False
    padding = [~real_ids({"input_ids": each["input_ids"]}, token_map.tokenizer.pad_token_id)
               for each in (batch, expected)]  # fmt: skip
    return int((padding[0] & mask.bool()).sum()) > int((padding[1] & wanted.bool()).sum())


def _likeliest(seen: Sequence[RowCheck]) -> RowCheck:
    """The first reading of a row that is right, else the first."""
    return next((row for row in seen if row.correct), seen[0])


def _expected(collator: Collator, conversations: Sequence[Conversation], *, prompts: bool, twice: bool) -> Expected:
    """Each pass over the images costs as much as the collator itself.

    So prompts are made of the first batch of each kind, and without `twice` the tensors are left to the collator
    that is judged, which is ours and trains all answers: it hands the processor's on as they are.
    """
    rows = tuple(collator.template.rows(conversation) for conversation in conversations)
    return Expected(
        rows,
        collator.tensors([row for own in rows for row in own]) if twice else {},
        tuple(_prompts(collator, conversation) for conversation in conversations) if prompts else (),
    )


def _shapes(batch: Batch) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in batch.items()}


def _prompts(collator: Collator, conversation: Conversation) -> tuple[tuple[int, ...], ...]:
    prompts = (collator.template.prompt(conversation, turn) for turn in conversation.answers)
    return tuple(tuple(collator.tensors([prompt])["input_ids"][0].tolist()) for prompt in prompts)


def _types(
    batch: Batch, expected: Batch, token_map: TokenMap, seen: Sequence[RowCheck]
) -> tuple[int, tuple[str, ...]]:  # fmt: skip
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
