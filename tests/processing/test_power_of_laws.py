"""The laws have power: a collator that is wrong breaks the law that says so, in an example that shrinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from tests.model.families.settings import setting
from tests.processing.laws import LAWS
from tests.processing.test_laws import hold
from vlcheck.data.conversation import Conversation
from vlcheck.processing.collator import Collator
from vlcheck.processing.labels import IGNORE_INDEX

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


@pytest.mark.parametrize(("spoil", "broken", "questions", "pictures"), [
    (everything, "supervised_ids_are_exactly_the_answers", 1, 1),
    (everything, "a_marker_inside_user_text_changes_nothing", 1, 1),
    (everything, "growing_an_image_moves_no_label", 1, 1 + 6),  # and six others to put in its place
    (late, "supervised_ids_are_exactly_the_answers", 1, 1),
    (endless, "supervised_ids_are_exactly_the_answers", 1, 1),
    (typeless, "every_key_reaches_the_batch", 1, 1),
    (from_the_left, "batching_and_padding_side_change_nothing", 2, 2),  # alone, a row has no padding
    (cut, "supervised_ids_are_exactly_the_answers", 1, 2),  # one image has 64 tokens
    (late, "training_prompt_is_the_evaluation_prompt", 1, 1),
])  # fmt: skip
def test_a_wrong_collator_breaks_its_law(spoil, broken, questions, pictures):
    """On Gemma 4's stand-in, within a hundred examples, of which the simplest is shown."""
    sound = setting("google/gemma-4-E2B-it")
    wrong = replace(sound, collator=lambda *parts, **options: Spoiled(Collator(*parts, **options), spoil))
    law = next(law for law in LAWS if law.name == broken)

    with pytest.raises(AssertionError) as caught:
        hold(law, wrong, 100)

    shown = "".join(caught.value.__notes__)
    assert shown.count("role='user'") <= questions
    assert shown.count("picture(") <= pictures


def test_a_row_cut_behind_our_back_breaks_the_law_of_truncation():
    """It fails in more than one way, and Hypothesis shows each."""
    sound = setting("google/gemma-4-E2B-it")
    wrong = replace(sound, collator=lambda *parts, **options: Spoiled(Collator(*parts, **options), cut))
    law = next(law for law in LAWS if law.name == "truncation_never_leaves_part_of_an_answer")

    with pytest.raises((AssertionError, ExceptionGroup)):
        hold(law, wrong, 100)
