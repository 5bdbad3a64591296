"""Train the 31B recipe with random weights on this machine's GPU: `python -m tests.gpu.train_31b FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from vlcheck.config.load import load
from vlcheck.evidence.card import projected_here
from vlcheck.evidence.resolve import Evidence
from vlcheck.spec import Data, RunSpec
from vlcheck.training.run import train_resolved

STEPS, EVERY = 20, 10
RECIPE = Path(__file__).parents[2] / "vlcheck" / "recipes" / "gemma4-31b-pet.yaml"


def run_of(folder: Path) -> RunSpec:
    """The recipe with random weights, drawn pictures, and two micro-batches a step."""
    spec = load(RECIPE)
    return replace(
        spec,
        model=replace(spec.model, weights="random"),
        data=Data(generated="shapes", instruction=spec.data.instruction, max_soft_tokens=spec.data.max_soft_tokens),
        training=replace(
            spec.training, output_dir=str(folder), max_steps=STEPS, save_steps=EVERY, gradient_accumulation_steps=2
        ),
    )


def main() -> None:
    """Train, or take the run up, with deterministic kernels.

    A deep model with random weights is chaotic: with ordinary kernels two equal runs part at the third step.
    """
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    spec = run_of(Path(sys.argv[1]))

    found = Evidence(spec, {}, offline=True).get("resolved_run")
    train_resolved(found, projected=projected_here(found), say=tell)


def tell(line: str) -> None:
    """At once, or a killed process has said nothing."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
