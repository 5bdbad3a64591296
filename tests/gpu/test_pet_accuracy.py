"""The accuracy gate: a real model learns the breeds of Oxford-IIIT Pet through `train` and `evaluate`.

    VLCHECK_PET_RECIPE=gemma4-e4b-pet VLCHECK_PET_MODEL=/models/gemma-4-E4B-it VLCHECK_PET_DATA=/data/pets \\
        pytest -m gpu tests/gpu/test_pet_accuracy.py

VLCHECK_PET_MODEL is a folder with config.json, safetensors and processor. VLCHECK_PET_DATA is a folder that
`datasets` saved, or one with `train/BREED/*.jpg` and `test/BREED/*.jpg`; left out, timm/oxford-iiit-pet is loaded.
VLCHECK_PET_ROWS cuts both splits to their first rows, for a trial that the gate does not judge.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from tests.gpu.gates import gates
from vlcheck.config.load import load
from vlcheck.engine import train_run
from vlcheck.evaluation.compare import compare
from vlcheck.evaluation.run import evaluate_run

MODEL, DATA = os.environ.get("VLCHECK_PET_MODEL"), os.environ.get("VLCHECK_PET_DATA")
RECIPE, ROWS = os.environ.get("VLCHECK_PET_RECIPE", "gemma4-e4b-pet"), os.environ.get("VLCHECK_PET_ROWS")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
    pytest.mark.skipif(
        MODEL is None,
        reason="no weights: set VLCHECK_PET_MODEL to a folder with the recipe's model, VLCHECK_PET_DATA to the photos "
        "(or let the Hub be reached), and VLCHECK_PET_RECIPE to gemma4-31b-pet, gemma4-e4b-pet or gemma3-4b-pet",
    ),
]


def test_the_recipe_reaches_its_gate(tmp_path):
    """Fine-tuned against base, paired by photo, and against the gate of `fixtures/gates.toml`."""
    spec = load(Path(str(files("vlcheck") / "recipes" / f"{RECIPE}.yaml")))
    gate = gates()["pet"][spec.model.id]
    data = replace(spec.data, dataset=None, path=DATA) if DATA else spec.data
    if ROWS:
        data = replace(data, train_samples=int(ROWS), eval_samples=int(ROWS))
    spec = replace(
        spec,
        model=replace(spec.model, id=str(MODEL)),
        data=data,
        training=replace(spec.training, output_dir=str(tmp_path / "run")),
    )
    base = evaluate_run(spec, tmp_path / "base")
    train_run(spec)
    tuned = evaluate_run(spec, tmp_path / "tuned", adapter=tmp_path / "run" / "adapter")
    found = compare(tmp_path / "base", tmp_path / "tuned")
    print(
        json.dumps(
            {"test": "pet", "base": base["accuracy"], "tuned": tuned["accuracy"], "n": tuned["n"], "p": found.paired.p}
        )
    )
    if not ROWS:
        assert tuned["accuracy"] >= gate["least_accuracy"]
        assert tuned["accuracy"] - base["accuracy"] >= gate["least_gain"]
        assert found.paired.p < 0.05
