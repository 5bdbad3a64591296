"""Runs that train every weight: what they hold beside their activations."""

from __future__ import annotations

import pytest

from tests import tiny
from tests.memory.test_layers import in_order
from tests.memory.test_project import GEMMA, H100
from vlcheck.memory.micro import MicroStep
from vlcheck.memory.optimizer import Optimized, managed_size, step_blocks
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.memory.tape import Tape
from vlcheck.model.families import family_of
from vlcheck.spec import Hardware, ModelRef, RunSpec, Training, ZeroOptimization
from vlcheck.training.settings import settings_of

SHAPE = Shape(rows=2, tokens=64, soft_tokens=20)


def run(dtype="bfloat16", gpus=1, **training) -> RunSpec:
    return RunSpec(
        model=ModelRef(id="tiny", dtype=dtype),
        training=Training(**({"bf16": True, "gradient_checkpointing": True} | training)),
        hardware=Hardware(count=gpus),
    )


def simulated(values=GEMMA, **settings) -> Simulation:
    return Simulation(run(**settings), values, family_of(values))


@pytest.fixture(scope="module")
def whole() -> Simulation:
    return simulated()


def trained(simulation: Simulation) -> int:
    return sum(p.numel() for p in simulation.optimized.parameters)


def test_every_weight_has_a_gradient_and_two_moments(whole):
    """In bf16: two bytes each; the doubt says that no such run was measured."""
    plan = whole.plan(H100, SHAPE)
    assert trained(whole) == sum(p.numel() for p in whole.model.parameters())
    state = plan.of("optimizer state")
    assert 0 <= state - 4 * trained(whole) <= 8 * len(whole.optimized.parameters)
    taken, _ = MicroStep(whole.step_model, whole.settings, SHAPE).run()
    assert 2 * trained(whole) <= sum(taken.sizes)
    assert not plan.doubts
    assert plan.of("adapters") == 0


def test_frozen_parts_have_neither():
    """`training.freeze` takes parts out: no gradient, no state, and their weights stay in memory."""
    fewer = simulated(freeze=("vision", "projector"))
    names = {name for name, p in fewer.model.named_parameters() if p.requires_grad}
    assert names
    assert all(name.startswith(("model.language_model.", "lm_head.")) for name in names)
    assert fewer.plan(H100, SHAPE).of("optimizer state") < 4.1 * trained(fewer)


@pytest.mark.parametrize(("checkpointing", "logits"), [(True, "supervised"), (False, "all")])
@pytest.mark.slow
def test_layers_that_stand_for_others_give_the_tape_of_all(checkpointing, logits):
    """Trained weights too: every gradient comes where it comes when each layer runs."""
    simulation = simulated(tiny.llava_deep(), gradient_checkpointing=checkpointing, logits=logits)
    shape = Shape(rows=2, tokens=64, soft_tokens=16)
    (few, fewer), (every, gradients) = (
        MicroStep(simulation.step_model, simulation.settings, shape, whole=whole).run() for whole in (False, True)
    )
    assert few.sizes == every.sizes
    assert in_order(few) == in_order(every)
    assert fewer == gradients


def stepped(simulation: Simulation, **training) -> tuple[int, list[int]]:
    """Bytes of state, and sizes of everything that a first step takes."""
    settings, tape = settings_of(run(**training)), Tape()
    kept = step_blocks(simulation.optimized, settings, tape, first=True)
    return sum(tape.sizes[block] for block in kept), tape.sizes


def test_trainer_keeps_32_bits_for_embeddings(whole):
    """Of an 8-bit optimizer in transformers' Trainer; vlcheck's own loop has no such rule."""
    ours, _ = stepped(whole, optim="adamw_8bit", framework="vlcheck")
    theirs, _ = stepped(whole, optim="adamw_8bit", framework="trl")
    embedded = sum(p.numel() for p in whole.optimized.parameters if id(p) in whole.optimized.embeddings)
    assert embedded
    assert 5 * embedded < theirs - ours <= 6 * embedded
    paged = [managed_size(whole.optimized, settings_of(run(optim="paged_adamw_8bit", framework=f)))
             for f in ("vlcheck", "trl")]  # fmt: skip
    assert paged[0] <= paged[1]


def test_steps_take_what_their_kernels_take(whole):
    """Roots of all second moments, gradients with their decay, an update twice and 16 bits in fp32."""
    largest = max(p.numel() for p in whole.optimized.parameters)
    assert stepped(whole, optim="adafactor")[1].count(4 * largest) >= 4
    plain, decayed = (stepped(whole, optim="sgd", weight_decay=decay)[1] for decay in (0.0, 0.1))
    assert sum(decayed) - sum(plain) == 2 * trained(whole)


def test_deepspeed_keeps_fp32_copies(whole):
    """Twelve bytes a weight: the copy and both moments in fp32."""
    zero = ZeroOptimization(stage=2)
    state, _ = stepped(whole, gpus=2, zero_optimization=zero, framework="transformers")
    assert 12 * trained(whole) <= state < 12.1 * trained(whole)


def test_optimizers_are_ordered_by_what_they_keep(whole):
    """And a model in fp32 keeps twice what one in bf16 does."""
    kept = [stepped(whole, optim=optim)[0] for optim in ("sgd", "adamw_8bit", "adamw_torch_fused")]
    assert kept == sorted(kept)
    assert stepped(simulated(dtype="float32"))[0] > 1.9 * kept[-1]
    assert Optimized.of(whole.model).embeddings == whole.optimized.embeddings
