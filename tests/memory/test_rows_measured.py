"""Runs with real row mixtures against their plans, as `tests.gpu.measure_rows` measured them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

MEASURED = Path(__file__).parents[2] / "fixtures" / "measured"
LINES = [json.loads(line) for file in sorted(MEASURED.glob("rows-*.jsonl")) for line in file.read_text().splitlines()]
RUNS = [line for line in LINES if line["name"] != "losses"]
ALONE, TOGETHER = 0.01, 0.02
"""How far off the plan of the micro-batches that were drawn may be, on one GPU and on two."""

pytestmark = pytest.mark.skipif(not LINES, reason="no run with real rows was measured yet")


def peak(line: dict[str, Any]) -> int:
    """What a run allocated at most on any of its GPUs, from wrapping on."""
    ranks = line.get("ranks") or [line["measured"]]
    return max(max(rank["allocated_bytes"], rank.get("wrapping", {}).get("peak", 0)) for rank in ranks)


@pytest.mark.parametrize("line", RUNS, ids=lambda line: line["name"])
def test_the_plan_of_what_was_drawn_is_what_was_measured(line):
    """And no run allocates more than the bound of the worst that its rows allow."""
    assert "error" not in line
    allowed = ALONE if line["run"]["processes"] == 1 else TOGETHER
    assert peak(line) == pytest.approx(line["projected"]["allocated_bytes"], rel=allowed)
    assert line["projected"]["allocated_bytes"] <= line["worst"]["allocated_bytes"]
    assert peak(line) <= line["worst"]["upper_bytes"]


def test_the_mixtures_are_what_they_claim():
    """Two families, rows from 300 to 16,000 tokens with up to four images, both kinds of logits, every row measured."""
    alone = [line for line in RUNS if line["run"]["processes"] == 1]
    rows = [row for line in alone for row in line["rows"]]
    assert len(alone) >= 10
    assert len({line["run"]["model"].split("/")[0] for line in alone}) == 2
    assert {line["run"]["logits"] for line in alone} == {"supervised", "all"}
    assert min(tokens for tokens, *_ in rows) < 400
    assert max(tokens for tokens, *_ in rows) > 15_000
    assert {images for _, images, *_ in rows} == {1, 2, 3, 4}
    assert max(answer for *_, answer in rows) > 500
    assert not any(line["unread"] for line in alone)


def test_two_processes_have_the_losses_of_one():
    for line in LINES:
        if line["name"] == "losses":
            assert line["two"] == pytest.approx(line["one"], rel=1e-4)
