"""What feeds the loop: the run's rows in their order, decoded and collated ahead of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from vlcheck.data.conversation import Conversation, Picture
from vlcheck.data.images import BadPicture, open_picture
from vlcheck.processing.chat_template import RowText
from vlcheck.processing.collator import Batch, Collator, Dropped, NoRowLeft
from vlcheck.processing.labels import IGNORE_INDEX
from vlcheck.training.order import Listed, Order, Places, Streamed
from vlcheck.training.watch import RunStopped
from vlcheck.training.workers import collate_there, collating_processes

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
    digests: tuple[tuple[int, int], ...] = ()
    """Rows of the split by number, and what their image files were, see `Pictures`."""

    @property
    def supervised(self) -> int:
        """Labels that the loss is summed over: the first id of a row is never predicted."""
        return 0 if self.batch is None else int((self.batch["labels"][:, 1:] != IGNORE_INDEX).sum())

    @property
    def tokens(self) -> int:
        """Ids that are not padding."""
        return 0 if self.batch is None else int(self.batch["attention_mask"].sum())


def feed(
    source: Listed | Streamed, order: Order, collator: Collator, *, rank: int, start: int, workers: int = 0
) -> Iterator[list[MicroBatch]]:
    """Yield the micro-batches of each step from `start` on, collated ahead of time.

    Args:
        workers: processes that collate; with 0 a thread does.

    Raises:
        BadRow: at a row that cannot be trained for another reason than an unreadable image, by its name.
        RunStopped: if a process that collates was killed.
    """
    plan = [order.micro_batches(step, rank) for step in range(start, order.steps)]
    places = [places for step in plan for places in step]
    collate = partial(_taken, source, collator)
    if workers:
        ahead = AHEAD * min(workers, len(places) or 1)
        ready = _ahead(collating_processes(workers, collate), collate_there, places, ahead)
    else:  # one thread: a fast tokenizer's padding is state, so that two must not share it
        ready = _ahead(ThreadPoolExecutor(1, "collate"), collate, places, AHEAD * order.accumulation)
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
            replace(text, pictures=tuple(opened[picture] for picture in text.pictures)) for text in collator.rows(row)
        ]
    if not texts:
        return MicroBatch(None, (), 0, tuple(unreadable))
    try:
        collated = collator.collate_rows(texts)
    except NoRowLeft as none:
        return MicroBatch(None, (), 0, tuple(unreadable), none.dropped)
    names, images = tuple(text.name for text in collated.rows), sum(len(text.pictures) for text in collated.rows)
    return MicroBatch(collated.batch, names, images, tuple(unreadable), collated.dropped)


Collate: TypeAlias = Callable[[Places], MicroBatch]


def _taken(source: Listed | Streamed, collator: Collator, places: Places) -> MicroBatch:
    rows, broken = source.take(places)
    made = collate_rows(collator, rows)
    return replace(made, unreadable=(*broken, *made.unreadable), digests=tuple(source.digests(places)))


def _ahead(pool: Executor, collate: Collate, places: Sequence[Places], ahead: int) -> Iterator[MicroBatch]:
    """Collate in order, so many micro-batches ahead."""
    waiting: deque[Future[MicroBatch]] = deque()
    try:
        for place in places:
            waiting.append(pool.submit(collate, place))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as broken:
        raise RunStopped(
            "a process that collates rows was killed, most often because the machine ran out of memory; "
            "training.dataloader_num_workers takes fewer of them, and the same command goes on from the last step"
        ) from broken
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
