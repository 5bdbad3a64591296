"""The harm sweep: every fault of `standin/faults.py` on five seeds, a few more runs at each call until all are kept.

pytest -m "gpu and slow" tests/gpu/test_harm.py          eight minutes of a card; again until nothing is left
python -m tests.gpu.standin.tell                         then: docs/harm.md and what `vlcheck explain` says
"""

from __future__ import annotations

import os
import time
from argparse import Namespace

import pytest
import torch

from tests.gpu.standin import sweep
from tests.gpu.standin.faults import SEEDS
from tests.gpu.standin.keep import keep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]
SECONDS, WORKERS = 480, 10


def test_every_fault_is_measured_on_every_seed(tmp_path):
    """What ends within the time is kept in fixtures/harm; while anything is left, the test says so and fails."""
    base = sweep.FIXTURES / "standin"
    given = Namespace(
        out=tmp_path, base=base, work=tmp_path / "work", seconds=SECONDS, workers=WORKERS, miniature=False
    )
    card = torch.cuda.get_device_name().split()[1].lower()
    if sweep.left(sweep.digest(base), SEEDS):
        try:
            sweep.sweep(given)
        finally:
            keep(tmp_path / "runs.jsonl", sweep.FIXTURES / "harm" / f"{time.strftime('%Y-%m-%d')}-{card}.jsonl", {})
    missing = sweep.left(sweep.digest(base), SEEDS)
    assert not missing, f"{len(missing)} runs are left: call again"
    seen = {(run["fault"], run["seed"]): run for run in sweep.measured(sweep.digest(base))}
    assert all(seen["none", seed]["accuracy"] >= 0.9 for seed in SEEDS)
