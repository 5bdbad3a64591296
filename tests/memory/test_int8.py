"""Runs on a base in LLM.int8: what its layers store, and what their products keep and take."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests import tiny
from tests.memory.test_layers import in_order
from tests.memory.test_project import GEMMA, H100, plan, spec
from vlcheck.memory.micro import MicroStep
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.memory.weights import pack, stored
from vlcheck.model.build import Weights, build_model
from vlcheck.model.families import family_of
from vlcheck.spec import CheckpointingKwargs, Quantization

SHAPE = Shape(rows=2, tokens=64, soft_tokens=20)


def int8(**training):
    reentrant = CheckpointingKwargs(use_reentrant=training.pop("reentrant", False))
    run = spec(**training, gradient_checkpointing_kwargs=reentrant)
    return replace(run, quantization=Quantization(load_in_8bit=True))


def simulated(values=GEMMA, **training) -> Simulation:
    return Simulation(int8(**training), values, family_of(values))


def test_an_int8_base_lies_between_nf4_and_bf16():
    """Its weights take a byte each, and the doubt says what depends on values."""
    whole = simulated().plan(H100, SHAPE)
    assert sum(line.size for line in whole.lines) == whole.allocated_bytes
    packed = whole.of("quantised weights")
    assert 2 * plan(GEMMA, SHAPE).of("quantised weights") == packed > 0
    assert [doubt for doubt in whole.doubts if "LLM.int8" in doubt] == list(whole.doubts)


def test_int8_weights_take_what_bitsandbytes_takes():
    """Meta's stand-ins store the bytes of layers that were quantised for real."""
    meta = build_model(int8(), Weights.META, config=GEMMA)
    pack(meta)
    real = build_model(int8(), Weights.RANDOM, config=GEMMA, device="cpu")
    assert [s.size for s in stored(meta)] == [s.size for s in stored(real)]


def test_checkpointing_without_reentry_keeps_the_inputs_of_int8_products():
    """The library keeps them beside autograd's own tensors, where no checkpoint sees them."""
    kept = {
        reentrant: simulated(reentrant=reentrant).plan(H100, SHAPE).of("activations") for reentrant in (False, True)
    }
    off = simulated(gradient_checkpointing=False).plan(H100, SHAPE).of("activations")
    assert 2 * kept[True] < kept[False] < off


@pytest.mark.slow
def test_int8_layers_that_stand_for_others_give_the_tape_of_all():
    """From the second step on: the first gives the biases of every layer that runs the type of its inputs."""
    simulation, shape = simulated(tiny.llava_deep()), replace(SHAPE, soft_tokens=16)
    _, few, every = (
        MicroStep(simulation.step_model, simulation.settings, shape, whole=whole).run()[0]
        for whole in (True, False, True)
    )
    assert few.sizes == every.sizes
    assert in_order(few) == in_order(every)


def test_without_outlier_columns_a_run_takes_what_one_does_that_has_none():
    """A product keeps the type of its input: fp16 beside a bf16 stream would make the rest of the model fp32."""
    taken = simulated().plan(H100, SHAPE).of("activations")
    off = replace(int8(), quantization=Quantization(load_in_8bit=True, llm_int8_threshold=0.0))
    assert Simulation(off, GEMMA, family_of(GEMMA)).plan(H100, SHAPE).of("activations") == taken


def test_products_take_their_int32_result_and_a_copy():
    """A product of n rows and N columns: 4nN in int32, 2nN in fp16, then the result; a mask beside fp16 inputs."""
    simulation = simulated()
    step = MicroStep(simulation.step_model, simulation.settings, SHAPE)
    step.run()
    causes = {cause for cause in step.blocks.tape.causes if "quanti" in cause}
    assert causes == {"dequantisation", "quantisation of activations"}
    wide = max(module.out_features for module in simulation.model.modules() if isinstance(module, torch.nn.Linear))
    assert 4 * SHAPE.rows * SHAPE.tokens * wide in step.blocks.tape.sizes
