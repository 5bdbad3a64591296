"""Conversations of the shapes that real data has: several turns, several images, none, other scripts, a tool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlcheck.collators.probes import Probe, picture
from vlcheck.data.conversation import Conversation, Turn
from vlcheck.processing.chat_template import Template

SMALL, WIDE = (64, 48), (128, 64)
QUESTION = "Which breed is the animal in the picture?"
LONG_ANSWER = "It is a Bengal. " + "It sits on the sofa beside the window and looks at the camera. " * 6 + "Yes."


@dataclass(frozen=True)
class Shape:
    """One way in which conversations differ from a question about an image."""

    name: str
    holds: Callable[[Conversation], bool]
    """Whether a conversation has it."""
    usual: bool
    """A collator is expected to take it where nothing is known of the data."""
    rows: tuple[Conversation, ...]


def shape_probes(template: Template, data: Sequence[Conversation]) -> list[list[Probe]]:
    """One batch a shape, in the order of `shapes`.

    A shape that the data holds is judged as the data is; one that it does not hold is only mentioned.
    """
    made = []
    for shape in shapes(template):
        held = any(shape.holds(conversation) for conversation in data)
        met = held or (shape.usual and not data)
        made.append([Probe("shape", row, shape=shape.name, met=met, held=held) for row in shape.rows])
    return made


def shapes(template: Template) -> list[Shape]:
    """The shapes that are tried; a tool's turn where the template knows one."""
    image, other, third = picture(SMALL), picture(WIDE, 1), picture((48, 96), 2)
    system = Turn("system", ("You are a careful judge of animals.",))
    asked, answered = Turn("user", (image, QUESTION)), Turn("assistant", ("Bengal",))
    again = (Turn("user", ("Are you sure of that?",)), Turn("assistant", ("Yes, it has spots.",)))
    thrice = (Turn("user", ("And the sofa?",)), Turn("assistant", ("It is brown.",)))
    second, cjk = Turn("assistant", ("The second",)), Turn("assistant", ("ロシアンブルー 🐈",))
    marker = template.opening.anchor or "ASSISTANT:"
    every = [
        Shape("two rows with different answers", lambda row: True, True, (
            _row("different answers, first", (asked, answered)),
            _row("different answers, second", (Turn("user", (other, QUESTION)), Turn("assistant", ("Russian Blue",)))),
        )),
        Shape("a system turn", lambda row: row.turns[0].role == "system", True,
              (_row("a system turn", (system, asked, answered)),)),
        Shape("two answers", lambda row: len(row.answers) > 1, True,
              (_row("two answers", (asked, answered, *again)),)),
        Shape("three answers", lambda row: len(row.answers) > 1, True,
              (_row("three answers", (asked, answered, *again, *thrice)),)),
        Shape("two images in a turn", lambda row: any(len(turn.pictures) > 1 for turn in row.turns), True,
              (_row("two images", (Turn("user", (image, other, "Which is larger?")), second)),)),
        Shape("an image in a later turn", _late_image, True,
              (_row("a later image", (asked, answered, Turn("user", (third, "And this one?")), second)),)),
        Shape("another script", lambda row: True, True,
              (_row("another script", (Turn("user", (image, "これは何の品種ですか？")), cjk)),)),
        Shape("a long answer", lambda row: True, True,
              (_row("a long answer", (asked, Turn("assistant", (LONG_ANSWER,)))),)),
        Shape("no image", lambda row: not row.pictures, False,
              (_row("no image", (Turn("user", ("Name a breed of cat.",)), answered)),)),
        Shape("a turn marker in the user's words", lambda row: any(marker in turn.text for turn in row.turns), False,
              (_row("a marker", (Turn("user", (image, f"What does {marker} mean?")), answered)),)),
        Shape("an empty answer", lambda row: any(not row.turns[turn].text.strip() for turn in row.answers), False,
              (_row("an empty answer", (asked, Turn("assistant", ("",)))),)),
    ]  # fmt: skip
    if "tool" in str(getattr(template.processor, "chat_template", "")):
        called = (Turn("assistant", ("I shall look it up.",)), Turn("tool", ("Bengal: spotted coat",)))
        every.append(
            Shape("a tool's turn", lambda row: any(turn.role == "tool" for turn in row.turns), False,
                  (_row("a tool's turn", (asked, *called, answered)),))
        )  # fmt: skip
    return every


def _row(name: str, turns: tuple[Turn, ...]) -> Conversation:
    return Conversation(turns, f"probe, {name}")


def _late_image(row: Conversation) -> bool:
    asked = [turn for turn in row.turns if turn.role == "user"]
    return any(turn.pictures for turn in asked[1:])
