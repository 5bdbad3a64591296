"""What feeds the loop: the run's rows in their shuffled order, decoded and collated ahead of the model.

Row k of a run is always the same row, however many processes train and wherever the run was resumed: epochs
follow each other without a gap, each shuffled from the seed and its own number.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TypeAlias

import torch
from torch.utils.data import DataLoader

from vlcheck.collate import Batch, Collator, Dropped, NoRowLeft
from vlcheck.conversation import Conversation, Picture
from vlcheck.labelling import IGNORE_INDEX
from vlcheck.pictures import BadPicture, open_picture
from vlcheck.template import RowText

AHEAD = 2
"""Steps that are collated ahead of the model."""


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes; `batch` is None where every row was left out."""

    batch: Batch | None
    names: tuple[str, ...]
    images: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()
    """Rows that were left out because an image cannot be decoded, and why."""
    dropped: tuple[Dropped, ...] = ()
    """Rows that were left out because they are too long."""

    @property
    def supervised(self) -> int:
        """Labels that the loss is summed over: the first id of a row is never predicted."""
        return 0 if self.batch is None else int((self.batch["labels"][:, 1:] != IGNORE_INDEX).sum())

    @property
    def tokens(self) -> int:
        """Ids that are not padding."""
        return 0 if self.batch is None else int(self.batch["attention_mask"].sum())


Places: TypeAlias = tuple[int, ...]
"""Rows of a micro-batch, as numbers in the run's order."""


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

    def micro_batches(self, step: int, rank: int) -> list[Places]:
        """What a process takes in a step, counted from 0; a micro-batch may be empty at the very end."""
        first, end = step * self.effective_batch, min((step + 1) * self.effective_batch, self.total)
        found = []
        for number in range(self.accumulation):
            start = first + (number * self.processes + rank) * self.micro_batch
            found.append(tuple(range(min(start, end), min(start + self.micro_batch, end))))
        return found if self.processes > 1 else [places for places in found if places]

    def row(self, place: int) -> int:
        """The row of the split at a place of the run's order."""
        epoch, number = divmod(place, self.rows)
        return int(_shuffled(self.seed, epoch, self.rows)[number])


@cache
def _shuffled(seed: int, epoch: int, rows: int) -> torch.Tensor:
    dice = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(rows, generator=dice)


def feed(
    conversations: Sequence[Conversation], order: Order, collator: Collator, *, rank: int, start: int, workers: int = 0
) -> Iterator[list[MicroBatch]]:
    """Yield the micro-batches of each step from `start` on, collated ahead of time.

    Args:
        workers: processes that collate; with 0 a thread does.

    Raises:
        BadRow: at a row that cannot be trained for another reason than an unreadable image, by its name.
    """
    plan = [order.micro_batches(step, rank) for step in range(start, order.steps)]
    places = [places for step in plan for places in step]
    collate = partial(collate_rows, collator)

    def rows(places: Places) -> list[Conversation]:
        return [conversations[order.row(place)] for place in places]

    ready = _by_processes(rows, places, collate, workers) if workers else _by_thread(rows, places, collate, order)
    for step in plan:
        yield [next(ready) for _ in step]


def collate_rows(collator: Collator, rows: Sequence[Conversation]) -> MicroBatch:
    """A micro-batch of the rows that can be read; what is left out is told.

    Raises:
        BadRow: as `Collator.collate`, but not for unreadable images, nor for a batch of nothing but long rows
            where these are dropped.
    """
    texts: list[RowText] = []
    unreadable = []
    for row in rows:
        try:
            opened = {picture: Picture(open_picture(picture), str(picture)) for picture in row.pictures}
        except BadPicture as bad:
            unreadable.append((str(row), str(bad).removeprefix(f"{row}: ")))
            continue
        texts += [
            replace(text, pictures=tuple(opened[picture] for picture in text.pictures))
            for text in collator.template.rows(row)
        ]
    if not texts:
        return MicroBatch(None, (), 0, tuple(unreadable))
    try:
        collated = collator.collate_rows(texts)
    except NoRowLeft as none:
        return MicroBatch(None, (), 0, tuple(unreadable), none.dropped)
    names, images = tuple(text.name for text in collated.rows), sum(len(text.pictures) for text in collated.rows)
    return MicroBatch(collated.batch, names, images, tuple(unreadable), collated.dropped)


Rows: TypeAlias = Callable[[Places], list[Conversation]]
Collate: TypeAlias = Callable[[Sequence[Conversation]], MicroBatch]


def _by_thread(rows: Rows, places: Sequence[Places], collate: Collate, order: Order) -> Iterator[MicroBatch]:
    """Collate in one thread: a fast tokenizer's padding is state, so that two must not share it."""
    waiting: deque[Future[MicroBatch]] = deque()
    with ThreadPoolExecutor(1, "collate") as pool:
        try:
            for place in places:
                waiting.append(pool.submit(_collated, collate, rows, place))
                if len(waiting) > AHEAD * order.accumulation:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()


def _collated(collate: Collate, rows: Rows, places: Places) -> MicroBatch:
    return collate(rows(places))


def _by_processes(rows: Rows, places: Sequence[Places], collate: Collate, workers: int) -> Iterator[MicroBatch]:
    loader = DataLoader(
        _Planned(rows, places),
        batch_size=None,
        collate_fn=collate,
        num_workers=min(workers, max(1, len(places))),
        prefetch_factor=AHEAD,
        multiprocessing_context=multiprocessing.get_context("fork") if sys.platform == "linux" else None,
        generator=torch.Generator(),  # else it would draw from the generator that dropout uses
    )
    yield from loader


@dataclass(frozen=True)
class _Planned(torch.utils.data.Dataset[list[Conversation]]):
    rows: Rows
    places: Sequence[Places]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> list[Conversation]:
        return self.rows(self.places[number])
