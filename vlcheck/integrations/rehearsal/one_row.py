"""The smallest first step: one row in place of a batch, and a loss over a few of its ids."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from vlcheck.integrations.job import Split

ROWS = 4
"""Of which one is taken."""
LABELS = 256
"""Ids that enter the loss of a miniature, the last of a row: logits over 262,144 words take 12 bytes a word and id."""
IGNORED = -100


def one_row(split: Split) -> Mapping[str, Any] | None:
    """A batch of one row, as the run's collator makes it; None where rows cannot be read by index.

    Of the first rows, the one with most parts (images), then with labels, then the shortest.
    """
    if split.collate is None or not (hasattr(split.dataset, "__getitem__") and hasattr(split.dataset, "__len__")):
        return None
    made = []
    for number in range(min(ROWS, len(split.dataset))):
        try:
            batch = split.collate([split.dataset[number]])
        except Exception:  # the user's code; what it says of the whole batch is told by the step itself
            continue
        if isinstance(batch, Mapping):
            made.append(batch)
    return min(made, key=_order, default=None)


def _order(batch: Mapping[str, Any]) -> tuple[int, bool, int]:
    labels, ids = batch.get("labels"), batch.get("input_ids")
    supervised = isinstance(labels, torch.Tensor) and bool((labels != IGNORED).any())
    return -len(batch), not supervised, ids.numel() if isinstance(ids, torch.Tensor) else 0


def few_labels(model: Any) -> None:
    """Let a model's own loss be that of the last labels, so that logits over a whole vocabulary fit on a CPU."""
    whole = model.loss_function

    @functools.wraps(whole)
    def loss(logits: Any, labels: Any = None, *given: Any, **options: Any) -> Any:
        aside = options.get("shift_labels")
        shifted = functional.pad(labels, (0, 1), value=IGNORED)[..., 1:] if aside is None else aside
        if logits.dim() != 3 or shifted.shape != logits.shape[:2]:
            return whole(logits, labels, *given, **options)
        kept = torch.nonzero(shifted != IGNORED)[-LABELS:].T
        few = {**options, "shift_labels": shifted[tuple(kept)][None]}
        return whole(logits[tuple(kept)][None], few["shift_labels"], *given, **few)

    model.loss_function = loss
