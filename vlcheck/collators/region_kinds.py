"""The kinds of id that a row can hold."""

from __future__ import annotations

from enum import IntEnum


class Region(IntEnum):
    """What an id stands for."""

    PADDING = 0
    IMAGE = 1
    PROMPT = 2
    HEADER = 3
    """What introduces an answer: the assistant's turn marker, and whatever is opened behind it."""
    ANSWER = 4
    END = 5
    AFTER = 6
    """What follows an end token up to the next turn: a newline; behind the last answer a generation prompt too."""
    SPACE = 7
    """White space between header, answer and end token, which may be supervised or not."""
    FOREIGN = 8
    """Text between header and answer, or behind the last one, that the conversation does not hold."""
