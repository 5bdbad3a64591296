"""What a model is asked beside what its run asks: a list of the labels, and rows of the training split as examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vlcheck.data.conversation import Conversation
from vlcheck.data.read import NoSuchSplit, Row, read_rows
from vlcheck.finding import NotApplicable
from vlcheck.processing.exact_match import normalise, spread
from vlcheck.spec import ConfigError, Problem, RunSpec

MOST_LISTED = 200
"""Labels of a prompt that lists them; more are free text, no classes."""


@dataclass(frozen=True)
class Prompting:
    """How rows are asked.

    Args:
        labels: listed behind each question; none leaves it as it is.
        examples: conversations whose turns go before each question.
    """

    labels: tuple[str, ...] = ()
    examples: tuple[Conversation, ...] = ()

    def __call__(self, row: Conversation) -> Conversation:
        """A row as it is asked; its name and its last answer stay."""
        row = self._listing(row)
        if not self.examples:
            return row
        shown = [turn for each in self.examples for turn in self._listing(each).turns if turn.role != "system"]
        system = [turn for turn in row.turns if turn.role == "system"]
        return replace(row, turns=(*system, *shown, *(turn for turn in row.turns if turn.role != "system")))

    def _listing(self, row: Conversation) -> Conversation:
        asking = [number for number in range(row.answers[-1]) if row.turns[number].role == "user"]
        if not self.labels or not asking:
            return row
        turns, at = list(row.turns), asking[-1]
        listed = f"\nAnswer with one of: {', '.join(self.labels)}."
        turns[at] = replace(turns[at], content=(*turns[at].content, listed))
        return replace(row, turns=tuple(turns))


def prompting_of(spec: RunSpec, labels: Iterable[str], *, class_list: bool, few_shot: int, offline: bool) -> Prompting:
    """How a run's rows are asked.

    Args:
        labels: of the evaluation split.
        class_list: list them behind each question.
        few_shot: rows of the training split that go before each question, every label in turn; 0 for none.

    Raises:
        ConfigError: if there are too many labels to list, or too few rows to show.
    """
    listed = tuple(sorted({normalise(label): label.strip() for label in labels}.values())) if class_list else ()
    if len(listed) > MOST_LISTED:
        message = f"--class-list: the split has {len(listed):,} different answers; allowed: at most {MOST_LISTED}"
        raise ConfigError(Problem(spec.where("data.eval_split"), message))
    return Prompting(listed, _examples(spec, few_shot, offline) if few_shot else ())


def _examples(spec: RunSpec, count: int, offline: bool) -> tuple[Conversation, ...]:
    data = spec.data
    if data.train_split == data.eval_split:
        message = "--few-shot shows rows of the training split, and that is the evaluation split"
        raise ConfigError(Problem(spec.where("data.eval_split"), message))
    try:
        read = list(read_rows(data, data.train_split, offline=offline))
    except (NoSuchSplit, NotApplicable) as missing:
        raise ConfigError(Problem(spec.where("data.train_split"), f"--few-shot: {missing}")) from missing
    rows = [row.conversation for row in read if isinstance(row, Row)]
    if len(rows) < count:
        message = f"--few-shot is {count}; the training split has {len(rows)} usable rows"
        raise ConfigError(Problem(spec.where("data.train_split"), message))
    answers = [row.turns[row.answers[-1]].text for row in rows]
    return tuple(rows[number] for number in spread(answers, count))
