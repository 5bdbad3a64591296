"""Rows that come back in another order than they were given in, sorted by length say: which conversation each holds."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch

from vlcheck.collators.batch import real_ids
from vlcheck.collators.regions import TokenMap
from vlcheck.data.conversation import Conversation
from vlcheck.processing.collator import Batch, Collator


def order_of(
    batch: Batch, conversations: Sequence[Conversation], wanted: Batch, collator: Collator, token_map: TokenMap
) -> tuple[int, ...] | None:
    """The conversation that each row holds; None where all rows are in their places, or cannot be told apart so.

    Words alone do not tell sorted rows from answers that went to other rows of alike questions: the images have to
    have moved along.

    Args:
        batch: what the collator made of the conversations.
        conversations: in the order in which they were given.
        wanted: what the processor makes of them.
        collator: ours, over the same processor.
        token_map: from `map_tokens`.
    """
    count = len(conversations)
    if count < 2 or not count == len(batch["input_ids"]) == len(wanted.get("input_ids", ())):
        return None
    order = _by_words(_texts(batch, token_map), _texts(wanted, token_map))
    if order is None:
        return None
    moved = collator.tensors([row for number in order for row in collator.template.rows(conversations[number])])
    along = _distance(batch, moved)
    return order if along < inf and along <= _distance(batch, wanted) else None


def matched(batch: Batch, alone: list[Batch], token_map: TokenMap) -> list[Batch]:
    """Batches of one row each, in the order in which a batch of all of them has their words.

    As in `order_of`, images that have not moved along leave the rows where they are: their answers went elsewhere.
    """
    meant = [text for row in alone for text in _texts(row, token_map)]
    order = _by_words(_texts(batch, token_map), meant) if len(meant) == len(alone) else None
    moved = [alone[number] for number in order or ()]
    return moved if moved and _distance(batch, _joined(moved)) <= _distance(batch, _joined(alone)) else alone


def _joined(rows: Sequence[Batch]) -> Batch:
    """The images of batches of one row each, end to end as one batch has them."""
    keys = [key for key, value in rows[0].items() if value.is_floating_point() and all(key in row for row in rows)]
    parts = {key: [row[key] for row in rows] for key in keys}
    return {key: torch.cat(own) for key, own in parts.items() if len({part.shape[1:] for part in own}) == 1}


def _by_words(said: Sequence[str], meant: Sequence[str]) -> tuple[int, ...] | None:
    if said == meant or sorted(said) != sorted(meant):
        return None
    left, order = list(range(len(meant))), []
    for text in said:
        order.append(next(number for number in left if meant[number] == text))
        left.remove(order[-1])
    return tuple(order)


def _texts(batch: Batch, token_map: TokenMap) -> list[str]:
    """What each row says, its images and the white space around it aside."""
    real = real_ids(batch, token_map.tokenizer.pad_token_id)
    rows = (ids[own].tolist() for ids, own in zip(batch["input_ids"], real, strict=True))
    return [token_map.text_of([number for number in row if number not in token_map.image_ids]).strip() for row in rows]


def _distance(batch: Batch, other: Batch) -> float:
    """Sum of the mean differences of pixels; infinite where there are not as many."""
    pixels = [key for key, value in other.items() if value.is_floating_point()]
    if any(key not in batch or batch[key].shape != other[key].shape for key in pixels):
        return inf
    return sum(float((batch[key].float() - other[key].float()).abs().mean()) for key in pixels)
