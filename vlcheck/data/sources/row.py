"""One sample of the run's data, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vlcheck.config.reading.quoting import quoted
from vlcheck.config.reading.text import unprintable
from vlcheck.data.conversation import BadRow, Conversation, Picture

LONGEST_NAME = 200
"""Characters of a name that messages print in full."""


@dataclass(frozen=True)
class RowForm:
    """How a row was written: what a framework's reader would take otherwise than this one."""

    shape: Literal["flat", "messages", "conversations"] = "flat"
    bare: str = ""
    """Column that holds one image where a list is meant; empty where none does."""
    null: bool = False
    """Its `image` is null."""
    unplaced: Literal["", "text", "parts"] = ""
    """No placeholder asks for its images; whether its user turns are text or lists of parts."""
    unread: tuple[str, ...] = ()
    """Columns that look like images and were not read."""


@dataclass(frozen=True)
class Row:
    """One sample that can be trained."""

    conversation: Conversation
    split: str
    form: RowForm = RowForm()

    @property
    def name(self) -> str:
        """What messages call it: `train.jsonl:12`, `beagle/7.jpg`, `train[17]`."""
        return self.conversation.name

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Its images in order."""
        return self.conversation.pictures

    @property
    def answer(self) -> str:
        """The text of its last answer."""
        return self.conversation.turns[self.conversation.answers[-1]].text

    @property
    def prompt(self) -> str:
        """All text that is given to the model: system and user turns, a line each."""
        return "\n".join(turn.text for turn in self.conversation.turns if turn.role != "assistant")


@dataclass(frozen=True)
class RowProblem:
    """A row that cannot be trained; its images, where they are known, can still be looked at."""

    name: str
    split: str
    message: str
    pictures: tuple[Picture, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


class NoSuchSplit(LookupError):
    """The data has no split of this name; `known` are those it has."""

    def __init__(self, split: str, known: tuple[str, ...]) -> None:
        super().__init__(f"no split {quoted(split)}; splits: {', '.join(map(quoted, known)) or 'none'}")
        self.known = known


def sound_text(text: str, what: str, pictures: tuple[Picture, ...] = ()) -> str:
    """The text, if a tokenizer can take it and a reader can see it.

    Raises:
        BadRow: at an unpaired surrogate, which UTF-8 cannot hold, or a control character.
    """
    found = unprintable(text)
    if found is None:
        return text
    code = ord(found[0])
    kind = "an unpaired surrogate" if 0xD800 <= code <= 0xDFFF else "a control character"
    raise BadRow(
        f"{what} holds {kind} (U+{code:04X}) as character {found.start() + 1}; allowed: printable text", pictures
    )


def shown(name: str) -> str:
    """A name as messages print it: one line, not without end, no character that a terminal or UTF-8 cannot take."""
    short = name if len(name) <= LONGEST_NAME else f"{name[:100]}…{name[-80:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


def capped(rows: Iterator[Row | RowProblem], most: int | None) -> Iterator[Row | RowProblem]:
    """The first rows, broken ones included."""
    for number, row in enumerate(rows):
        if most is not None and number >= most:
            return
        yield row
