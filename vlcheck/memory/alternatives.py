"""Cheaper settings of the same run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vlcheck.memory.plan import MemoryPlan
from vlcheck.spec import RunSpec


@dataclass(frozen=True)
class Alternative:
    """The same run with one thing changed, and its plan."""

    change: str
    plan: MemoryPlan


def changes(spec: RunSpec) -> list[tuple[str, RunSpec]]:
    """What can be changed without changing what is trained, the cheapest first, each on top of the one before."""
    found: list[tuple[str, RunSpec]] = []
    done: list[str] = []

    def then(change: str, **fields: Any) -> None:
        before = found[-1][1] if found else spec
        done.append(change)
        found.append((", ".join(done), with_training(before, **fields)))

    if spec.training.logits == "all":
        then("logits: supervised", logits="supervised")
    if not spec.training.optim.startswith("paged"):
        then("optim: paged_adamw_8bit", optim="paged_adamw_8bit")
    if not spec.training.gradient_checkpointing:
        then("gradient_checkpointing: true", gradient_checkpointing=True)
    rows, steps = spec.training.per_device_train_batch_size, spec.training.gradient_accumulation_steps
    effective = rows * steps
    while rows > 1:
        rows = next(n for n in range(rows // 2, 0, -1) if effective % n == 0)
        if done and done[-1].startswith("per_device"):
            done.pop()
        then(f"per_device_train_batch_size: {rows} with gradient_accumulation_steps: {effective // rows}",
             per_device_train_batch_size=rows, gradient_accumulation_steps=effective // rows)  # fmt: skip
    return found


def with_training(spec: RunSpec, **fields: Any) -> RunSpec:
    """The run with other training settings."""
    return replace(spec, training=replace(spec.training, **fields))
