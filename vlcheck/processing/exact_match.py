"""Whether an answer is the expected one: exact match, but for what no reader would count as a difference."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

NORMALISATION = (
    "NFKC; case folded; every run of white space and underscores one space; matching quotes around the whole and "
    "trailing . , ; : ! ? dropped unless nothing would be left; nothing else"
)
"""What `normalise` does, in the words that every evaluation states. Change both or neither."""

_QUOTES = frozenset(('""', "''", "``", "“”", "‘’", "«»", "„“", "‚‘"))
_TRAILING = ".,;:!?。"


def normalise(text: str) -> str:
    """A text as answers are compared; see `NORMALISATION`. To normalise twice is to normalise once."""
    while (tidied := _tidied(text)) != text:
        text = tidied
    return text


def matches(answer: str, expected: str) -> bool:
    """Whether an answer is the expected one, whole and alone; an empty one matches nothing."""
    given = normalise(answer)
    return bool(given) and given == normalise(expected)


def spread(labels: Sequence[str], count: int) -> list[int]:
    """Indices of so many rows, every label in turn, each label's rows in their order."""
    waiting: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        waiting.setdefault(normalise(label), []).append(number)
    turns = sorted((turn, at, number) for at, rows in enumerate(waiting.values()) for turn, number in enumerate(rows))
    return sorted(number for *_, number in turns[:count])


def _tidied(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = re.sub(r"[\s_]+", " ", folded).strip()
    bare = words.rstrip(_TRAILING)
    if bare[:1] + bare[-1:] in _QUOTES and len(bare) > 1:
        bare = bare[1:-1]
    return bare if bare.strip() else words
