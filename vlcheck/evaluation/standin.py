"""The stand-in for models whose weights are not at hand: a small Gemma 4 that sees, and photos of invented breeds.

Its base lies in `fixtures/standin` of a checkout; a wheel has no use for ten megabytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vlcheck.data.drawn_animals import breeds, photo, scenes
from vlcheck.finding import Unavailable
from vlcheck.spec import Data, Intent, Lora, ModelRef, Quantization, RunSpec, Training

INSTRUCTION = "Which breed is the animal in this picture? Answer with its name only."
SIDES = (72, 150)
"""Shortest and longest of the shorter sides of photos, in pixels."""
POOLED = 400
"""Photos from which on several processes draw them: a process takes two seconds before it draws the first."""
BATCH, SMALL_BATCH = 32, 8
"""Photos of a step: of all of them, and where fewer are asked for."""


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

    @property
    def photos(self) -> int:
        """Photos that are trained on."""
        return self.breeds * self.train


@dataclass(frozen=True)
class Base:
    """The pre-trained model of a stand-in, and how runs on it are trained."""

    folder: Path
    sha256: str
    """Of its weights."""
    steps: int
    """Of a run over all photos."""
    learning_rate: float
    parameters: int


def read_base(folder: Path) -> Base:
    """A stand-in's base.

    Raises:
        Unavailable: if the folder holds none.
    """
    try:
        settings = json.loads((folder / "settings.json").read_text("utf-8"))
        known = json.loads((folder / "base.json").read_text("utf-8"))
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        return Base(
            folder, digest, int(settings["steps"]), float(settings["learning_rate"]),
            int(known["log"][-1]["parameters"]),
        )  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Unavailable(
            f"{folder} holds no stand-in: {error}", "name fixtures/standin of a checkout of vlcheck"
        ) from error


def task_for(samples: int | None) -> Task:
    """All photos, or about so many: fewer breeds before fewer photos of each, since few photos teach no breed."""
    whole = Task()
    if samples is None or samples >= whole.photos:
        return whole
    kinds = min(whole.breeds, max(2, samples // 24))
    each = math.ceil(samples / kinds)
    return Task(kinds, min(each, whole.train), min(each, whole.test))


def taught(base: Base, task: Task) -> dict[str, int]:
    """Steps and photos of a step: each photo is seen as often as in a run over all of them."""
    whole = Task()
    batch = BATCH if task.photos >= whole.photos else min(SMALL_BATCH, task.photos)
    seen = base.steps * BATCH / whole.photos
    return {"steps": math.ceil(seen * task.photos / batch), "per_device_train_batch_size": batch}


def write_photos(task: Task, folder: Path, processes: int | None = None) -> Path:
    """The photos of a task as a folder that a run can name; nothing is drawn twice.

    Returns:
        The folder, which holds `train` and `test`, a folder a breed in each.
    """
    if not (folder / "whole").exists():
        jobs = [(split, name, kind, task) for split in ("train", "test") for name, kind in task.names.items()]
        workers = processes or os.cpu_count() or 1
        if workers == 1 or task.photos < POOLED:
            for job in jobs:
                _write_breed(folder, job)
        else:
            with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
                list(pool.map(partial(_write_breed, folder), jobs))
        (folder / "whole").touch()
    return folder


def _one_thread() -> None:
    torch.set_num_threads(1)


def _write_breed(folder: Path, job: tuple[str, str, tuple[int, ...], Task]) -> None:
    split, name, kind, task = job
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
        "per_device_train_batch_size": BATCH, "per_device_eval_batch_size": 185, "gradient_accumulation_steps": 1,
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
