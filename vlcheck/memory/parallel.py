"""Several GPUs that train a run together: what each of them holds. Of those that divide it nothing was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from vlcheck.memory.layers import SHORTEST
from vlcheck.memory.plan import LedgerLine, MemoryPlan
from vlcheck.model.build import base_of
from vlcheck.training.settings import Sharding

NCCL_BYTES = 850 * 2**20
"""What the driver counts more on each of two H100s that train together (`fixtures/measured`, torch 2.11, NVLS off)."""
MEASURED_GPUS = 2
UNCOUNTED = {
    "ZeRO-1": "reduce_bucket_size and allgather_bucket_size",
    "ZeRO-2": "reduce_bucket_size and allgather_bucket_size",
    "ZeRO-3": "reduce_bucket_size, stage3_prefetch_bucket_size and stage3_max_live_parameters",
}
"""What DeepSpeed sets memory aside by, and the plan does not know."""
WEIGHTS = ("quantised weights", "quantisation statistics", "embeddings", "experts", "other tensors", "adapters")


def spread(plan: MemoryPlan, model: nn.Module, *, gpus: int, sharding: Sharding) -> MemoryPlan:
    """The plan of one of several GPUs that train a run together, or of one that keeps a part of it in main memory.

    Weights that are divided are gathered two layers at a time: the one that runs, the next one early.
    """
    if gpus > 1:
        unsure = (f"what NCCL takes was measured on {MEASURED_GPUS} GPUs, not {gpus}",) if gpus > MEASURED_GPUS else ()
        plan = replace(plan, nccl_bytes=NCCL_BYTES, doubts=(*plan.doubts, *unsure))
    if not sharding.name or (gpus == 1 and not sharding.host_states and not sharding.host_weights):
        return plan

    def kept(cause: str) -> tuple[bool, bool]:
        """Whether a line is divided, and whether it lies on the host."""
        if cause.startswith(WEIGHTS):
            return sharding.weights, sharding.host_weights
        if cause == "optimizer state":
            return sharding.states, sharding.host_states
        return cause == "gradients" and sharding.gradients, False

    def share(cause: str, size: int) -> int:
        divided, away = kept(cause)
        return 0 if away else -(-size // gpus) if divided else size

    lines = [LedgerLine(line.cause, size) for line in plan.lines if (size := share(line.cause, line.size))]
    if sharding.weights or sharding.host_weights:
        lines.append(LedgerLine("gathered layers (sharding)", 2 * _largest_layer(model)))
    saved = plan.allocated_bytes - sum(line.size for line in lines)
    missing = f"; what {unknown} set aside is not counted" if (unknown := UNCOUNTED.get(sharding.name)) else ""
    return replace(
        plan,
        lines=tuple(sorted(lines, key=lambda line: -line.size)),
        reserved_bytes=plan.reserved_bytes - saved,
        managed_bytes=share("optimizer state", plan.managed_bytes),
        doubts=(*plan.doubts, f"{sharding.name} is projected, not measured{missing}"),
    )


def _largest_layer(model: nn.Module) -> int:
    """Bytes of the largest layer of any list of layers; of the model where there is no list."""
    lists: list[Any] = [m for m in base_of(model).modules() if isinstance(m, nn.ModuleList) and len(m) >= SHORTEST]
    layers = [layer for each in lists for layer in each] or [model]
    return max(sum(int(p.numel() * p.element_size()) for p in layer.parameters()) for layer in layers)
