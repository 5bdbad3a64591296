"""The laws have power: a collator that is wrong breaks the law that says so, and shrinks to one question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from tests.families.settings import setting
from tests.labels.laws import LAWS
from tests.labels.test_laws import hold
from vlcheck.collate import IGNORE_INDEX, Collator
from vlcheck.conversation import Conversation

Spoil = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Spoiled:
    """Our collator, its batches spoiled behind its back."""

    inner: Collator
    spoil: Spoil

    def __call__(self, conversations: Sequence[Conversation]) -> Any:
        return self.spoil(self.inner(conversations))

    def collate(self, conversations: Sequence[Conversation]) -> Any:
        made = self.inner.collate(conversations)
        return replace(made, batch=self.spoil(made.batch))

    def prompts(self, conversations: Sequence[Conversation], turns: Sequence[int]) -> Any:
        return self.inner.prompts(conversations, turns)


def everything(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All ids are labels."""
    return batch | {"labels": batch["input_ids"].where(batch["attention_mask"] > 0, IGNORE_INDEX)}


def late(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The first token of each answer is left out."""
    held = batch["labels"] != IGNORE_INDEX
    return batch | {"labels": batch["labels"].where(held & held.roll(1, 1), IGNORE_INDEX)}


def endless(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The end token of each answer is left out."""
    held = batch["labels"] != IGNORE_INDEX
    return batch | {"labels": batch["labels"].where(held & held.roll(-1, 1), IGNORE_INDEX)}


def typeless(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`mm_token_type_ids` is lost."""
    return {key: value for key, value in batch.items() if key != "mm_token_type_ids"}


def from_the_left(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Labels are cut at a length counted without padding, which is wrong when it is on the left."""
    at = batch["attention_mask"].sum(1, keepdim=True)
    places = torch.arange(batch["labels"].shape[1])[None]
    return batch | {"labels": batch["labels"].where(places < at, IGNORE_INDEX)}


def cut(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rows are cut at 90 tokens."""
    length = batch["input_ids"].shape[1]
    return {key: value[:, :90] if value.shape[1:] == (length,) else value for key, value in batch.items()}


@pytest.mark.parametrize(("spoil", "broken"), [
    (everything, "supervised_ids_are_exactly_the_answers"),
    (everything, "a_marker_inside_user_text_changes_nothing"),
    (everything, "growing_an_image_moves_no_label"),
    (late, "supervised_ids_are_exactly_the_answers"),
    (endless, "supervised_ids_are_exactly_the_answers"),
    (typeless, "every_key_reaches_the_batch"),
    (from_the_left, "batching_and_padding_side_change_nothing"),
    (cut, "supervised_ids_are_exactly_the_answers"),
    (cut, "truncation_never_leaves_part_of_an_answer"),
    (late, "training_prompt_is_the_evaluation_prompt"),
])  # fmt: skip
def test_a_wrong_collator_breaks_its_law(spoil, broken):
    """On Gemma 4's stand-in, within a hundred examples."""
    sound = setting("google/gemma-4-E2B-it")
    wrong = replace(sound, collator=lambda *parts, **options: Spoiled(Collator(*parts, **options), spoil))
    law = next(law for law in LAWS if law.name == broken)

    with pytest.raises((AssertionError, ExceptionGroup)):
        hold(law, wrong, 100)
