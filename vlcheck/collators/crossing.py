"""Two rows together and each alone: does anything cross, and which tensor of the batch lets it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vlcheck.collators.batch import real_ids
from vlcheck.processing.collator import Batch
from vlcheck.processing.labels import IGNORE_INDEX

ROUNDING = 1e-5
"""Changes of a logit below this are rounding of float32 sums taken in another order."""

IMAGES, MASK, ROWS = "images", "attention_mask", "rows"
"""What may be the cause: other pictures in the row, padding that is not hidden, the rows themselves."""

Forward = Callable[[Mapping[str, torch.Tensor]], Any]


@dataclass(frozen=True)
class Crossing:
    """What two rows in one batch change in each other."""

    change: float = 0.0
    """Of an answer's logit, the largest."""
    labels: int = 0
    cause: str = ""
    """The key of the batch with which the change goes away, or `IMAGES`, `MASK`, `ROWS`."""


def crossing(together: Batch, apart: Sequence[Batch], forward: Forward, pad: int | None) -> Crossing:
    """Compare the logits of answers, then swap one tensor at a time until the difference is gone.

    Args:
        together: both rows in one batch.
        apart: each row by itself.
        forward: the tiny model.
        pad: id of the padding, for a batch without attention mask.
    """
    alone = [forward(row).logits for row in apart]
    trained = [own[row["labels"] != IGNORE_INDEX] for own, row in zip(alone, apart, strict=True)]
    wanted = torch.cat(trained)
    merged = len(together["input_ids"]) < len(apart)

    def changed(batch: Batch, rows: Sequence[Batch] = apart) -> float:
        logits = forward(batch).logits
        if merged:
            return change(logits[batch["labels"] != IGNORE_INDEX], wanted)
        return _largest(_answers(logits, batch, rows, pad), trained)

    moved = changed(together)
    if not moved:
        return Crossing(0.0, len(wanted))
    if merged:
        return Crossing(moved, len(wanted), ROWS)
    images = _images(together, apart)
    if images is not None:
        again = [forward(row).logits[row["labels"] != IGNORE_INDEX] for row in images]
        if not _largest(_answers(forward(together).logits, together, apart, pad), again):
            return Crossing(moved, len(wanted), IMAGES)
    for key, other in _repaired(together, apart, pad):
        try:
            if not changed(other):
                return Crossing(moved, len(wanted), key)
        except Exception:  # a model may need the key that is left out
            continue
    return Crossing(moved, len(wanted), ROWS)


def change(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference; infinite where the shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    largest = float((one - other).abs().max()) if one.numel() else 0.0
    return largest if largest > ROUNDING else 0.0


def _largest(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    """Largest change of any row, as far as both have logits: a row may be shorter in one of them."""
    pairs = [(one[: len(other)], other[: len(one)]) for one, other in zip(found, wanted, strict=True)]
    return max((change(one, other) for one, other in pairs), default=0.0)


def _answers(logits: torch.Tensor, batch: Batch, alone: Sequence[Batch], pad: int | None) -> list[torch.Tensor]:
    """Of each row, logits at the positions that it supervises when it is by itself."""
    real = real_ids(batch, pad)
    wanted = [row["labels"][0][real_ids(row, pad)[0]] != IGNORE_INDEX for row in alone]
    found = [logits[number][real[number]] for number in range(len(alone))]
    return [own[: len(where)][where[: len(own)]] for own, where in zip(found, wanted, strict=True)]


def _images(together: Batch, apart: Sequence[Batch]) -> list[Batch] | None:
    """Each row alone, its images those that it has in the batch; None where no image changes.

    Images of a batch lie end to end, in as many pieces as each row has when it is alone.
    """
    keys = [key for key, value in together.items() if value.is_floating_point() and all(key in row for row in apart)]
    if not any(_differs(together[key], [row[key] for row in apart]) for key in keys):
        return None
    rows = [dict(row) for row in apart]
    for key, value in together.items():
        parts = [row.get(key) for row in apart]
        if value.shape[:2] == together["input_ids"].shape or any(part is None for part in parts):
            continue
        lengths = [len(part) for part in parts if part is not None]
        if sum(lengths) != len(value):
            return None
        for row, part in zip(rows, torch.split(value, lengths), strict=True):
            row[key] = part
    return rows


def _differs(whole: torch.Tensor, parts: Sequence[torch.Tensor]) -> bool:
    if any(part.shape[1:] != whole.shape[1:] for part in parts):
        return False
    joined = torch.cat(list(parts))
    return joined.shape != whole.shape or not torch.equal(joined, whole)


def _repaired(together: Batch, apart: Sequence[Batch], pad: int | None) -> list[tuple[str, Batch]]:
    """The batch with one tensor a time as it should be: the mask from the padding, others as the rows have them."""
    shape = together["input_ids"].shape
    hidden = real_ids({"input_ids": together["input_ids"]}, pad)
    made = [(MASK, {**together, MASK: hidden.long()})]
    real = real_ids(together, pad)
    for key, value in together.items():
        if key in ("input_ids", "labels", MASK):
            continue
        if value.shape == shape and all(key in row for row in apart):
            other = torch.zeros_like(value)
            for number, row in enumerate(apart):
                own = row[key][0][real_ids(row, pad)[0]]
                if int(real[number].sum()) == len(own):
                    other[number][real[number]] = own
            made.append((key, {**together, key: other}))
        elif shape[1] in value.shape[1:]:
            made.append((key, {name: each for name, each in together.items() if name != key}))
    return made
