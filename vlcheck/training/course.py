"""What a run's evaluations have shown up to now: part of its state, so that a resumed run goes on as it would have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from vlcheck.spec import Training
from vlcheck.training.checkpoint import Checkpoint
from vlcheck.training.snapshot import StateMismatch

BEST = "best_adapter_model.safetensors"


def metric_of(training: Training) -> str:
    """What the best evaluation is told by."""
    return training.metric_for_best_model or "eval_loss"


def better(metric: str, value: float, than: float) -> bool:
    """Whether a value of a metric is a number, and better than another or the first one (NaN)."""
    return math.isfinite(value) and not (value <= than if metric == "accuracy" else value >= than)


@dataclass
class Course:
    """The newest and the best evaluation of a run."""

    training: Training
    step: int = 0
    """Of the newest evaluation; 0 before the first."""
    best_step: int = 0
    best: float = math.nan
    worse: int = 0
    """Evaluations since the best."""
    adapter: dict[str, torch.Tensor] = field(default_factory=dict)
    """The best one's, in host memory, where it will be published; never written over."""

    def note(self, step: int, value: float, live: Mapping[str, torch.Tensor]) -> bool:
        """Take an evaluation in; returns whether it is the best up to now."""
        self.step = step
        if not better(metric_of(self.training), value, self.best):
            self.worse += 1
            return False
        self.best_step, self.best, self.worse = step, value, 0
        if self.training.load_best_model_at_end:
            self.adapter = {name: tensor.detach().to("cpu", copy=True) for name, tensor in live.items()}
        return True

    @property
    def over(self) -> bool:
        """Whether the run has waited long enough for a better evaluation."""
        patience = self.training.early_stopping_patience
        return patience is not None and self.worse >= patience

    def told(self) -> dict[str, Any]:
        """As JSON values, for a checkpoint."""
        best = self.best if self.best_step else None
        return {"step": self.step, "best_step": self.best_step, "best": best, "worse": self.worse}

    def files(self) -> dict[str, dict[str, torch.Tensor]]:
        """The best adapter, for a checkpoint; none before there is one."""
        return {BEST: self.adapter} if self.adapter else {}

    def take_up(self, kept: Mapping[str, Any], checkpoint: Checkpoint) -> None:
        """Go on from what a checkpoint holds.

        Raises:
            StateMismatch: if that is no course of a run.
        """
        told = kept.get("evaluation")
        if told is None:
            return
        try:
            self.step, self.best_step, self.worse = (int(told[name]) for name in ("step", "best_step", "worse"))
            self.best = math.nan if told["best"] is None else float(told["best"])
            if self.training.load_best_model_at_end and self.best_step:
                self.adapter = checkpoint.tensors(BEST)
        except (LookupError, TypeError, ValueError, OSError) as odd:
            raise StateMismatch(f"{checkpoint.folder} is no state of a run: {type(odd).__name__}: {odd}") from odd
