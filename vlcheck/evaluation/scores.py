"""What answers are worth: exact match, and the statistics that say how much of it is chance.

Pure functions of texts and counts. The known values that they are tested against:
R. G. Newcombe, Stat. Med. 17 (1998) 857-872, table I (Wilson); D. G. Bonett and R. M. Price, Br. J. Math. Stat.
Psychol. 65 (2012) 479-488 (paired difference); A. Agresti, Categorical Data Analysis, 3rd ed., 11.1 (McNemar).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlcheck.processing.exact_match import normalise

Z = 1.959963984540054
"""Quantile of the normal distribution that leaves 2.5 % above it: all intervals here are 95 % intervals."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.1%} to {self.high:.1%}"


@dataclass(frozen=True)
class ClassScore:
    """One label of the evaluation split."""

    label: str
    n: int
    """Rows whose answer it is."""
    correct: int
    answered: int
    """Rows that were answered with it."""

    @property
    def recall(self) -> float:
        """Share of its rows that were answered with it."""
        return self.correct / self.n

    @property
    def precision(self) -> float | None:
        """Share of such answers that were right; None if there was none."""
        return self.correct / self.answered if self.answered else None

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if it was never answered."""
        return 2 * self.correct / (self.n + self.answered)


@dataclass(frozen=True)
class Scores:
    """How well the rows of a split were answered."""

    classes: tuple[ClassScore, ...]
    """In the order of their names."""
    confusion: Mapping[tuple[str, str | None], int]
    """Rows by label and by the label that was answered; None where the answer is no label of the split."""

    @property
    def n(self) -> int:
        """Rows."""
        return sum(row.n for row in self.classes)

    @property
    def correct(self) -> int:
        """Rows that were answered exactly."""
        return sum(row.correct for row in self.classes)

    @property
    def accuracy(self) -> float:
        """Share of rows that were answered exactly."""
        return self.correct / self.n

    @property
    def interval(self) -> Interval:
        """Wilson interval of the accuracy."""
        return wilson(self.correct, self.n)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the split's labels. Answers that are no label are misses of their row's label, no class."""
        return math.fsum(row.f1 for row in self.classes) / len(self.classes)

    @property
    def no_label(self) -> int:
        """Answers that are no label of the split."""
        return sum(count for (_, answer), count in self.confusion.items() if answer is None)


def score(expected: Sequence[str], answers: Sequence[str]) -> Scores:
    """Hold answers against what was expected, row by row; labels are called as they are first spelled.

    Raises:
        ValueError: if there is no row, or one list is longer.
    """
    if not expected:
        raise ValueError("no rows to score")
    names: dict[str, str] = {}
    for label in expected:
        names.setdefault(normalise(label), label.strip())
    pairs = [
        (names[normalise(label)], names.get(normalise(answer)) if normalise(answer) else None)
        for label, answer in zip(expected, answers, strict=True)
    ]
    confusion = Counter(pairs)
    rows, answered = Counter(label for label, _ in pairs), Counter(answer for _, answer in pairs)
    return Scores(
        tuple(ClassScore(label, rows[label], confusion[label, label], answered[label]) for label in sorted(rows)),
        dict(sorted(confusion.items(), key=lambda entry: (entry[0][0], entry[0][1] is None, entry[0][1] or ""))),
    )


def wilson(correct: int, n: int) -> Interval:
    """Wilson's score interval of a share.

    Raises:
        ValueError: unless 0 <= correct <= n and n > 0.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} of {n}; allowed: 0 <= correct <= n, and n > 0")
    centre = (correct + Z**2 / 2) / (n + Z**2)
    half = Z * math.sqrt(correct * (n - correct) / n + Z**2 / 4) / (n + Z**2)
    return Interval(0.0 if correct == 0 else centre - half, 1.0 if correct == n else centre + half)


@dataclass(frozen=True)
class Paired:
    """Two evaluations of the same rows, row by row."""

    both: int
    """Rows that both answered exactly."""
    first_only: int
    second_only: int
    neither: int

    @property
    def n(self) -> int:
        """Rows."""
        return self.both + self.first_only + self.second_only + self.neither

    @property
    def difference(self) -> float:
        """Accuracy of the second less that of the first."""
        return (self.second_only - self.first_only) / self.n

    @property
    def interval(self) -> Interval:
        """Of the difference, by Bonett and Price: Wald's, with one row added to either kind of disagreement."""
        n = self.n + 2
        better, worse = (self.second_only + 1) / n, (self.first_only + 1) / n
        half = Z * math.sqrt((better + worse - (better - worse) ** 2) / n)
        return Interval(max(-1.0, better - worse - half), min(1.0, better - worse + half))

    @property
    def p(self) -> float:
        """McNemar's exact p; see `mcnemar`."""
        return mcnemar(self.first_only, self.second_only)


def pair(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Count the rows by which of two evaluations answered them exactly."""
    counts = Counter(zip(first, second, strict=True))
    return Paired(counts[True, True], counts[True, False], counts[False, True], counts[False, False])


def mcnemar(first_only: int, second_only: int) -> float:
    """How probable so uneven a disagreement is if neither is better: McNemar's exact test, two-sided.

    Twice the smaller tail of a binomial with p = 1/2, at most 1. Summed from its largest term downwards, so that
    counts in the millions neither overflow nor take long; below 1e-308 the answer is 0.
    """
    n, least = first_only + second_only, min(first_only, second_only)
    if first_only == second_only:
        return 1.0
    log_choose = math.lgamma(n + 1) - math.lgamma(least + 1) - math.lgamma(n - least + 1)
    term, total = 1.0, 0.0
    for k in range(least, -1, -1):
        total += term
        term *= k / (n - k + 1)
        if term < total * 1e-18:
            break
    return min(1.0, 2 * math.exp(log_choose - n * math.log(2) + math.log(total)))
