"""Runs with settings that `test_measured.py` has none of, against their plans: full fine-tunes and LLM.int8."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
(FILE,) = (ROOT / "fixtures" / "measured").glob("settings-*.jsonl")
RUNS = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]


def outliers(run) -> bool:
    """Whether LLM.int8 took columns apart, as by default."""
    return run["run"]["int8"] and run["run"].get("outliers", True)


def off(run) -> float:
    """How far the projected allocated peak is above the measured one, as a share of that."""
    return run["projected"]["allocated_bytes"] / run["measured"]["allocated_bytes"] - 1


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["name"])
def test_the_plan_is_what_was_measured(run):
    """Within 1 %, but for outlier columns, which a plan cannot know; never above the bound."""
    assert run["measured"]["allocated_bytes"] <= run["projected"]["upper_bytes"]
    if outliers(run):
        assert -0.11 <= off(run) <= 0
    else:
        assert abs(off(run)) <= 0.01


def test_the_docs_say_how_far_off_they_are():
    whole = [abs(off(run)) for run in RUNS if run["run"]["whole"]]
    plain = [abs(off(run)) for run in RUNS if run["run"]["int8"] and not outliers(run)]
    taken = [1 / (1 + off(run)) - 1 for run in RUNS if outliers(run)]
    text = " ".join((ROOT / "docs" / "memory.md").read_text("utf-8").split())
    assert f"{len(whole)} full fine-tunes of SmolVLM2 2.2B in bf16, off by at most {max(whole):.2%}" in text
    assert f"{len(plain)} runs on LLM.int8 without outlier columns, by at most {max(plain):.2%}" in text
    assert f"with them {len(taken)} runs took {min(taken):.0%} to {max(taken):.0%} more" in text
