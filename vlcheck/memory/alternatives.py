"""Cheaper settings of the same run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vlcheck.memory.plan import MemoryPlan
from vlcheck.training.settings import StepSettings


@dataclass(frozen=True)
class Alternative:
    """The same run with one thing changed, and its plan."""

    change: str
    plan: MemoryPlan


def changes(settings: StepSettings) -> list[tuple[str, StepSettings]]:
    """What can be changed without changing what is trained, the cheapest first, each on top of the one before.

    Returns:
        Pairs of the change as a user would write it in a config, and the settings with it.
    """
    found: list[tuple[str, StepSettings]] = []
    done: list[str] = []

    def then(change: str, **fields: Any) -> None:
        before = found[-1][1] if found else settings
        done.append(change)
        found.append((", ".join(done), replace(before, **fields)))

    if settings.eval_rows > 1:
        then("per_device_eval_batch_size: 1", eval_rows=1)
    if settings.logits == "all" and settings.own_loop:  # other trainers have no such setting
        then("logits: supervised", logits="supervised")
    if not settings.optimizer.startswith("paged"):
        then("optim: paged_adamw_8bit", optimizer="paged_adamw_8bit")
    if not settings.checkpointing:
        then("gradient_checkpointing: true", checkpointing=1)
    elif settings.checkpointing < 1:
        then("gradient_checkpointing_share: 1", checkpointing=1)
    rows = settings.rows
    effective = rows * settings.accumulation
    while rows > 1:
        rows = next(n for n in range(rows // 2, 0, -1) if effective % n == 0)
        if done and done[-1].startswith("per_device_train"):
            done.pop()
        then(f"per_device_train_batch_size: {rows} with gradient_accumulation_steps: {effective // rows}",
             rows=rows, accumulation=effective // rows)  # fmt: skip
    return found
