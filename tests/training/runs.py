"""The recipe `tiny`, cut down to a run of seconds, and what `train` needs of it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import small_vocabulary
from vlcheck.config.load import load
from vlcheck.evidence.resolve import Evidence
from vlcheck.processing.collator import Collator
from vlcheck.spec import RunSpec
from vlcheck.training.loop import Trained, train
from vlcheck.training.rows import Rows, read_training_rows


@cache
def recipe() -> RunSpec:
    """The recipe as it ships."""
    return load(Path(str(files("vlcheck") / "recipes" / "tiny.yaml")))


def small(output: Path | str, **training: Any) -> RunSpec:
    """A run of few small steps: micro-batch 1, two of them a step, a checkpoint every second step, dropout on.

    Its model is that of `small_vocabulary`.
    """
    spec = recipe()
    settings = {
        "output_dir": str(output), "max_steps": 4, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2,
        "save_steps": 2,
    }  # fmt: skip
    return replace(
        spec,
        model=replace(spec.model, id=str(small_vocabulary())),
        training=replace(spec.training, **{**settings, **training}),
        lora=replace(spec.lora, r=2, lora_alpha=4, lora_dropout=0.1),
        data=replace(spec.data, train_samples=16),
    )


@cache
def parts(shipped: bool = False) -> dict[str, Any]:
    """Config, family and processor of the model of `small`, or of the recipe as it ships."""
    evidence = Evidence(recipe() if shipped else small("none"), {}, offline=True)
    found: dict[str, Any] = evidence.call(
        lambda config, family, processor, dialogue: {
            "config": config.values, "family": family, "processor": processor.processor, "dialogue": dialogue,
        }
    )  # fmt: skip
    return found


def collator(spec: RunSpec) -> Collator:
    """The run's collator."""
    return Collator(parts()["processor"], parts()["dialogue"], spec.data.max_length, spec.data.overflow)


def run(
    spec: RunSpec, say: Callable[[str], None] = lambda line: None, rows: Rows | None = None, **given: Any
) -> Trained:
    """Train it."""
    return train(
        spec,
        config=parts()["config"],
        family=parts()["family"],
        collator=collator(spec),
        rows=rows or read_training_rows(spec, offline=True),
        say=say,
        **given,
    )


class Cut(Exception):
    """Stands for whatever ends a run from outside."""


def interrupted(spec: RunSpec, after: int, **given: Any) -> None:
    """Train until a step is finished and on disk; what came behind it is lost, as with kill -9."""

    def say(line: str) -> None:
        if line.startswith(f"step {after + 1}/"):
            raise Cut

    with pytest.raises(Cut):
        run(spec, say, **given)
    shutil.rmtree(Path(spec.training.output_dir) / f"checkpoint-{after + 1}")


def digest(folder: Path) -> str:
    """SHA-256 of the adapter that a run left."""
    return hashlib.sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()
