"""How the data words its answers, and where a prompt may give one away."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vlcheck.data.sources.row import Row

MOST_LABELS = 1_000
"""Different answers; data with more is not a choice among labels."""
LONGEST_LABEL = 100
"""Characters; a longer answer is free text."""
MOST_HINTS = 200
"""Rows kept whose prompt holds the answer, with their texts; more are counted."""
LONGEST_PROMPT = 4_000
"""Characters of a prompt that is kept."""


@dataclass
class Label:
    """An answer as it is written, with its rows by split and the first of them."""

    counts: dict[int, int]
    first: int

    @property
    def total(self) -> int:
        """Rows of all splits."""
        return sum(self.counts.values())


class Answers:
    """The answers of a choice among labels; given up once they turn out to be free text."""

    def __init__(self) -> None:
        self._labels: dict[str, Label] | None = {}
        self._rows = 0

    def add(self, answer: str, split: int, row: int) -> None:
        """Count one row's answer."""
        if self._labels is None:
            return
        self._rows += 1
        label = self._labels.setdefault(answer, Label({}, row))
        label.counts[split] = label.counts.get(split, 0) + 1
        if len(answer) > LONGEST_LABEL or len(self._labels) > MOST_LABELS:
            self._labels = None

    def labels(self) -> dict[str, Label] | None:
        """Every label; None for free text, where answers hardly repeat."""
        if not self._labels or 2 * len(self._labels) > self._rows:
            return None
        return self._labels


@dataclass(frozen=True)
class Hint:
    """A row whose prompt holds its answer."""

    row: int
    answer: str
    prompt: str
    file: str
    """The file name in the prompt that holds the answer; empty where the answer stands there itself."""


@dataclass
class Hints:
    """Rows whose prompt holds the answer; whether it gives it away is judged when all answers are known."""

    count: int = 0
    first: list[Hint] = field(default_factory=list)

    def add(self, row: Row, index: int) -> None:
        """Keep the row if its prompt holds its answer, or a file name that does."""
        answer = key(row.answer)
        if len(answer) < 3 or not row.prompt:
            return
        if holds(key(row.prompt), answer):
            self._keep(index, row, "")
        elif file := next((name for name in _files(row) if holds(key(name), answer) and name in row.prompt), ""):
            self._keep(index, row, file)

    def _keep(self, index: int, row: Row, file: str) -> None:
        self.count += 1
        if len(self.first) < MOST_HINTS:
            self.first.append(Hint(index, row.answer, row.prompt[:LONGEST_PROMPT], file))


def key(text: str) -> str:
    """A text without what spelling varies in: case, Unicode form, spaces, underscores, hyphens, full stops."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[\W_]+", " ", folded).split())


def holds(text: str, words: str) -> bool:
    """Whether a text holds these words in a row; both as `key` gives them."""
    return f" {words} " in f" {text} "


def one_edit_apart(one: str, other: str) -> bool:
    """Whether one letter more, less, other, or two swapped make the one the other."""
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    one, other = one[start:], other[start:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    letters = (one + other).isalpha()
    return letters and (max(len(one), len(other)) <= 1 or (len(one) == 2 and one == other[::-1]))


def _files(row: Row) -> Iterator[str]:
    """Names of the row's image files without their suffix, where they are long enough to mean something."""
    for picture in row.pictures:
        if isinstance(picture.source, Path) and len(stem := picture.source.stem) >= 4:
            yield re.sub(r"[\W_]*\d+$", "", stem) or stem
            yield stem
