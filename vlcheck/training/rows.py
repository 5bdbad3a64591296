"""The rows that a run trains on, and those that it is evaluated on meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from vlcheck.data.conversation import Conversation
from vlcheck.data.progress import Progress, counted
from vlcheck.data.read import NoSuchSplit, Row, RowProblem, read_rows
from vlcheck.processing.exact_match import spread
from vlcheck.spec import ConfigError, Problem, RunSpec
from vlcheck.training.watch import RunStopped


@dataclass(frozen=True)
class Rows:
    """What a run trains on: every row, or where to read them one after the other."""

    conversations: Sequence[Conversation] = ()
    broken: tuple[tuple[str, str], ...] = ()
    """Rows that are no conversation, and why."""
    stream: Callable[[], Iterator[Row | RowProblem]] | None = None
    """Begins the split anew."""
    evaluation: Sequence[Conversation] = ()
    """Of the evaluation split, where the run is evaluated while it trains."""
    all_used: bool = False
    """Each of those that are trained on is known to give every adapter a gradient."""

    def fewer(self, samples: int) -> Rows:
        """So many of the rows at most, every answer in turn; those of a stream are not known and stay."""
        answers = [row.turns[row.answers[-1]].text for row in self.conversations]
        return replace(self, conversations=tuple(self.conversations[at] for at in spread(answers, samples)))


def read_training_rows(
    spec: RunSpec, *, offline: bool = False, stream: bool = False, progress: Progress = lambda step: None
) -> Rows:
    """The rows of the training split, and those of it that are no conversation.

    Args:
        stream: read rows when they are needed; without, the list of them is held, and the bytes of images that do
            not lie in files of their own.
        progress: told how many rows were read.

    Raises:
        NoSuchSplit, NotApplicable, Unavailable: as `read_rows` does.
        ConfigError: if the run is to be evaluated while it trains, and its evaluation split holds no usable row.
    """
    evaluation = _evaluation_rows(spec, offline)
    if stream:
        begin = lambda: read_rows(spec.data, spec.data.train_split, offline=offline)  # noqa: E731
        return Rows(stream=begin, evaluation=evaluation)
    rows = read_rows(spec.data, spec.data.train_split, offline=offline)
    found = list(counted(rows, f"Reading rows of {spec.data.train_split!r}", progress))
    sound = tuple(row.conversation for row in found if isinstance(row, Row))
    broken = tuple((row.name, row.message) for row in found if isinstance(row, RowProblem))
    return Rows(sound, broken, evaluation=evaluation)


def check_share(unreadable: dict[str, str], rows: int, allowed: float) -> None:
    """Hold the rows that were left out against the share that a run may lose.

    Raises:
        RunStopped: if they are more.
    """
    if len(unreadable) > allowed * rows:
        name, reason = next(iter(unreadable.items()))
        raise RunStopped(
            f"{len(unreadable):,} of {rows:,} rows cannot be read, the first is {name}: {reason}; "
            f"data.max_unreadable allows a share of {allowed:g}"
        )


def _evaluation_rows(spec: RunSpec, offline: bool) -> tuple[Conversation, ...]:
    data, strategy = spec.data, spec.training.eval_strategy
    if strategy == "no":
        return ()
    if data.eval_split is None:
        message = f"training.eval_strategy is {strategy}, and data.eval_split is not set: there is nothing to evaluate"
        raise ConfigError(Problem(spec.where("training.eval_strategy"), message))
    try:
        found = [row.conversation for row in read_rows(data, data.eval_split, offline=offline) if isinstance(row, Row)]
    except NoSuchSplit as missing:
        raise ConfigError(Problem(spec.where("data.eval_split"), f"data.eval_split: {missing}")) from missing
    if not found:
        message = f"split {data.eval_split!r} holds no usable row; nothing can be evaluated"
        raise ConfigError(Problem(spec.where("data.eval_split"), message))
    return tuple(found)
