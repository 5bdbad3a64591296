"""Layers that stand for others, whatever a version of transformers checkpoints."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from tests import tiny
from tests.memory.test_project import H100, spec
from vlcheck.memory.micro import MicroStep
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.memory.tape import Tape
from vlcheck.model import catalogue
from vlcheck.model.families import family_of
from vlcheck.spec import CheckpointingKwargs


def catalogued(hub_id: str) -> dict[str, Any]:
    """A known model at its full size."""
    found = catalogue.lookup(hub_id)
    assert found is not None
    return dict(found.config)


DEEP = {
    "llava": tiny.llava_deep,
    "per-layer inputs, shared caches": tiny.gemma4_per_layer,
}
DEEPER = {
    "31B": tiny.gemma4_deep,
    "E4B": partial(catalogued, "google/gemma-4-E4B-it"),
    "Qwen3-VL": partial(catalogued, "Qwen/Qwen3-VL-8B-Instruct"),
}
TEXT = "model.language_model.layers"
TEXT_INSIDE = f"base_model.model.{TEXT}"
SHAPE = Shape(rows=2, tokens=64, soft_tokens=16)
LLAVA = tiny.llava_deep()


def checkpoint_call(layer: GradientCheckpointingLayer) -> None:
    """Give a layer the class it would have in transformers 5.17, whose checkpoint lies around `__call__`."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = partial(nn.Module.__call__, self, **kwargs)
        return self._gradient_checkpointing_func(run, *args) if self.gradient_checkpointing else run(*args)

    older = type(type(layer).__name__, (type(layer),), {"__call__": call})
    older.forward = type(layer).forward.__wrapped__
    layer.__class__ = older


@pytest.mark.parametrize("reentrant", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_checkpoint_around_the_hooks_is_one_pass(reentrant):
    """Under transformers 5.17 hooks run again with the layer; the step is that of 5.23, layers left out and all."""
    run = spec(gradient_checkpointing_kwargs=CheckpointingKwargs(use_reentrant=reentrant))
    simulation = Simulation(run, LLAVA, family_of(LLAVA))
    newer, gradients = MicroStep(simulation.step_model, simulation.settings, SHAPE).run()
    for layer in simulation.model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            checkpoint_call(layer)
    step = MicroStep(simulation.step_model, simulation.settings, SHAPE)
    older, older_gradients = step.run()
    assert any(layer.like for (path, _), layer in step.layers.found.items() if path == TEXT)
    assert (older.sizes, older.events, older_gradients) == (newer.sizes, newer.events, gradients)


@pytest.mark.parametrize(("values", "checkpointing"), [
    pytest.param(make, checkpointing, id=f"{name}-{checkpointing}",
                 marks=() if name in DEEP and (checkpointing or name == "llava") else pytest.mark.slow)
    for name, make in (DEEP | DEEPER).items() for checkpointing in (True, False)
])  # fmt: skip
def test_layers_that_stand_for_others_give_the_tape_of_all(values, checkpointing):
    """Every block at its place, every moment, every gradient: whether the layers run one by one or a few for all."""
    values = values()
    simulation = Simulation(spec(gradient_checkpointing=checkpointing), values, family_of(values))
    shape = pictured(simulation)
    whole, short = (MicroStep(simulation.step_model, simulation.settings, shape, whole=each) for each in (True, False))
    (all_of_them, gradients), (few, its_gradients) = whole.run(), short.run()
    assert any(layer.like for (path, _), layer in short.layers.found.items() if path == TEXT)
    assert its_gradients == gradients
    assert (few.sizes, few.causes, few.marks) == (all_of_them.sizes, all_of_them.causes, all_of_them.marks)
    assert in_order(few) == in_order(all_of_them)


def pictured(simulation: Simulation) -> Shape:
    """Two rows with the fewest soft tokens that a family's image can have."""
    soft = 16 if simulation.family.soft_tokens is None else simulation.family.soft_tokens(simulation.config, 20)[0]
    return Shape(rows=2, tokens=64 + soft, soft_tokens=soft)


def in_order(tape: Tape) -> list[list[int]]:
    """Events, where those that release blocks one right after another stand in no order."""
    runs: list[list[int]] = [[]]
    for event in tape.events:
        if event >= 0:
            runs += [[event], []]
        else:
            runs[-1].append(event)
    return [sorted(run) for run in runs]


def test_a_share_of_the_layers_checkpointed_takes_what_lies_between():
    """Layers that keep their activations are no stand-ins for those that do not, and the last ones are the ones."""
    half, full, none = (
        Simulation(spec(**training), LLAVA, family_of(LLAVA))
        for training in ({"gradient_checkpointing_share": 0.5}, {}, {"gradient_checkpointing": False})
    )
    few, every = (MicroStep(half.step_model, half.settings, SHAPE, whole=whole).run()[0] for whole in (False, True))
    assert in_order(few) == in_order(every)
    least, between, most = (each.plan(H100, SHAPE).of("activations") for each in (full, half, none))
    assert least < between < most
    checkpointed = [layer.gradient_checkpointing for layer in half.model.get_submodule(TEXT_INSIDE)]
    assert checkpointed == sorted(checkpointed, reverse=True)
    assert sum(checkpointed) == len(checkpointed) // 2
