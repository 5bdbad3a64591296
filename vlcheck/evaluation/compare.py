"""Hold two evaluations of the same rows against each other: which is better, and whether chance explains it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlcheck.evaluation.files import Evaluation, read_evaluation
from vlcheck.evaluation.scores import Interval, Paired, pair, wilson
from vlcheck.processing.exact_match import normalise
from vlcheck.spec import ConfigError, Location, Problem

SCHEMA = "vlcheck.comparison/1"
SAME = ("normalisation", "data", "split")
"""Settings without which rows cannot be paired; the rows themselves are compared as well."""
WEIGHED = ("instruction", "first_prompt", "max_soft_tokens", "processor", "max_new_tokens", "decoding",
           "quantization", "dtype", "attn_implementation", "patch", "versions", "device")  # fmt: skip
"""Settings that change answers beside what one usually means to compare; a difference is a warning."""
SUBJECTS = ("model", "revision", "weights", "seed", "adapter")
"""What one usually means to compare."""


@dataclass(frozen=True)
class ClassChange:
    """A label's rows in both evaluations."""

    label: str
    n: int
    first: int
    """Rows that the first evaluation has right."""
    second: int


@dataclass(frozen=True)
class Comparison:
    """Two evaluations, row by row."""

    first: Evaluation
    second: Evaluation
    paired: Paired
    classes: tuple[ClassChange, ...]
    """By what the second gained, losses first."""
    subjects: Mapping[str, tuple[Any, Any]]
    """What is compared: settings that differ and are meant to."""
    warnings: tuple[str, ...]

    def accuracy(self, second: bool) -> tuple[int, Interval]:
        """Rows that an evaluation has right, of those in both, and the interval of their share."""
        counts = self.paired
        correct = counts.both + (counts.second_only if second else counts.first_only)
        return correct, wilson(correct, counts.n)


def compare(first: Path, second: Path) -> Comparison:
    """Pair the rows of two evaluations by name and expected answer.

    Args:
        first, second: folders that `vlcheck evaluate` wrote, or the evaluation.json in them.

    Raises:
        ConfigError: if one is no finished evaluation, or they share no rows, or were not scored alike.
    """
    one, other = read_evaluation(first), read_evaluation(second)
    ours, theirs = one.document["settings"], other.document["settings"]
    for key in SAME:
        if ours.get(key) != theirs.get(key):
            raise _refusal(second, f"has {key} {_shown(theirs.get(key))}, {first} has {_shown(ours.get(key))}; "
                                   "only evaluations of the same rows, scored alike, can be compared")  # fmt: skip
    left, right = _by_title(one), _by_title(other)
    shared = [title for title in left if title in right]
    if not shared:
        raise _refusal(second, f"shares no row with {first}, by name and expected answer")
    hits = [(bool(left[title]["correct"]), bool(right[title]["correct"])) for title in shared]
    return Comparison(
        one,
        other,
        pair([hit for hit, _ in hits], [hit for _, hit in hits]),
        _changes(shared, hits),
        {key: (ours.get(key), theirs.get(key)) for key in SUBJECTS if ours.get(key) != theirs.get(key)},
        (
            *_lost(one, first, len(shared)),
            *_lost(other, second, len(shared)),
            *(
                f"{key} differs: {_shown(ours.get(key))} and {_shown(theirs.get(key))}"
                for key in WEIGHED
                if ours.get(key) != theirs.get(key)
            ),
        ),
    )


def comparison_document(found: Comparison) -> dict[str, Any]:
    """A comparison for programs."""
    counts, sides = found.paired, []
    for evaluation, second in ((found.first, False), (found.second, True)):
        correct, interval = found.accuracy(second)
        sides.append(
            {
                "file": str(evaluation.file),
                "correct": correct,
                "accuracy": correct / counts.n,
                "interval": [interval.low, interval.high],
                "macro_f1": evaluation.document.get("macro_f1"),
                "n": evaluation.document["n"],
            }
        )
    return {
        "schema": SCHEMA,
        "n": counts.n,
        "first": sides[0],
        "second": sides[1],
        "both": counts.both,
        "first_only": counts.first_only,
        "second_only": counts.second_only,
        "neither": counts.neither,
        "difference": counts.difference,
        "interval": [counts.interval.low, counts.interval.high],
        "p": counts.p,
        "test": "McNemar, exact, two-sided",
        "classes": [vars(change) for change in found.classes],
        "differ": {key: list(values) for key, values in found.subjects.items()},
        "warnings": list(found.warnings),
    }


def _by_title(evaluation: Evaluation) -> dict[tuple[str, str, int], Mapping[str, Any]]:
    """Predictions by name, expected answer and, where both repeat, how often they came before."""
    seen: Counter[tuple[str, str]] = Counter()
    found = {}
    for prediction in evaluation.predictions:
        title = prediction["name"], normalise(prediction["expected"])
        found[*title, seen[title]] = prediction
        seen[title] += 1
    return found


def _changes(shared: Iterable[tuple[str, str, int]], hits: Iterable[tuple[bool, bool]]) -> tuple[ClassChange, ...]:
    rows: Counter[str] = Counter()
    first: Counter[str] = Counter()
    second: Counter[str] = Counter()
    for (_, label, _), (one, other) in zip(shared, hits, strict=True):
        rows[label] += 1
        first[label] += one
        second[label] += other
    changes = (ClassChange(label, n, first[label], second[label]) for label, n in rows.items())
    return tuple(sorted(changes, key=lambda change: (change.second - change.first, change.label)))


def _lost(evaluation: Evaluation, path: Path, shared: int) -> list[str]:
    lost = len(evaluation.predictions) - shared
    return [f"{lost} of {len(evaluation.predictions)} rows of {path} are not in the other and left out"] if lost else []


def _shown(value: Any) -> str:
    text = "none" if value is None else repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def _refusal(path: Path, fault: str) -> ConfigError:
    return ConfigError(Problem(Location(str(path)), fault))
