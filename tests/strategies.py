"""Hypothesis strategies: hostile texts, pictures, conversations and batches, which shrink to one image and one turn."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image

from vlcheck.data.conversation import Content, Conversation, Picture, Turn

SIZES = (
    (8, 8), (1, 1), (40, 30), (30, 40), (3, 60), (60, 3), (16, 320), (320, 16), (33, 77), (150, 100), (500, 375),
)  # fmt: skip
"""From a pixel to 1:20 and 20:1, the first one small and square."""

MODES = ("RGB", "L", "RGBA", "P", "LA", "CMYK", "1", "I;16")
WORDS = (
    "Beagle", "pug", "a", "user", "model", "assistant", "Which?", "é", "日本", "🙂", "\u200b", "e\u0301", "\x00",
    "\x07", "\x1c", "\x85", "\u2028", "\r\n", "{{ x }}", "</s", "<image", "[INST", ":", "'", '"', "\\n", "0",
)  # fmt: skip
ANSWERS = ("Beagle", "american_bulldog", "Yes.", "No, the left one is larger.", "Birman")
LETTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\u2581")
"""No surrogates, which no tokenizer takes, and not what sentencepiece writes for a space."""


@cache
def texts(markers: tuple[str, ...] = ()) -> SearchStrategy[str]:
    """Words, white space, control characters, anything else of Unicode, and a family's own markers."""
    pieces = (
        st.sampled_from((*WORDS, *markers))
        | st.sampled_from((" ", "  ", "\n", "\n\n", "\t"))
        | st.text(LETTERS, max_size=4)
    )
    return st.just("Beagle") | st.lists(pieces, max_size=6).map("".join)


@cache
def answers(markers: tuple[str, ...] = ()) -> SearchStrategy[str]:
    """An ordinary answer, an empty one, or a hostile text."""
    return st.sampled_from((*ANSWERS, "")) | texts(markers)


@cache
def picture(width: int, height: int, mode: str = "RGB") -> Picture:
    """A picture of this size; all of one size and mode are one object."""
    image = Image.linear_gradient("L").resize((width, height))
    return Picture(image.convert(mode) if mode != "I;16" else image.convert("I").convert("I;16"), f"{width}x{height}")


@cache
def pictures() -> SearchStrategy[Picture]:
    """Pictures of all sizes in RGB, small ones in other modes too."""
    return st.sampled_from(SIZES).map(lambda size: picture(*size)) | st.sampled_from(MODES).map(
        lambda mode: picture(8, 8, mode)
    )


@cache
def contents(markers: tuple[str, ...] = (), *, least: int = 0, most: int = 2) -> SearchStrategy[tuple[Content, ...]]:
    """Texts with images before, between and after them."""
    images = st.lists(pictures(), min_size=least, max_size=most)

    @st.composite
    def mixed(draw: st.DrawFn) -> tuple[Content, ...]:
        parts: list[Content] = list(draw(images))
        for text in draw(st.lists(texts(markers), min_size=0 if parts else 1, max_size=2)):
            parts.insert(draw(st.integers(0, len(parts))), text)
        return tuple(parts)

    return mixed()


@st.composite
def conversations(
    draw: st.DrawFn,
    markers: tuple[str, ...] = (),
    *,
    single: bool = False,
    thinks: bool = False,
    system_with_images: bool = True,
) -> Conversation:
    """Conversations of up to three questions.

    Args:
        single: one question with at least one image and one answer, no system turn.
        thinks: answers may think first.
        system_with_images: a system turn and an image may stand in one conversation.
    """
    turns: list[Turn] = []
    for _ in range(1 if single else draw(st.integers(1, 3))):
        asked = draw(contents(markers, least=int(single)))
        said = draw(answers(markers))
        if any(isinstance(part, str) and part for part in asked) and draw(st.booleans()):
            asked = (*asked, f" {said}?" if said else "")  # the answer's own words in the question
        thinking = draw(st.just("") | texts(markers)) if thinks else ""
        turns += [Turn("user", asked), Turn("assistant", (said,), thinking)]
    seen = any(turn.pictures for turn in turns)
    if not single and (system_with_images or not seen) and draw(st.booleans()):
        turns.insert(0, Turn("system", (draw(texts(markers)),)))
    return Conversation(tuple(turns), "row")


def batches(one: SearchStrategy[Conversation], *, most: int = 3) -> SearchStrategy[list[Conversation]]:
    """A few conversations."""
    return st.lists(one, min_size=1, max_size=most)


def sides() -> SearchStrategy[str]:
    """Padding sides."""
    return st.sampled_from(("right", "left"))
