"""The tiny recipe in NF4 on a GPU learns its colours; with its labels one place off it does not."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.gpu.gates import gates
from tests.training.runs import parts, recipe
from vlcheck.evaluation.compare import compare
from vlcheck.evaluation.run import evaluate_run
from vlcheck.processing.collator import Collator
from vlcheck.spec import Quantization, RunSpec
from vlcheck.training.loop import train
from vlcheck.training.rows import read_training_rows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]


class Shifted(Collator):
    """Every label one place before the id that it should be."""

    def _labels(self, rows, batch):
        return super()._labels(rows, batch).roll(-1, dims=1)


def nf4(output: Path) -> RunSpec:
    """The recipe as QLoRA: 4-bit base, bfloat16, paged 8-bit optimizer, checkpointing."""
    spec = recipe()
    return replace(
        spec,
        model=replace(spec.model, dtype="bfloat16"),
        quantization=Quantization(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype="bfloat16",
        ),
        training=replace(
            spec.training, output_dir=str(output), optim="paged_adamw_8bit", bf16=True, gradient_checkpointing=True
        ),
    )  # fmt: skip


def trained(output: Path, kind: type[Collator] = Collator) -> tuple[RunSpec, dict]:
    spec, found = nf4(output), parts(shipped=True)
    collator = kind(found["processor"], found["dialogue"])
    rows = read_training_rows(spec)
    done = train(
        spec, config=found["config"], family=found["family"], collator=collator, rows=rows, say=lambda line: None
    )
    return spec, evaluate_run(spec, output / "evaluation", adapter=done.adapter)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    spec, found = trained(folder)
    base = evaluate_run(spec, folder / "base")
    print(json.dumps({"test": "tiny", "accuracy": found["accuracy"], "base": base["accuracy"], "n": found["n"]}))
    return folder, found


@pytest.mark.gate
def test_the_recipe_reaches_its_gate(sound, record_property):
    record_property("accuracy", sound[1]["accuracy"])
    assert sound[1]["n"] == 120
    assert sound[1]["accuracy"] >= gates()["tiny"]["least_accuracy"]


def test_it_beats_the_untrained_model(sound):
    found = compare(sound[0] / "base", sound[0] / "evaluation")
    assert found.paired.p < 1e-6


def test_the_adapters_are_quantised_ones(sound):
    """What ran was QLoRA: the base's layers are 4-bit."""
    from vlcheck.model.build import Weights, base_of, build_model

    model = build_model(nf4(sound[0]), Weights.RANDOM, config=parts()["config"], device="cuda")
    kinds = {type(module).__name__ for module in base_of(model).modules()}
    assert "Linear4bit" in kinds


def test_shifted_labels_do_not_reach_it(tmp_path):
    _, found = trained(tmp_path, Shifted)
    print(json.dumps({"test": "tiny shifted", "accuracy": found["accuracy"], "n": found["n"]}))
    assert found["accuracy"] <= gates()["tiny"]["most_accuracy_when_shifted"]
    assert found["accuracy"] < gates()["tiny"]["least_accuracy"]
