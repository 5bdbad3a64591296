"""The conversations that every collator is given: small, alike in all but one respect."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vlcheck.collators.regions import TokenMap
from vlcheck.data.conversation import BadRow, Conversation, Picture, Turn, as_messages
from vlcheck.data.images import open_picture
from vlcheck.processing.collator import Batch, Collator

ProbeKind = Literal["plain", "listed", "unlisted", "long", "grown", "shape", "data"]
DEFAULT_QUESTION = "Which breed is the animal in the picture?"
DEFAULT_ANSWER = "Abyssinian"
SIZES = ((400, 20), (320, 80), (128, 128), (80, 320), (20, 400))
"""Width and height of the pictures that a row is repeated with: aspect ratios from 20:1 to 1:20."""
PHOTO = (400, 300)
BUDGETS = (70, 140, 280, 560, 1120)
"""Largest number of soft tokens that a row is repeated with, where the family can set one."""


@dataclass(frozen=True)
class Probe:
    """A conversation, and why collators are given it."""

    kind: ProbeKind
    conversation: Conversation
    budget: int | None = None
    beyond: bool = False
    """Its image takes more soft tokens than the run ever allows: only their effect on the span counts."""
    shape: str = ""
    """What sets it apart from one question about one image; empty for such a question, and for rows of the data."""
    met: bool = True
    """The run may well meet rows of its shape: what becomes of them is judged. Otherwise it is only mentioned."""
    held: bool = False
    """The data hold rows of its shape."""


def built_in(sample: Conversation | None = None, instruction: str | None = None) -> list[Probe]:
    """Four rows of unequal length with one answer.

    A bare question, one that lists all answers, one of the same length that lists others, a long one.
    """
    answer = DEFAULT_ANSWER
    if sample is not None:
        answer = sample.turns[sample.answers[0]].text.strip() or DEFAULT_ANSWER
    question = DEFAULT_QUESTION if answer not in DEFAULT_QUESTION else "What is in the picture?"
    listing = f"{instruction or question}\nAnswer with one of: Bengal, {answer}, beagle."
    other = listing.replace(answer, disguised(answer))
    longer = f"{question} " + "Look at the whole picture before you answer. " * 3
    texts: tuple[tuple[ProbeKind, str], ...] = (
        ("plain", question), ("listed", listing), ("unlisted", other), ("long", longer.strip())
    )  # fmt: skip
    return [Probe(kind, ask(kind, text, answer, picture((128, 96)))) for kind, text in texts]


def disguised(word: str) -> str:
    """A word of the same shape that is another: each letter the next of the alphabet."""
    moved = {letter: chr(ord(letter) + (1 if letter.lower() != "z" else -1)) for letter in word if letter.isascii()}
    said = "".join(moved[letter] if letter.isascii() and letter.isalpha() else letter for letter in word)
    return said if said != word else f"not {word[::-1]}" if word != word[::-1] else "another"


def grown(plain: Probe, collator: Collator, token_map: TokenMap) -> Iterator[tuple[Probe, Batch | None]]:
    """The bare question with pictures that take other numbers of soft tokens.

    Budgets above the run's own are tried too: a span that moves moves there all the more. Beside such a probe stands
    what the processor makes of it, which had to be known to choose it.
    """
    question, answer = (turn.text for turn in plain.conversation.turns)
    for size in SIZES:
        yield Probe("grown", ask(f"{size[0]} x {size[1]} pixels", question, answer, picture(size))), None
    if collator.dialogue.budget is None:
        return
    own = _tensors(ask("", question, answer, picture(PHOTO)), collator)
    for tokens in BUDGETS:
        asked = ask(f"at most {tokens} soft tokens", question, answer, picture(PHOTO))
        with budget(collator, tokens):
            made = _tensors(asked, collator)
        if made is not None:
            beyond = own is not None and _soft_tokens(made, token_map) > _soft_tokens(own, token_map)
            yield Probe("grown", asked, tokens, beyond=beyond), made


def _tensors(conversation: Conversation, collator: Collator) -> Batch | None:
    """What the processor makes of a conversation; None where the family takes no such budget."""
    try:
        return collator.tensors(collator.template.rows(conversation))
    except BadRow:
        return None


def _soft_tokens(made: Batch, token_map: TokenMap) -> int:
    return int((made["input_ids"] == token_map.soft_id).sum())


def ask(name: str, question: str, answer: str, image: Picture) -> Conversation:
    """One question about one image, and its answer."""
    return Conversation((Turn("user", (image, question)), Turn("assistant", (answer,))), f"probe, {name}")


def picture(size: tuple[int, int], seed: int = 0) -> Picture:
    """A picture of noise, the same for the same seed."""
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Picture(Image.fromarray(noise), f"of {size[0]} x {size[1]} pixels")


def as_example(
    conversation: Conversation, *, image_column: str = "image", answer_column: str = "label"
) -> dict[str, Any]:
    """A conversation as a data set's row, for collators that are not ours.

    `messages` (image parts bare) and `images` are what TRL's collator takes; a conversation with one image
    and one answer has them also under the run's own column names.
    """
    images = [open_picture(each) for each in conversation.pictures]
    example: dict[str, Any] = {"messages": as_messages(conversation.turns), "images": images}
    if len(images) == 1 and len(conversation.answers) == 1:
        example |= {image_column: images[0], answer_column: conversation.turns[conversation.answers[0]].text}
    return example


@contextlib.contextmanager
def budget(collator: Collator, tokens: int | None) -> Iterator[None]:
    """Cap the soft tokens of the processor's images for a while."""
    if tokens is None or collator.dialogue.budget is None:
        yield
        return
    image_processor = collator.processor.image_processor
    before = copy.copy(vars(image_processor))
    collator.dialogue.budget(collator.processor, tokens)
    try:
        yield
    finally:
        vars(image_processor).clear()
        vars(image_processor).update(before)


@contextlib.contextmanager
def few_tiles(collator: Collator) -> Iterator[None]:
    """Let the processor cut images into few tiles for a while: no label depends on how many there are.

    SmolVLM and Idefics3 enlarge every image to several tiles a side, InternVL cuts it into up to twelve.
    """
    image_processor = collator.processor.image_processor
    before, tile = copy.copy(vars(image_processor)), getattr(image_processor, "max_image_size", None)
    if tile and "longest_edge" in image_processor.size:
        image_processor.size = copy.copy(tile)
    if getattr(image_processor, "crop_to_patches", False):
        image_processor.max_patches = min(2, image_processor.max_patches)
    try:
        yield
    finally:
        vars(image_processor).clear()
        vars(image_processor).update(before)
