"""What a run takes of the card it trains on, beside what was planned."""

from __future__ import annotations

import torch

from vlcheck.gpus import show_gib
from vlcheck.training.record import Record


def measured_memory() -> dict[str, int]:
    """Bytes on the card: what torch allocated and reserved at most, what the driver counts now; empty without one."""
    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "allocated_bytes": torch.cuda.max_memory_allocated(),
        "reserved_bytes": torch.cuda.max_memory_reserved(),
        "driver_bytes": total - free,
    }


def compare_peak(projected: tuple[int, int] | None, record: Record) -> None:
    """Hold measured memory against the plan; by the second step the optimizer's state is there."""
    if projected is None or not torch.cuda.is_available():
        return
    measured = torch.cuda.max_memory_allocated()
    expected, upper = projected
    text = f"allocated peak {show_gib(measured)}; projected {show_gib(expected)}, at most {show_gib(upper)}"
    told = text if measured <= upper else f"warning: {text}"
    record.event("memory", told, measured=measured, projected=expected, upper=upper)
