"""The live door on a card: what it costs before a run's first step, and that it changes no bit of the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]


def outcome(kind: str, folder: Path) -> dict[str, Any]:
    """What a process of its own has left."""
    command = [sys.executable, "-m", "tests.gpu.train_live", kind, str(folder)]
    with (folder / "log").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    assert code == 0, (folder / "log").read_text()[-3000:]
    return torch.load(folder / "outcome.pt")


def test_a_run_with_it_equals_the_run_without_bit_for_bit(tmp_path):
    """Under deterministic kernels; two runs without it are held against each other first."""
    found = outcome("bits", tmp_path)
    bare, *others = found["runs"]
    for other in others:
        assert bare["losses"] == other["losses"]
        assert bare["weights"].keys() == other["weights"].keys()
        assert all(torch.equal(bare["weights"][name], other["weights"][name]) for name in bare["weights"])
        assert all(torch.equal(*states) for states in zip(bare["states"], other["states"], strict=True))
    print(json.dumps({"test": "live bits", "losses": bare["losses"], "verdicts": found["verdicts"]}))
    begun, forward, gradients, stepped = found["verdicts"]
    assert begun.keys() >= {"VLC202", "VLC406", "VLC003", "VLC302"}
    assert [forward.keys(), gradients.keys(), stepped.keys()] == [{"VLC007"}, {"VLC009"}, {"VLC010"}]
    assert not any(messages for look in found["verdicts"] for messages in look.values())


def test_it_looks_in_less_than_a_minute(tmp_path, record_property):
    """At a model of 1.6 billion parameters, before its first step; that step takes what was projected."""
    found = outcome("larger", tmp_path)
    record_property("looked_seconds", found["seconds"])
    print(json.dumps({"test": "live larger", **found}))
    assert found["parameters"] > 1.5e9
    assert set(found["examined"]) >= {"VLC202", "VLC406", "VLC008", "VLC302"}
    assert found["seconds"] < 60, f"{found['seconds']:.1f} s"
    assert found["verdicts"][-1] == {"VLC010": []}
