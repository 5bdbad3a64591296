"""Runs on the stand-in: photos of invented breeds in files, QLoRA through `train`, answers through `evaluate`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.gpu.standin.animals import breeds, photo, scenes
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
        "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 0.05, "bf16": on_card,
        "optim": "adamw_torch_fused", "save_strategy": "no", "logging_steps": 100,
    }  # fmt: skip
    rank = settings.pop("rank", 16)
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


def run(spec: RunSpec, say: Callable[[str], None] = lambda line: None) -> Measured:
    """Train as `vlcheck train` does, evaluate as `vlcheck evaluate` does."""
    begun = time.perf_counter()
    resolved = Evidence(spec, {}, offline=True).get("resolved_run")
    trained = train_resolved(resolved, offline=True, say=say)
    stepped = time.perf_counter()
    folder = Path(spec.training.output_dir)
    found = evaluate_run(spec, folder / "evaluation", adapter=trained.adapter)
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


def tune(base: Path, photos: Path, output: Path, line: dict[str, Any], out: Path) -> None:
    """One run of these settings as a line of `out`, which is appended to; without steps, the base alone."""
    settings = {key: value for key, value in line.items() if key != "name"}
    spec = spec_of(base, photos, output, seed=settings.pop("seed"), steps=settings.pop("steps") or 1, **settings)
    found = vars(run(spec)) if line["steps"] else {"accuracy": evaluate_run(spec, output / "base")["accuracy"]}
    with out.open("a") as file:
        file.write(json.dumps({"kind": "tune", **line, **found}) + "\n")
