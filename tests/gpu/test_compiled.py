"""A run with compiled layers: killed and taken up, its adapter is that of the run that nobody killed, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.gpu.train_compiled import EVERY, STEPS
from vlcheck.training.record import METRICS, read_events, read_metrics

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]


def started(folder: Path) -> subprocess.Popen:
    log = (folder.parent / f"{folder.name}.log").open("a")
    command = [sys.executable, "-m", "tests.gpu.train_compiled", str(folder)]
    own = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # what cuBLAS needs to be deterministic
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **own})


def finished(folder: Path) -> None:
    assert started(folder).wait() == 0, (folder.parent / f"{folder.name}.log").read_text()[-3000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("compiled")
    whole, parted = root / "whole", root / "parted"
    finished(whole)
    process = started(parted)
    while process.poll() is None and not (parted / METRICS).exists():
        time.sleep(0.2)
    while process.poll() is None and max((m["step"] for m in read_metrics(parted)), default=0) < EVERY + 3:
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = max(m["step"] for m in read_metrics(parted))
    finished(parted)
    return whole, parted, before


def test_killed_run_with_compiled_layers_ends_with_the_same_adapter(runs):
    whole, parted, before = runs
    assert EVERY < before < STEPS
    (resumed,) = read_events(parted, "resumed")
    assert resumed["after"] >= EVERY
    files = [(folder / "adapter" / "adapter_model.safetensors").read_bytes() for folder in (whole, parted)]
    assert files[0] == files[1]
    print(json.dumps({"test": "compiled", "killed_at": before, "events": [*read_events(whole, "compiled")],
                      "seconds": [m["seconds"] for m in read_metrics(whole)][:4]}))  # fmt: skip


def test_run_says_what_was_compiled(runs):
    whole, _, _ = runs
    assert json.loads((whole / "run.json").read_text())["compiled_layers"] > 0
    assert [*read_events(whole, "evaluation")]
