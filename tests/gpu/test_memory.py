"""On a GPU, a step takes what was projected for it, within the printed band."""

from __future__ import annotations

import os

import pytest
import torch

from tests.gpu.runs import RUNS
from vlcheck.memory.probe import probe
from vlcheck.model import catalogue
from vlcheck.model.families import family_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]
FEW = ("SmolVLM2-2.2B-Instruct b4 t512 s81 r16", "gemma-4-31B-it b1 t512 s280 r64")


@pytest.mark.parametrize("name", FEW)
def test_step_stays_within_the_band(name):
    """Allocated: within the band, both ways. Driver: within 3 %, where nothing else uses the card."""
    (run,) = (each for each in RUNS if each.name == name)
    config = catalogue.lookup(run.model).config

    found = probe(run.spec(), config, family_of(config), run.shape(), steps=2)

    assert not found.failure
    assert abs(found.plan.allocated_bytes / found.measured.allocated_bytes - 1) <= found.plan.band
    assert found.measured.allocated_bytes <= found.plan.upper_bytes
    assert abs(found.plan.driver_bytes / found.measured.driver_bytes - 1) <= 0.03
