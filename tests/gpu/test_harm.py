"""The harm sweep: every fault of `standin/faults.py` on five seeds, a few more runs at each call until all are kept.

pytest -m "gpu and slow" tests/gpu/test_harm.py          eight minutes of a card; again until nothing is left
python -m tests.gpu.standin.tell                         then: docs/harm.md and what `vlcheck explain` says
vlcheck reproduce --harm --standin fixtures/standin      both of them, and prints the table
"""

from __future__ import annotations

import os

import pytest
import torch

from tests.gpu.standin import sweep
from tests.gpu.standin.faults import SEEDS
from tests.gpu.standin.harm import BASE, go_on

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]
SECONDS, WORKERS = 480, 10


def test_every_fault_is_measured_on_every_seed(tmp_path):
    """What ends within the time is kept in fixtures/harm; while anything is left, the test says so and fails."""
    missing = go_on(tmp_path, SECONDS, WORKERS)
    assert not missing, f"{missing} runs are left: call again"
    seen = {(run["fault"], run["seed"]): run for run in sweep.measured(sweep.digest(BASE))}
    assert all(seen["none", seed]["accuracy"] >= 0.9 for seed in SEEDS)
