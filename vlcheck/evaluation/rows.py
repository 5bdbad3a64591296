"""The rows of an evaluation: counted and their labels read before a model is built, quarantined where unreadable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vlcheck.data.conversation import BadRow, Conversation
from vlcheck.data.read import NoSuchSplit, Row, RowProblem, read_rows
from vlcheck.evaluation.prompting import Prompting
from vlcheck.evidence.options import Options
from vlcheck.finding import NotApplicable, Unavailable
from vlcheck.processing.collator import Collator
from vlcheck.processing.exact_match import normalise, spread
from vlcheck.spec import ConfigError, Problem, RunSpec

MOST_LABELS = 1000
"""Different answers; with more they are free text, and those of the training split are not looked at."""
NAMED = 5


@dataclass
class Survey:
    """What one pass over the split established, no image decoded."""

    split: str
    rows: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    """Rows that cannot be read: index, name, what is wrong."""
    titles: list[tuple[str, str]] = field(default_factory=list)
    """Name and expected answer of every row; both empty where it cannot be read."""
    labels: dict[str, None] = field(default_factory=dict)
    """Different answers, as they are spelled."""
    thinking: dict[str, None] = field(default_factory=dict)
    """Different thinking blocks of answers."""
    notes: list[str] = field(default_factory=list)
    first: Conversation | None = None
    chosen: frozenset[int] | None = None
    """Rows that are asked; None asks all."""

    @property
    def asked(self) -> int:
        """How many rows are asked, readable or not."""
        return self.rows if self.chosen is None else len(self.chosen)

    def asks(self, row: int) -> bool:
        """Whether a row is asked."""
        return self.chosen is None or row in self.chosen

    def first_prompt(self, collator: Collator, prompting: Prompting) -> str:
        """The first row's prompt as text; empty if it has none."""
        if self.first is None:
            return ""
        try:
            first = prompting(self.first)
            return collator.template.prompt(first, first.answers[-1]).text
        except BadRow:
            return ""

    def agreeing(self, predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of an earlier run that are of these very rows, each row once."""
        by_row = {
            prediction["row"]: prediction
            for prediction in predictions
            if 0 <= prediction["row"] < self.rows
            and self.asks(prediction["row"])
            and self.titles[prediction["row"]] == (prediction["name"], prediction["expected"])
        }
        return list(by_row.values())


class Quarantine:
    """Rows that are left out, up to the share that the run allows.

    Raises:
        ConfigError: when it is made, or grows, beyond that share.
    """

    def __init__(self, spec: RunSpec, found: Survey) -> None:
        self.rows = list(found.problems)
        self._spec, self._of, self._split = spec, found.rows, found.split
        self._check()

    def add(self, row: int, name: str, problem: str) -> None:
        """Leave one more row out."""
        self.rows.append({"row": row, "name": name, "problem": problem})
        self._check()

    def _check(self) -> None:
        allowed = self._spec.data.max_unreadable
        if len(self.rows) > allowed * self._of:
            last = self.rows[-1]
            raise ConfigError(
                Problem(
                    self._spec.where("data.max_unreadable"),
                    f"{len(self.rows)} of {self._of} rows of split {self._split!r} cannot be read, the last "
                    f"{last['name']}: {last['problem']}; allowed: data.max_unreadable {allowed:.2%}",
                )
            )


def wanted_rows(spec: RunSpec, options: Options) -> Iterator[Row | RowProblem]:
    """The rows of the evaluation split in order.

    Raises:
        ConfigError: if the run names no evaluation split, or its data has none of this name.
        Unavailable: as `read_rows`.
    """
    split = spec.data.eval_split
    if split is None:
        message = "data.eval_split is not set; allowed: the split to evaluate on, for example `eval_split: test`"
        raise ConfigError(Problem(spec.where("data.eval_split"), message))
    try:
        yield from read_rows(spec.data, split, offline=_offline(options))
    except NoSuchSplit as missing:
        raise ConfigError(Problem(spec.where("data.eval_split"), f"data.eval_split: {missing}")) from missing
    except NotApplicable as none:
        raise ConfigError(Problem(spec.where("data"), str(none))) from none


def survey(spec: RunSpec, options: Options, limit: int | None) -> Survey:
    """Count the split's rows and read its answers, and hold them against the training split's.

    Args:
        limit: choose so many rows, every label in turn; rows that cannot be read are not chosen.

    Raises:
        ConfigError: as `wanted_rows`; if the split is empty or too much of it cannot be read.
        Unavailable: as `read_rows`.
    """
    found = Survey(spec.data.eval_split or "")
    for row in wanted_rows(spec, options):
        if isinstance(row, Row):
            _note(found, row)
        else:
            found.problems.append({"row": found.rows, "name": row.name, "problem": row.message})
            found.titles.append(("", ""))
        found.rows += 1
    if not found.rows:
        message = f"split {found.split!r} holds no rows, so there is nothing to evaluate"
        raise ConfigError(Problem(spec.where("data.eval_split"), message))
    Quarantine(spec, found)
    if limit is not None and limit < found.rows:
        usable = [number for number, (name, _) in enumerate(found.titles) if name]
        picked = spread([found.titles[number][1] for number in usable], limit)
        found.chosen = frozenset(usable[number] for number in picked)
        found.notes.append(
            f"{found.asked:,} of the split's {found.rows:,} rows were evaluated, every label in turn (--limit {limit})"
        )
    found.notes += _spellings(found)
    if len(found.labels) <= MOST_LABELS:
        found.notes += _foreign_labels(spec, found)
    return found


def _note(found: Survey, row: Row) -> None:
    conversation = row.conversation
    turn = conversation.turns[conversation.answers[-1]]
    found.titles.append((str(conversation), turn.text))
    found.labels.setdefault(turn.text)
    if turn.thinking:
        found.thinking.setdefault(turn.thinking)
    found.first = found.first or conversation


def _spellings(found: Survey) -> Iterator[str]:
    """Labels that normalisation makes one."""
    spelled: dict[str, list[str]] = {}
    for label in found.labels:
        spelled.setdefault(normalise(label), []).append(label)
    several = [spellings for spellings in spelled.values() if len({label.strip() for label in spellings}) > 1]
    if several:
        yield f"{len(several)} labels are spelled in several ways and count as one each: {_listed(several[0])}"


def _foreign_labels(spec: RunSpec, found: Survey) -> Iterator[str]:
    """Labels that training never shows."""
    if spec.data.eval_split == spec.data.train_split:
        yield f"the evaluation split is the training split, {found.split}: the answers were trained on"
        return
    try:
        rows = read_rows(spec.data, spec.data.train_split, offline=True)
        trained = {normalise(row.answer) for row in rows if isinstance(row, Row)}
    except (Unavailable, NoSuchSplit, NotApplicable) as missing:
        yield f"labels were not held against those of the training split: {missing}"
        return
    if foreign := [label for label in found.labels if normalise(label) not in trained]:
        yield f"{len(foreign)} labels of the split are none of the training split's: {_listed(foreign)}"


def _offline(options: Options) -> bool:
    return options.offline or not options.stream


def _listed(labels: list[str]) -> str:
    more = f", and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    return ", ".join(map(repr, labels[:NAMED])) + more
