"""Several GPUs that divide a run among themselves: what each of them holds. Nothing here was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from vlcheck.memory.layers import SHORTEST
from vlcheck.memory.plan import LedgerLine, MemoryPlan
from vlcheck.model.build import base_of

WEIGHTS = ("quantised weights", "quantisation statistics", "embeddings", "experts", "other tensors", "adapters")
STATES = ("gradients", "optimizer state")


def spread(plan: MemoryPlan, model: nn.Module, *, gpus: int) -> MemoryPlan:
    """The plan of one of several GPUs.

    FSDP and ZeRO-3 divide weights, gradients and optimizer state among the GPUs, and gather two layers at a time: the
    one that runs, the next one early.
    """
    lines = [
        LedgerLine(line.cause, -(-line.size // gpus))
        if line.cause.startswith(WEIGHTS) or line.cause in STATES
        else line
        for line in plan.lines
    ]
    lines.append(LedgerLine("gathered layers (sharding)", 2 * _largest_layer(model)))
    saved = plan.allocated_bytes - sum(line.size for line in lines)
    return replace(
        plan,
        lines=tuple(lines),
        reserved_bytes=plan.reserved_bytes - saved,
        managed_bytes=-(-plan.managed_bytes // gpus),
        doubts=(*plan.doubts, "sharding is projected, not measured"),
    )


def _largest_layer(model: nn.Module) -> int:
    """Bytes of the largest layer of any list of layers; of the model where there is no list."""
    lists: list[Any] = [m for m in base_of(model).modules() if isinstance(m, nn.ModuleList) and len(m) >= SHORTEST]
    layers = [layer for each in lists for layer in each] or [model]
    return max(sum(int(p.numel() * p.element_size()) for p in layer.parameters()) for layer in layers)
