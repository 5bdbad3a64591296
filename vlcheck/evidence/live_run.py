"""The objects of a running job, as evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from vlcheck.collators.recorded import RecordedBatch
from vlcheck.data.conversation import Conversation


@dataclass(frozen=True)
class LiveRun:
    """The objects of a running job."""

    model: nn.Module
    """As it is trained, with whatever is around it."""
    batches: tuple[RecordedBatch, ...] = ()
    """Of the training split."""
    evaluated: tuple[RecordedBatch, ...] = ()
    """Of the evaluation split."""
    optimizer: Any = None
    processor: Any = None
    """Tokenizer, image processor and chat template; None where only a tokenizer is known."""
    collator: str = "the run's collator"
    """What the report calls it."""
    collate: Callable[[Sequence[Conversation]], Mapping[str, Any]] | None = None
    """Makes the batch of conversations of the recorded batches; None where no row is known."""
    mode: bool | None = None
    """Whether the step that is judged computes in training mode; None where that is not known yet."""
    autocast: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext, repr=False)
    peak_bytes: int | None = None
    """Allocated on the device at the worst moment of a whole step; None before one."""
