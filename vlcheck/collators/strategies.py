"""Hypothesis strategies for a user's own tests: conversations that a processor can hold.

They shrink to one picture and one turn. Needs `hypothesis`, which `pip install vlcheck[strategies]` brings.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from vlcheck.collators.probes import picture
from vlcheck.data.conversation import BadRow, Content, Conversation, Turn
from vlcheck.model.families import FAMILIES
from vlcheck.model.family import Dialogue
from vlcheck.processing.chat_template import Template, read_template
from vlcheck.processing.collator import placeholder

SIZES = ((32, 32), (64, 48), (48, 64), (120, 40), (40, 120))
QUESTIONS = ("Which?", "Which breed is it?", "Describe the picture.", "これは何ですか", "Is it a Bengal?")
ANSWERS = ("Pug", "Bengal", "Russian_Blue", "A dog that runs on the beach.", "はい", "Yes.")


def conversations(processor: Any, *, most_turns: int = 3, most_images: int = 2) -> SearchStrategy[Conversation]:
    """Conversations that this processor's family and template can hold.

    Args:
        processor: the one that the collator under test uses.
        most_turns: questions of a conversation at most.
        most_images: images of a question at most.

    Raises:
        LookupError: if vlcheck knows no family with such a processor.
    """
    dialogue = _dialogue_of(processor)
    template = read_template(processor, dialogue)
    drawn = _drawn(1 if dialogue.suffix else most_turns, most_images)
    return drawn.filter(lambda conversation: _holds(template, conversation, placeholder(processor)))


@st.composite
def _drawn(draw: st.DrawFn, most_turns: int, most_images: int) -> Conversation:
    """One question about one picture at least; a system turn, more turns and more pictures at most."""
    turns: list[Turn] = []
    for number in range(draw(st.integers(1, most_turns))):
        sizes = draw(st.lists(st.sampled_from(SIZES), min_size=int(number == 0), max_size=most_images))
        images: list[Content] = [picture(size) for size in sizes]
        turns.append(Turn("user", (*images, draw(_texts(QUESTIONS)))))
        turns.append(Turn("assistant", (draw(_texts(ANSWERS)),)))
    if draw(st.booleans()):
        turns.insert(0, Turn("system", ("You are brief.",)))
    return Conversation(tuple(turns), "drawn")


def _texts(known: tuple[str, ...]) -> SearchStrategy[str]:
    letters = st.characters(categories=("L", "N", "P"), exclude_characters="\u2581")
    return st.sampled_from(known) | st.text(letters, min_size=1, max_size=12)


def _holds(template: Template, conversation: Conversation, image: str) -> bool:
    """Whether family and template can express a conversation, and no text stands for an image."""
    if any(image in turn.text for turn in conversation.turns):
        return False
    try:
        template.rows(conversation)
    except BadRow:
        return False
    return True


def _dialogue_of(processor: Any) -> Dialogue:
    kind = type(processor).__name__
    for family in FAMILIES:
        if family.fallback is not None and family.fallback.processor == kind and family.dialogue is not None:
            return family.dialogue
    raise LookupError(f"vlcheck knows no family whose processor is a {kind}")
