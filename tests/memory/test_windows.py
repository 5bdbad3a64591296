"""Windows of one length in one call: what they take is what they take one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import tiny
from tests.memory.test_project import spec
from vlcheck.memory.allocator import play
from vlcheck.memory.attention import Arch
from vlcheck.memory.micro import MicroStep
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.model.families import family_of

ADA, TURING = Arch(8, 9), Arch(7, 5)
QWEN = tiny.shrunken("Qwen/Qwen2.5-VL-7B-Instruct")


@pytest.fixture(scope="module")
def simulation():
    return Simulation(spec(), QWEN, family_of(QWEN))


def taken(simulation: Simulation, soft_tokens: int, *, gathers: bool, arch: Arch = ADA) -> tuple[int, int, int]:
    """Allocated peak, events and attention calls of a step on images of so many soft tokens."""
    shape = Shape(tokens=soft_tokens + 32, soft_tokens=soft_tokens)
    step = MicroStep(replace(simulation.step_model, fused=gathers), simulation.settings, shape, arch)
    tape, _ = step.run()
    return play(tape).allocated_bytes, len(tape.events), sum(step.functions.kernels.values())


def test_windows_take_together_what_they_take_one_by_one(simulation):
    """The peak is the same but for the allocator's rounding, and the events are no more where windows are more."""
    alone, many, calls = taken(simulation, 256, gathers=False)
    together, few, same = taken(simulation, 256, gathers=True)
    assert together == pytest.approx(alone, rel=1e-3)
    assert calls == same
    assert few < many
    assert taken(simulation, 512, gathers=True)[1] == few


def test_plain_products_are_taken_window_by_window(simulation):
    """A card without a fused kernel holds the matrices of one window at a time."""
    assert taken(simulation, 64, gathers=True, arch=TURING) == taken(simulation, 64, gathers=False, arch=TURING)
