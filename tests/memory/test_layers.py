"""Layers that stand for others, whatever a version of transformers checkpoints."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from tests import tiny
from tests.memory.test_project import spec
from vlcheck.memory.micro import MicroStep
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.model.families import family_of
from vlcheck.spec import CheckpointingKwargs

TEXT = "model.language_model.layers"
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


@pytest.mark.parametrize("reentrant", [False, True])
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
