"""The accuracy gates on real weights: the article's four systems, and the smaller recipes, on Oxford-IIIT Pet.

    VLCHECK_PET_WEIGHTS=/models VLCHECK_PET_DATA=/data/pets pytest -m "gpu and slow" -k Article --require-gate \\
        tests/gpu/test_pet_accuracy.py
    VLCHECK_PET_RECIPE=gemma4-e4b-pet VLCHECK_PET_MODEL=/models/gemma-4-E4B-it VLCHECK_PET_DATA=/data/pets \\
        pytest -m "gpu and slow" -k recipe tests/gpu/test_pet_accuracy.py

VLCHECK_PET_WEIGHTS is a folder that holds gemma-3-27b-it and gemma-4-31B-it; left out, the Hugging Face cache is looked
into. VLCHECK_PET_MODEL is a folder with config.json, safetensors and processor. VLCHECK_PET_DATA is a folder that
`datasets` saved, or one with `train/BREED/*.jpg` and `test/BREED/*.jpg`; left out, timm/oxford-iiit-pet is loaded.
VLCHECK_PET_OUTPUT keeps the runs of the systems, and the same command goes on from there.
VLCHECK_PET_ROWS cuts both splits, for a trial that no gate judges. `--require-gate` fails what cannot be run.
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
from vlcheck.evaluation.article import PROMPTS, SYSTEMS
from vlcheck.evaluation.compare import compare
from vlcheck.evaluation.reproduction import Reproduction, Weights
from vlcheck.evaluation.run import evaluate_run

MODEL, DATA = os.environ.get("VLCHECK_PET_MODEL"), os.environ.get("VLCHECK_PET_DATA")
RECIPE, ROWS = os.environ.get("VLCHECK_PET_RECIPE", "gemma4-e4b-pet"), os.environ.get("VLCHECK_PET_ROWS")
TEST, STEPS = 3_669, 690
"""Photos of the evaluation, and steps of three epochs over 3,680 photos in batches of 16."""
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.gate,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]


class TestArticle:
    """Its four systems, with its prompt of 37 names and with ours, by its score and by exact match."""

    @pytest.fixture(scope="class")
    def runs(self, tmp_path_factory):
        folder = Path(os.environ.get("VLCHECK_PET_OUTPUT") or tmp_path_factory.mktemp("article"))
        weights = os.environ.get("VLCHECK_PET_WEIGHTS")
        source = Weights(Path(weights) if weights else None, Path(DATA) if DATA else None)
        return Reproduction(source, folder, int(ROWS) if ROWS else None)

    @pytest.mark.parametrize("prompt", PROMPTS)
    @pytest.mark.parametrize("name", SYSTEMS)
    def test_a_system_reaches_its_gate(self, runs, name, prompt, record_property):
        line = runs.run(name, prompt)
        print(json.dumps({"test": "article", **line}))
        if "not_run" in line:
            pytest.skip(f"{line['not_run']}; or VLCHECK_PET_WEIGHTS, VLCHECK_PET_DATA: see {Path(__file__).name}")
        assert "stopped" not in line
        for score in ("exact", "lenient"):
            record_property(score, line[score])
        if not ROWS:
            assert line["exact"]["n"] == TEST
            assert not SYSTEMS[name].tuned or line["training"]["steps"] == STEPS
            gate = gates()["article"][name]
            if prompt in gate["prompts"]:
                assert line[gate["score"]]["accuracy"] >= gate["least_accuracy"]

    @pytest.mark.parametrize("prompt", PROMPTS)
    def test_tuning_beats_the_base(self, runs, prompt):
        folders = [runs.place(name, prompt) / "evaluation" for name in ("gemma4-baseline", "qlora-all-linear")]
        if not all((folder / "evaluation.json").exists() for folder in folders):
            pytest.skip("one of the two has not run")
        found = compare(*folders)
        assert found.paired.difference > 0
        assert ROWS or found.paired.p < 0.05


@pytest.mark.skipif(
    MODEL is None,
    reason="no weights: set VLCHECK_PET_MODEL to a folder with the recipe's model, VLCHECK_PET_DATA to the photos "
    "(or let the Hub be reached), and VLCHECK_PET_RECIPE to gemma4-31b-pet, gemma4-e4b-pet or gemma3-4b-pet",
)
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
