"""Which rows a run takes, and in which order.

Row k of a run is always the same row, however many processes train and wherever the run was resumed: epochs
follow each other without a gap, each shuffled from the seed and its own number.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import torch

from vlcheck.data.conversation import Conversation
from vlcheck.data.read import Row, RowProblem
from vlcheck.training.content import pictures_digest, row_digest
from vlcheck.training.watch import RunStopped

WINDOW = 1_000
"""Rows that a stream is shuffled within."""
Places: TypeAlias = tuple[int, ...]
"""Rows of a micro-batch, as numbers in the run's order."""
Taken: TypeAlias = tuple[list[Conversation], tuple[tuple[str, str], ...]]
"""Rows, and those beside them that are no conversation: name and reason."""


@dataclass(frozen=True)
class Order:
    """Which rows each step, micro-batch and process takes.

    Args:
        rows: of the training split.
        total: rows that the run takes in all, epochs one after the other; the last step may be smaller.
    """

    rows: int
    total: int
    micro_batch: int
    accumulation: int
    processes: int
    seed: int

    @property
    def effective_batch(self) -> int:
        """Rows of an optimizer step."""
        return self.micro_batch * self.accumulation * self.processes

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        return -(-self.total // self.effective_batch)

    def ends_epoch(self, step: int) -> bool:
        """Whether the last row of an epoch is taken in a step, counted from 1."""
        before, after = (number * self.effective_batch // self.rows for number in (step - 1, step))
        return after > before

    def whole_steps(self, every: float) -> int:
        """An interval in optimizer steps; one below 1 is a share of all steps."""
        return max(1, int(every if every >= 1 else math.ceil(every * self.steps)))

    def micro_batches(self, step: int, rank: int) -> list[Places]:
        """What a process takes in a step, counted from 0; a micro-batch may be empty at the very end."""
        first, end = step * self.effective_batch, min((step + 1) * self.effective_batch, self.total)
        found = []
        for number in range(self.accumulation):
            start = first + (number * self.processes + rank) * self.micro_batch
            found.append(tuple(range(min(start, end), min(start + self.micro_batch, end))))
        return found if self.processes > 1 else [places for places in found if places]

    def last_place(self, step: int, rank: int) -> int | None:
        """The last place that a process takes up to the end of a step, counted from 1; None if it takes none."""
        places = [places[-1] for places in self.micro_batches(step - 1, rank) if places] if step else []
        return places[-1] if places else None

    def row(self, place: int) -> int:
        """The row of the split at a place of the run's order."""
        epoch, number = divmod(place, self.rows)
        return int(_shuffled(self.seed, epoch, self.rows)[number])


@cache
def _shuffled(seed: int, epoch: int, rows: int) -> torch.Tensor:
    dice = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(rows, generator=dice)


@dataclass(frozen=True)
class Listed:
    """Rows that are all known, taken in the run's order."""

    conversations: Sequence[Conversation]
    order: Order

    def take(self, places: Places) -> Taken:
        """The rows at these places."""
        return [self.conversations[self.order.row(place)] for place in places], ()

    def digests(self, places: Places) -> Iterator[tuple[int, int]]:
        """What the image files of these rows are now, by the row's number in the split."""
        for row in map(self.order.row, places):
            if (digest := pictures_digest(self.conversations[row])) is not None:
                yield row, digest


class Streamed:
    """Rows that are read when they are needed and forgotten afterwards, shuffled within a window.

    Args:
        read: begins the split anew; called once an epoch.
        window: rows that are held to draw the next one from; none comes earlier than that allows.
    """

    def __init__(self, read: Callable[[], Iterator[Row | RowProblem]], seed: int, window: int = WINDOW) -> None:
        self._read, self._seed, self._window = read, seed, window
        self._broken: list[tuple[str, str]] = []
        self._rows = enumerate(self._drawn())
        self._chain, self._chains = b"", dict[int, str]()
        self._expected: tuple[int, str] | None = None

    def take(self, places: Places) -> Taken:
        """The rows at these places, which must lie behind all that were taken before; others are passed over.

        Raises:
            RunStopped: if the split holds no usable row, or other rows than it held before.
        """
        rows = [next(row for place, row in self._passed() if place == wanted) for wanted in places]
        broken, self._broken = tuple(self._broken), []
        return rows, broken

    def digests(self, places: Places) -> Iterator[tuple[int, int]]:
        """Nothing: `consumed` tells of every row in full."""
        return iter(())

    def consumed(self, place: int) -> tuple[int, str]:
        """A place that was taken, and a digest of all rows up to it; earlier ones cannot be asked for after."""
        if place not in self._chains and self._expected is not None:
            return self._expected  # resumed, and nothing was taken yet
        self._chains = {other: told for other, told in self._chains.items() if other >= place}
        return place, self._chains[place]

    def expect(self, place: int, digest: str) -> None:
        """Have the rows up to a place be those that `consumed` told of; `take` finds out on its way past it."""
        self._expected = (place, digest)

    def _passed(self) -> Iterator[tuple[int, Conversation]]:
        for place, row in self._rows:
            self._chain = hashlib.sha256(self._chain + row_digest(row, whole=True)).digest()
            self._chains[place] = self._chain.hex()
            if self._expected is not None and self._expected[0] == place and self._expected[1] != self._chain.hex():
                raise RunStopped(
                    f"the first {place + 1:,} rows of the stream are not those that the run was trained on: the data "
                    "has changed; choose another training.output_dir"
                )
            yield place, row

    def _drawn(self) -> Iterator[Conversation]:
        for epoch in itertools.count():
            dice, held, drawn = random.Random(f"{self._seed} {epoch}"), list[Conversation](), 0
            for row in self._usable(report=epoch == 0):
                held.append(row)
                if len(held) == self._window:
                    yield held.pop(dice.randrange(self._window))
                    drawn += 1
            dice.shuffle(held)
            yield from held
            if not drawn + len(held):
                raise RunStopped("the stream of rows holds no usable row")

    def _usable(self, *, report: bool) -> Iterator[Conversation]:
        for row in self._read():
            if isinstance(row, Row):
                yield row.conversation
            elif report:
                self._broken.append((row.name, row.message))
