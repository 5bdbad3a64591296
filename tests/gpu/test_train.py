"""Twenty steps of the 31B recipe with random weights, once whole and once ended by SIGTERM in the middle."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.gpu.train_31b import EVERY, STEPS
from vlcheck.training.record import METRICS, read_metrics

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]
COMMAND = [sys.executable, "-m", "tests.gpu.train_31b"]


def started(folder: Path) -> subprocess.Popen:
    torch.cuda.empty_cache()
    own = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # what cuBLAS needs to be deterministic
    log = (folder.parent / f"{folder.name}.log").open("a")
    return subprocess.Popen([*COMMAND, str(folder)], stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **own})


def events(folder: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [line for line in lines if line.get("event") == kind]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Both runs, and what SIGTERM took."""
    root = tmp_path_factory.mktemp("long")
    whole, parted = root / "whole", root / "parted"
    assert started(whole).wait() == 0, (root / "whole.log").read_text()[-3000:]
    process = started(parted)
    while process.poll() is None and not (parted / METRICS).exists():
        time.sleep(0.2)
    while process.poll() is None and max((m["step"] for m in read_metrics(parted)), default=0) < EVERY + 2:
        time.sleep(0.05)
    begun = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    code, seconds = process.wait(), time.perf_counter() - begun
    before = [m["step"] for m in read_metrics(parted)]
    assert started(parted).wait() == 0, (root / "parted.log").read_text()[-3000:]
    losses = [[m["loss"] for m in read_metrics(folder)] for folder in (whole, parted)]
    steps = [list(read_metrics(folder)) for folder in (whole, parted)]
    print(json.dumps({
        "test": "31b", "losses_whole": losses[0], "losses_parted": losses[1], "code": code, "ended_after": seconds,
        "last_before": before[-1], "save": [e["seconds"] for f in (whole, parted) for e in events(f, "save-time")],
        "checkpoint_bytes": events(whole, "save-time")[0]["bytes"],
        "memory": [events(f, "memory") for f in (whole, parted)],
        "step_seconds": [[round(m["seconds"], 2) for m in run] for run in steps],
        "wait_seconds": [round(m["wait_seconds"], 3) for m in steps[0]],
        "norms": [m["grad_norm"] for m in steps[0]],
        "peaks": [max(m["allocated_bytes"] for m in run) for run in steps],
        "log": (root / "parted.log").read_text()[-2500:],
    }))  # fmt: skip
    return whole, parted, code, before


def test_every_step_is_finite(runs):
    found = list(read_metrics(runs[0]))
    assert [m["step"] for m in found] == list(range(1, STEPS + 1))
    assert all(math.isfinite(m["loss"]) and math.isfinite(m["grad_norm"]["total"]) for m in found)


def test_sigterm_asks_for_a_retry_and_loses_no_finished_step(runs):
    _, parted, code, before = runs
    assert code == 128 + signal.SIGTERM
    (resumed,) = events(parted, "resumed")
    assert resumed["after"] >= before[-1]


def test_the_resumed_run_has_the_losses_of_the_whole_one(runs):
    """To the last bit, with deterministic kernels."""
    losses = [[m["loss"] for m in read_metrics(folder)] for folder in runs[:2]]
    assert losses[1] == losses[0]


def test_the_peak_is_within_the_plan_before_and_after_the_resume(runs):
    told = [event for folder in runs[:2] for event in events(folder, "memory")]
    assert len(told) == 3
    for event in told:
        assert event["measured"] <= event["upper"]
    for folder in runs[:2]:
        assert all(m["allocated_bytes"] <= told[0]["upper"] for m in read_metrics(folder))
