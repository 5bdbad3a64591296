"""VLC5xx: answers that are given away, misspelt, lopsided, or never taught."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule
from vlcheck.rules.rows import few, place

if TYPE_CHECKING:
    from vlcheck.data.answers import Hint, Label
    from vlcheck.data.scan import Scan
    from vlcheck.spec import RunSpec

LOPSIDED = 20
"""Rows of the most frequent label to one of the rarest; long-tailed benchmarks begin at 10 and go to 200."""
TELLING = 20
"""Characters of a free answer that no prompt repeats by chance."""
SLIP = 10
"""A label this much rarer than one a letter away is taken for a slip of it."""


@rule("VLC513", "answer-given-away", Severity.WARNING)
def answer_given_away(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """The prompt holds the answer.

    A caption or a file name in the user's turn names the class: the model learns to copy it, the loss
    falls beautifully, and the image is never needed. A prompt that other rows share with another answer
    gives nothing away, nor does one that lists other answers too (a closed list of all classes).

    Remedy: take captions and file names out of the prompt.

    Source: measured; see tests/data/test_planted_faults.py.
    """
    yield Examined(len(scan.rows), "prompts")
    telling = [hint for hint in scan.hints.first if _tells(scan, hint)]
    if telling:
        names = [f"{scan.rows.names[h.row]} ({quoted(h.file or h.answer)})" for h in telling]
        judged, held = len(scan.hints.first), scan.hints.count
        most = f" (judged on {judged} of the {held:,} whose prompt holds the answer's words)" if held > judged else ""
        yield Finding(
            f"{few(names, len(names))}: the prompt holds the answer; {len(telling):,} of {len(scan.rows):,} rows{most}",
            where=place(spec),
            measured={"rows": [*names[:20]]},
        )


@rule("VLC514", "label-variants", Severity.WARNING)
def label_variants(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """One label is spelled in several ways.

    Case, spaces and underscores, a full stop, Unicode forms, a slip of a letter: to the loss these are
    different answers, and an exact-match evaluation counts the other spelling as wrong. A slip is a label
    one letter from another one that is at least ten times as frequent.

    Remedy: write each label in one way.

    Source: measured; see tests/data/test_answers.py.
    """
    labels = _labels(scan)
    yield Examined(len(labels), "labels")
    for group in _variants(labels):
        usual = max(group, key=lambda answer: labels[answer].total)
        odd = [answer for answer in group if answer != usual]
        names = [f"{scan.rows.names[labels[answer].first]} ({_apart(answer, usual)})" for answer in odd]
        yield Finding(
            f"{few(names, len(names))}: {sum(labels[answer].total for answer in odd):,} rows spell otherwise what "
            f"{labels[usual].total:,} rows spell {quoted(usual)}",
            where=place(spec),
            measured={"usual": usual, "rows": [*names[:20]]},
        )


@rule("VLC515", "class-imbalance", Severity.NOTE)
def class_imbalance(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """Some labels of the training split are far more frequent than others.

    The model learns the frequent labels first and guesses them where it is unsure; plain accuracy on an
    evaluation split of the same skew does not show it.

    Remedy: report accuracy by class, and sample the rare ones more often if they matter.

    Source: https://arxiv.org/abs/1901.05555 (imbalance factors of 10 to 200 and their cost)
    """
    counts = _by_key(scan, split=0)
    yield Examined(len(counts), "labels of the training split")
    if not counts:
        return
    most, least = (pick(counts, key=lambda word: counts[word][0]) for pick in (max, min))
    (many, common), (few_rows, rare) = counts[most], counts[least]
    if many > LOPSIDED * few_rows:
        row = scan.rows.names[_labels(scan)[rare].first]
        yield Finding(
            f"{row}: {quoted(rare)} has {few_rows:,} training rows, {quoted(common)} {many:,}; "
            f"more than {LOPSIDED} to 1",
            where=place(spec),
            measured={"row": row, "most": many, "least": few_rows},
        )


@rule("VLC516", "unseen-answer", Severity.WARNING)
def unseen_answer(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """The evaluation asks for labels that training never shows.

    A sorted data set cut by `train_samples`, or a split by class: fine-tuning moves the model towards the
    labels it saw, and the others are counted against it.

    Remedy: shuffle before cutting, or evaluate on the labels that are trained.

    Source: measured; see tests/data/test_planted_faults.py.
    """
    if len(scan.splits) < 2:
        raise NotApplicable("the run uses one split")
    asked, taught = _by_key(scan, split=1), _by_key(scan, split=0)
    yield Examined(len(asked), "labels of the evaluation split")
    unseen = [answer for word, (_, answer) in asked.items() if word not in taught]
    if unseen:
        labels = _labels(scan)
        names = [f"{scan.rows.names[labels[answer].first]} ({quoted(answer)})" for answer in unseen]
        yield Finding(
            f"{few(names, len(names))}: {len(unseen):,} of {len(asked):,} evaluated labels have 0 training rows",
            where=place(spec),
            measured={"labels": [*unseen[:20]]},
        )


def _labels(scan: Scan) -> dict[str, Label]:
    labels = scan.answers.labels()
    if labels is None:
        raise NotApplicable("the answers are free text, not labels that repeat")
    return labels


def _by_key(scan: Scan, *, split: int) -> dict[str, tuple[int, str]]:
    """Rows of each label in one split, whatever its spelling, and one of its spellings."""
    from vlcheck.data.answers import key

    counts: dict[str, tuple[int, str]] = {}
    for answer, label in _labels(scan).items():
        if rows := label.counts.get(split, 0):
            word = key(answer) or answer
            counts[word] = (counts.get(word, (0, ""))[0] + rows, answer)
    return counts


def _tells(scan: Scan, hint: Hint) -> bool:
    """Whether the answer in a prompt tells more than that it is one of several."""
    from vlcheck.data.answers import holds, key
    from vlcheck.data.duplicates import prompt_is_shared

    if hint.file:
        return True
    prompt, own, labels = key(hint.prompt), key(hint.answer), scan.answers.labels()
    if labels is None and len(own) < TELLING:
        return False
    others = (key(answer) for answer in labels or ())
    listed: object = any(other and other not in own and holds(prompt, other) for other in others)
    listed = listed or re.search(rf"\b(or (an? |the )?{re.escape(own)}|{re.escape(own)} or)\b", prompt)
    return not (listed or prompt_is_shared(scan, hint.row))


def _apart(answer: str, usual: str) -> str:
    """An answer in quotes; as escapes where it looks like the usual one."""
    alike = unicodedata.normalize("NFC", answer) == unicodedata.normalize("NFC", usual)
    return json.dumps(answer) if alike else quoted(answer)


def _variants(labels: dict[str, Label]) -> Iterator[tuple[str, ...]]:
    from vlcheck.data.answers import key, one_edit_apart

    groups: dict[str, list[str]] = defaultdict(list)
    for answer in labels:
        groups[key(answer) or answer].append(answer)
    yield from (tuple(group) for group in groups.values() if len(group) > 1)
    totals = {word: sum(labels[answer].total for answer in group) for word, group in groups.items()}
    for word, rows in totals.items():
        if len(word) >= 5:
            meant = (w for w, n in totals.items() if n >= SLIP * rows and one_edit_apart(word, w))
            if (right := next(meant, None)) is not None:
                yield (groups[right][0], groups[word][0])
