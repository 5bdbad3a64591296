"""The first batches of a run, made by its own collator of its own rows, without moving its data loader."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from vlcheck.collators.recorded import RecordedBatch
from vlcheck.data.conversation import Conversation
from vlcheck.data.sources.held import as_conversations

Collate: TypeAlias = Callable[[list[Any]], Mapping[str, Any]]


def from_dataset(dataset: Any, collate: Collate, split: str, *, rows: int, batch: int) -> tuple[RecordedBatch, ...]:
    """Batches of the first rows of a data set and of some that are spread over it; none where it has no length.

    Args:
        split: what the rows are called in messages: `training row 7`.
        rows: how many rows are looked at.
        batch: rows of a batch.
    """
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        return ()  # a stream cannot be read and put back
    count = len(dataset)
    numbers = sorted({*range(min(count, -(-rows // 2))), *(count * place // rows for place in range(rows))})[:rows]
    return tuple(
        from_rows([dataset[number] for number in own], collate, [f"{split} row {number}" for number in own])
        for own in (numbers[start : start + batch] for start in range(0, len(numbers), batch))
    )


def from_rows(rows: Sequence[Any], collate: Collate, names: Sequence[str]) -> RecordedBatch:
    """The batch that a collator makes of rows."""
    known = [_conversation(row, name) for row, name in zip(rows, names, strict=True)]
    conversations = tuple(each for each in known if each is not None)
    try:
        made, error = collate([copy.copy(row) for row in rows]), ""
    except Exception as failure:  # it is the user's code
        made, error = None, f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"
    return RecordedBatch(made, error, tuple(rows), conversations if len(conversations) == len(rows) else ())


def from_batches(batches: Iterable[Any], collate: Collate | None, split: str) -> tuple[RecordedBatch, ...]:
    """Batches that are handed in: tensors as they are, and lists of rows collated.

    Raises:
        TypeError: if one is neither, or a list of rows comes without a collator.
    """
    made = []
    for number, batch in enumerate(batches):
        if isinstance(batch, Mapping):
            made.append(RecordedBatch(dict(batch)))
        elif isinstance(batch, list | tuple) and collate is not None:
            names = [f"{split} batch {number}, row {row}" for row in range(len(batch))]
            made.append(from_rows(batch, collate, names))
        else:
            allowed = "a mapping of tensors, or with collator= a list of rows"
            raise TypeError(f"batches[{number}] is {type(batch).__name__}; allowed: {allowed}")
    return tuple(made)


def collate_again(
    batches: Iterable[RecordedBatch], collate: Collate | None
) -> Callable[[Sequence[Conversation]], Mapping[str, Any]] | None:  # fmt: skip
    """Makes batches of conversations by collating the rows that they are; None where no row is known as one."""
    rows = {str(each): row for batch in batches for each, row in zip(batch.conversations, batch.rows, strict=False)}
    if not rows or collate is None:
        return None
    return lambda conversations: collate([copy.copy(rows[str(each)]) for each in conversations])


def _conversation(row: Any, name: str) -> Conversation | None:
    """A row as a conversation, where it holds one word for word; an image with a label leaves the question open."""
    if not isinstance(row, Mapping) or not any(isinstance(row.get(key), list) for key in ("messages", "prompt")):
        return None
    values = dict(row)
    if values.get("image") is not None and not values.get("images"):
        values["images"] = [values["image"]]
    try:
        (found,) = as_conversations([values])
    except ValueError:
        return None
    return Conversation(found.turns, name)
