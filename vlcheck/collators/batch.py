"""What a collator returned, made fit to be looked at; what it draws at random, made the same each time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vlcheck.config.frameworks import Framework
from vlcheck.data.conversation import Conversation
from vlcheck.model.random_weights import seeded as torch_seeded
from vlcheck.processing.collator import Batch
from vlcheck.processing.labels import IGNORE_INDEX

WHOLE = ("input_ids", "labels", "attention_mask")
"""Keys that are read as whole numbers, whatever type they came in."""


@dataclass(frozen=True)
class Candidate:
    """A collator that is checked, ours or another."""

    call: Callable[[Sequence[Conversation]], Mapping[str, Any]]
    origin: str
    """One phrase for the report."""
    ours: bool = False
    default: Framework | None = None
    """The framework that judges rows so when it is told nothing; None for code, or a choice, of the user's."""
    thorough: bool = True
    """Give it rows of every shape; an audit of our own collator leaves out those whose answers are known."""

    def batch(self, conversations: Sequence[Conversation], seed: int = 0) -> Batch:
        """The batch of these conversations, whatever is drawn at random drawn from this seed.

        Raises:
            TypeError: if no batch comes back; the message says what is missing.
        """
        with seeded(seed):
            return checked(self.call(conversations))


@contextmanager
def seeded(number: int) -> Iterator[None]:
    """Draw from this seed for a while, in Python, numpy and torch; the caller's own draws go on as they were."""
    before = random.getstate(), np.random.get_state()
    random.seed(number)
    np.random.seed(number)
    try:
        with torch_seeded(number):
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def checked(batch: Any) -> Batch:
    """What a collator returned, if it is a batch: its tensors on the CPU, its other entries left out.

    Raises:
        TypeError: if it is not; the message says what is missing.
    """
    if not isinstance(batch, Mapping):
        raise TypeError(f"the collator returned {type(batch).__name__}; allowed: a mapping of tensors")
    for key in ("input_ids", "labels"):
        value = batch.get(key)
        if not isinstance(value, torch.Tensor) or value.dim() != 2:
            raise TypeError(
                f"the batch has no {key} of shape (rows, tokens){_instead(value)}; it has {', '.join(map(str, batch))}"
            )
    if batch["labels"].shape != batch["input_ids"].shape:
        shapes = f"{tuple(batch['labels'].shape)} and {tuple(batch['input_ids'].shape)}"
        raise TypeError(f"labels and input_ids differ in shape: {shapes}")
    return {
        str(key): value.detach().to("cpu") for key, value in batch.items() if isinstance(value, torch.Tensor)
    }  # fmt: skip


def readable(batch: Batch) -> Batch:
    """The batch with its ids, labels and attention mask as int64, as models take them."""
    return {key: _whole(value) if key in WHOLE else value for key, value in batch.items()}


def _whole(value: torch.Tensor) -> torch.Tensor:
    return torch.nan_to_num(value.double(), nan=IGNORE_INDEX).long() if value.is_floating_point() else value.long()


def _instead(value: Any) -> str:
    if value is None:
        return ""
    return f" ({key_type(value)} instead)"


def key_type(value: Any) -> str:
    """A value's type, and a tensor's shape."""
    return f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


def real_ids(batch: Batch, pad: int | None) -> torch.Tensor:
    """Where a batch is not padding, (B, T): its attention mask, or else ids inside the padding at either end."""
    mask = batch.get("attention_mask")
    if mask is not None and mask.shape == batch["input_ids"].shape:
        return mask.bool()
    other = batch["input_ids"] != (-1 if pad is None else pad)
    behind = other.flip(1).cumsum(1).flip(1) > 0
    return (other.cumsum(1) > 0) & behind
