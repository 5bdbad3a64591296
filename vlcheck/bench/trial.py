"""Run a collator's batches through a tiny model of the same structure: what do its keys and ids do there?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Trial:
    """What a tiny model made of a collator's batches; a part that could not be run is None."""

    problem: str = ""
    """Why nothing, or not all, could be run."""
    mismatch: str = ""
    """The model's own complaint that ids and images do not fit together."""
    swapped: float | None = None
    """Largest change of a logit with another picture in the row."""
    logits: int = 0
    leaked: float | None = None
    """Largest change of a logit before an answer's id that was changed."""
    earlier: int = 0
    without: Mapping[str, str] = field(default_factory=dict)
    """What leaving out each key of the processor's does, in words."""
    accumulated: tuple[float, float] | None = None
    """Loss of two rows in one batch, and accumulated one by one as transformers' Trainer does it."""
    packed: float | None = None
    """Largest change of an answer's logits, packed and apart."""
    packed_labels: int = 0
