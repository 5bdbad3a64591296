"""Runs on the stand-in: QLoRA through `train`, answers through `evaluate`, with one fault or none."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.gpu.standin.faults import FAULTS, Fault, spoilt
from vlcheck.evaluation.run import evaluate_run
from vlcheck.evaluation.standin import spec_of
from vlcheck.evidence.resolve import Evidence
from vlcheck.spec import RunSpec
from vlcheck.training.record import read_metrics
from vlcheck.training.run import train_resolved


@dataclass(frozen=True)
class Measured:
    """One run, trained and evaluated."""

    accuracy: float
    n: int
    correct: int
    losses: tuple[float, ...]
    norms: Mapping[str, float] = field(default_factory=dict)
    """Mean gradient norm over the steps, by part."""
    seconds: Mapping[str, float] = field(default_factory=dict)


def run(spec: RunSpec, fault: Fault = FAULTS["none"]) -> Measured:
    """Train as `vlcheck train` does, evaluate as `vlcheck evaluate` does, with one fault in it."""
    begun = time.perf_counter()
    spec = fault.spec(spec) if fault.spec else spec
    resolved = Evidence(spec, {}, offline=True).get("resolved_run")
    if fault.rows or fault.batch:
        resolved = replace(resolved, collator=spoilt(resolved.collator, fault))
    with fault.training() if fault.training else nullcontext():
        trained = train_resolved(replace(resolved, patch=fault.model), offline=True)
    stepped = time.perf_counter()
    folder = Path(spec.training.output_dir)
    if fault.saved:
        fault.saved(trained.adapter)
    with fault.asking() if fault.asking else nullcontext():
        asked = fault.asked(spec) if fault.asked else spec
        found = evaluate_run(asked, folder / "evaluation", adapter=trained.adapter)
    ended = time.perf_counter()
    return measured(folder, found, {
        "train": round(stepped - begun, 2), "steps": round(trained.seconds, 2), "evaluate": round(ended - stepped, 2)
    })  # fmt: skip


def measured(folder: Path, found: Mapping[str, Any], seconds: Mapping[str, float]) -> Measured:
    """What a run's folder and its evaluation say."""
    steps = list(read_metrics(folder))
    late = steps[len(steps) // 4 :]
    parts = sorted({part for step in steps for part in step["grad_norm"]})
    mean = {part: sum(step["grad_norm"].get(part, 0.0) for step in late) / len(late) for part in parts}
    spread = [steps[place]["loss"] for place in range(0, len(steps), max(1, len(steps) // 40))]
    waits = {
        key: sum(step[key] for step in late) / len(late) for key in ("seconds", "wait_seconds", "snapshot_seconds")
    }
    return Measured(
        found["accuracy"], found["n"], found["correct"], tuple(round(loss, 4) for loss in [*spread, steps[-1]["loss"]]),
        {part: float(f"{norm:.4g}") for part, norm in mean.items()},
        {**seconds, **{f"step_{key}": round(value, 4) for key, value in waits.items()}},
    )  # fmt: skip


def base_accuracy(base: Path, photos: Path, folder: Path) -> dict[str, Any]:
    """What the base answers before it is tuned."""
    found = evaluate_run(spec_of(base, photos, folder, seed=0, steps=1), folder / "evaluation")
    return {key: found[key] for key in ("accuracy", "n", "correct")}
