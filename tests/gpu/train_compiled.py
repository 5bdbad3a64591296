"""Train the tiny recipe as QLoRA on this GPU: `python -m tests.gpu.train_compiled FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from tests.gpu.test_tiny import nf4
from vlcheck.evidence.resolve import Evidence
from vlcheck.spec import RunSpec
from vlcheck.training.compiled import EARNS
from vlcheck.training.run import train_resolved

STEPS, EVERY = EARNS // 2, EARNS // 4


def run_of(folder: Path) -> RunSpec:
    """Two micro-batches of two rows a step, as many as earn the compiler's time; one evaluation on the way."""
    spec = nf4(folder)
    training = replace(
        spec.training, output_dir=str(folder), torch_compile=True, max_steps=STEPS, save_steps=EVERY,
        per_device_train_batch_size=2, gradient_accumulation_steps=2, eval_strategy="steps", eval_steps=STEPS // 2 - 5,
    )  # fmt: skip
    return replace(spec, training=training, lora=replace(spec.lora, lora_dropout=0.05))


def main() -> None:
    """Train, or take the run up, with deterministic kernels."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    spec = run_of(Path(sys.argv[1]))
    train_resolved(Evidence(spec, {}, offline=True).get("resolved_run"), say=tell)


def tell(line: str) -> None:
    """At once, or a killed process has said nothing."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
