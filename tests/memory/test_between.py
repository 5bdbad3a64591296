"""Micro-batches between two that were simulated need no simulation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import tiny
from tests.memory.test_project import H100, spec
from vlcheck.memory.between import neighbours
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.model.families import family_of

GEMMA = tiny.gemma4(clip=False)
SHAPE = Shape(rows=1, tokens=64, soft_tokens=20)


def test_a_step_between_two_is_the_simulated_one(monkeypatch):
    """To the byte, and without another simulation."""
    simulation, alone = (Simulation(spec(), GEMMA, family_of(GEMMA)) for _ in range(2))
    taken = []
    simulated = Simulation._simulated
    monkeypatch.setattr(Simulation, "_simulated", lambda self, settings, shape, *rest, **more: (
        taken.append(shape.rows), simulated(self, settings, shape, *rest, **more))[1])  # fmt: skip
    for rows in (1, 8, 4):
        between = simulation.plan(H100, SHAPE.with_rows(rows))
    assert taken == [1, 8]
    assert between == alone.plan(H100, SHAPE.with_rows(4))


@pytest.mark.parametrize(("shape", "found"), [
    (SHAPE.with_rows(3), (SHAPE.with_rows(2), SHAPE.with_rows(4))),
    (SHAPE.with_rows(16), None),
    (replace(SHAPE, rows=3, tokens=65), None),
    (replace(SHAPE, rows=3, answers=(8, 8, 2)), None),
])  # fmt: skip
def test_neighbours_differ_in_even_rows_alone(shape, found):
    """Longer rows, and rows that differ from each other, are on no line between others."""
    simulated = [SHAPE.with_rows(rows) for rows in (1, 2, 4, 8)]
    assert neighbours(shape, [*simulated, *(replace(shape, rows=rows) for rows in (1, 8) if shape.answers)]) == found
