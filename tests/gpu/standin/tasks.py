"""Runs on the stand-in: photos of invented breeds in files, QLoRA through `train`, answers through `evaluate`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.gpu.standin.animals import breeds, photo, scenes
from tests.gpu.standin.faults import FAULTS, Fault, spoilt
from vlcheck.evaluation.run import evaluate_run
from vlcheck.evidence.resolve import Evidence
from vlcheck.spec import Data, Intent, Lora, ModelRef, Quantization, RunSpec, Training
from vlcheck.training.record import read_metrics
from vlcheck.training.run import train_resolved

INSTRUCTION = "Which breed is the animal in this picture? Answer with its name only."
SIDES = (72, 150)
"""Shortest and longest of the shorter sides of photos, in pixels."""


@dataclass(frozen=True)
class Task:
    """Which breeds a run learns, from how many photos each."""

    breeds: int = 37
    train: int = 40
    test: int = 10
    seed: int = 5
    """Of the photos; the breeds are always the same."""

    @property
    def names(self) -> dict[str, tuple[int, ...]]:
        """The breeds by name."""
        return dict(list(breeds().items())[: self.breeds])


def write_photos(task: Task, folder: Path, processes: int | None = None) -> Path:
    """The photos of a task as a folder that a run can name; nothing is drawn twice.

    Returns:
        The folder, which holds `train` and `test`, a folder a breed in each.
    """
    if not (folder / "whole").exists():
        jobs = [(split, name, kind, task) for split in ("train", "test") for name, kind in task.names.items()]
        workers = processes or os.cpu_count() or 1
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            list(pool.map(partial(_write_breed, folder), jobs))
        (folder / "whole").touch()
    return folder


def _write_breed(folder: Path, job: tuple[str, str, tuple[int, ...], Task]) -> None:
    split, name, kind, task = job
    torch.set_num_threads(1)
    count, place = getattr(task, split), list(task.names).index(name)
    generator = torch.Generator().manual_seed(task.seed * 10_000 + 100 * place + (split == "test"))
    drawn = scenes(torch.tensor([kind] * count), generator)
    sides = torch.randint(*SIDES, (count,), generator=generator).tolist()
    own = folder / split / name
    own.mkdir(parents=True, exist_ok=True)
    for number, (scene, side) in enumerate(zip(drawn, sides, strict=True)):
        Image.fromarray(photo(scene, side).numpy()).save(own / f"{number:03}.png", compress_level=1)


def spec_of(base: Path, photos: Path, output: Path, *, seed: int, steps: int, **settings: Any) -> RunSpec:
    """QLoRA of everything, as the recipes for real Gemma 4 have it; other `training` fields by name.

    On a CPU the base stays fp32, since bf16 costs more there than it saves.
    """
    on_card = torch.cuda.is_available()
    given: dict[str, Any] = {
        "per_device_train_batch_size": 32, "per_device_eval_batch_size": 185, "gradient_accumulation_steps": 1,
        "learning_rate": 2e-3, "lr_scheduler_type": "cosine", "warmup_steps": 0.05, "bf16": on_card,
        "optim": "adamw_torch_fused", "save_strategy": "no", "logging_steps": 100,
    }  # fmt: skip
    rank = settings.pop("rank", 32)
    return RunSpec(
        model=ModelRef(id=str(base), dtype="bfloat16" if on_card else "float32"),
        lora=Lora(r=rank, lora_alpha=2 * rank, target_modules="all-linear"),
        quantization=Quantization(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype="bfloat16" if on_card else "float32",
        ),
        data=Data(path=str(photos), eval_split="test", instruction=INSTRUCTION, max_soft_tokens=70),
        training=Training(
            framework="vlcheck", output_dir=str(output), max_steps=steps, seed=seed, **{**given, **settings}
        ),
        intent=Intent(vision="train", projector="train", language="train"),
    )  # fmt: skip


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
