"""How long a job runs: steps, evaluations, loading and saving, each as the least, the likely and the most.

A step of few rows takes as long as the host needs to launch its kernels, whatever the card; one of many rows takes what
its products take. `fixtures/measured` has 70 runs on an H100: 68 lie within `BAND` of the larger of the two, all 32 of
the families that no constant was fitted on among them. The other two are micro-batches of Qwen2.5-VL, whose vision
tower launches its windows of attention one by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vlcheck.gpus import Gpu

LAUNCH_SECONDS = 1.75e-3
"""Of a micro-batch, for each LoRA matrix, with checkpointing: the kernels of its layer, of the quantised base, twice
forward and once backward."""
WITHOUT_RECOMPUTING = 0.6
"""Share of that without checkpointing."""
FORWARD = 1 / 3
"""Share of it that one forward pass takes."""
RECOMPUTED = 1.5
"""FLOPs with checkpointing for each FLOP without."""
UTILISATION = 0.2
"""Share of the card's dense 16-bit rate that large micro-batches reach, recomputed layers included."""
BAND = 1.6
"""Factor by which a projected step may be off, either way, on a card that was measured."""
UNMEASURED_BAND = 2.5
"""The same on any other card: its host and its kernels were not seen."""
EARLIER_BAND = 1.15
"""The same for steps of an earlier run on the same card."""
DISK_RATE = (0.3e9, 0.7e9, 2e9)
"""Bytes a second that a disk takes; 3.2 GB took 4.0 to 4.6 s on an H100's machine (2026-11-24-h100-train-31b.json)."""
BUCKET_RATE = (0.05e9, 0.2e9, 1e9)
"""Bytes a second to and from object storage, or over the network: assumed, not measured."""


@dataclass(frozen=True)
class Span:
    """Seconds: the least, the likely, the most."""

    low: float = 0.0
    likely: float = 0.0
    high: float = 0.0

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def __mul__(self, count: float) -> Span:
        return Span(self.low * count, self.likely * count, self.high * count)

    def __str__(self) -> str:
        low, high = show_time(self.low), show_time(self.high)
        return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class StepWork:
    """What one micro-batch of a run asks of its card."""

    adapters: int
    """LoRA matrices that train."""
    flops: float
    """Of forward and backward, without recomputed layers."""
    checkpointing: float
    rows: int = 1
    """Rows of a micro-batch."""


@dataclass(frozen=True, kw_only=True)
class Duration:
    """One uninterrupted attempt, by part."""

    parts: Mapping[str, Span]
    step: Span
    """Of an optimizer step."""
    steps: int
    basis: str
    """Where the step's time is from, and how far it may be off."""
    left_out: tuple[str, ...] = ()
    """What is not counted, a phrase each: the run takes longer than `total.high` with it."""

    @property
    def total(self) -> Span:
        """All parts together."""
        return sum(self.parts.values(), Span())


def micro_batch(work: StepWork, gpu: Gpu) -> Span:
    """Seconds of a micro-batch, forward and backward.

    Args:
        gpu: a card without a known rate is taken to be bound by its launches.
    """
    launching = LAUNCH_SECONDS * work.adapters * (WITHOUT_RECOMPUTING + work.checkpointing * (1 - WITHOUT_RECOMPUTING))
    flops = work.flops * (1 + work.checkpointing * (RECOMPUTED - 1))
    rate = UTILISATION * gpu.teraflops * 1e12
    likely = max(launching, flops / rate if rate else 0.0)
    return banded(likely, BAND if gpu.measured else UNMEASURED_BAND)


def banded(seconds: float, factor: float) -> Span:
    """A time that may be off by a factor, either way."""
    return Span(seconds / factor, seconds, seconds * factor)


def moved(size: int, rate: tuple[float, float, float]) -> Span:
    """Seconds that bytes take at the least, the likely and the highest rate."""
    slow, usual, fast = rate
    return Span(size / fast, size / usual, size / slow)


def steps_of(rows: int, *, batch: int, epochs: float) -> int:
    """Optimizer steps of a run, as transformers' Trainer counts them: each epoch's last batch may be a part of one.

    Args:
        batch: rows of an optimizer step, over all cards.
    """
    return max(1, math.ceil(math.ceil(rows / batch) * epochs))


def show_time(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{round(seconds / 3600, 1):g} h"
