"""The gate on pictures that must be seen: a small Gemma 4 learns to name 37 invented breeds, through `train`.

pytest -m gpu tests/gpu/test_standin_accuracy.py          five seeds, and five faults that the gate must notice
pytest -m "slow and not gpu" tests/gpu/test_standin_accuracy.py     the smaller variant, on a CPU
"""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace

import pytest
import torch

from tests.gpu.gates import gates
from tests.gpu.standin import sweep
from tests.gpu.standin.faults import FAULTS, INJECTED, SEEDS
from tests.gpu.standin.tasks import base_accuracy, run
from vlcheck.evaluation.standin import Task, spec_of, write_photos

BASE = sweep.FIXTURES / "standin"
needs_base = pytest.mark.skipif(
    not (BASE / "model.safetensors").exists(),
    reason="no base in fixtures/standin: python -m tests.gpu.standin.rebuild OUT builds it on a card in six minutes",
)
needs_card = [
    pytest.mark.gpu,
    pytest.mark.gate,
    needs_base,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]
SECONDS = 270
"""Five seeds side by side take no longer."""


def many(folder, jobs, seconds=SECONDS):
    """Runs side by side; accuracy by fault and seed."""
    given = Namespace(out=folder, base=BASE, work=folder / "work", workers=5)
    write_photos(Task(), given.work / "photos")
    settings = json.loads((BASE / "settings.json").read_text())
    asked = [{"fault": fault, "seed": seed} for fault, seed in jobs]
    sweep.side_by_side(given, asked, settings, "runs.jsonl", time.time() + seconds)
    found = sweep.lines(folder / "runs.jsonl")
    for line in found:
        print(json.dumps({"test": "standin"} | {key: line.get(key) for key in ("fault", "seed", "accuracy", "n")}))
    assert not [line for line in found if "error" in line], found
    return {(line["fault"], line["seed"]): line["accuracy"] for line in found}


class TestOnACard:
    pytestmark = needs_card

    def test_every_seed_reaches_the_gate(self, tmp_path, record_property):
        gate = gates()["standin"]
        found = many(tmp_path, [("none", seed) for seed in SEEDS])
        base = base_accuracy(BASE, tmp_path / "work" / "photos", tmp_path / "base")
        print(json.dumps({"test": "standin", "base": base}))
        record_property("accuracy", {str(seed): accuracy for (_, seed), accuracy in found.items()})
        record_property("base", base)
        assert sorted(found) == [("none", seed) for seed in SEEDS]
        assert min(found.values()) >= gate["least_accuracy"], found
        assert base["accuracy"] <= gate["most_accuracy_of_base"]

    def test_the_gate_notices_each_injected_fault(self, tmp_path, record_property):
        found = many(tmp_path, [(fault, 0) for fault in INJECTED])
        record_property("accuracy", {fault: accuracy for (fault, _), accuracy in found.items()})
        assert sorted(found) == sorted((fault, 0) for fault in INJECTED)
        assert max(found.values()) < gates()["standin"]["least_accuracy"], found


@pytest.mark.slow
@needs_base
def test_fewer_breeds_are_learnt_on_a_cpu(tmp_path):
    gate = gates()["standin_cpu"]
    task = Task(breeds=gate["breeds"], train=gate["train"], test=gate["test"])
    photos = write_photos(task, tmp_path / "photos", 2)
    base = base_accuracy(BASE, photos, tmp_path / "base")
    spec = spec_of(
        BASE, photos, tmp_path / "run", seed=0, steps=gate["steps"], per_device_train_batch_size=gate["batch"]
    )
    found = run(spec, FAULTS["none"])
    print(json.dumps({"test": "standin on a CPU", "accuracy": found.accuracy, "base": base["accuracy"], "n": found.n}))
    assert found.accuracy - base["accuracy"] >= gate["least_gain"]
