"""Runs with real row mixtures against their plans, as `tests.gpu.measure_rows` measured them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.report import mixed_rows, mixtures, peak
from vlcheck.gpus import gpu
from vlcheck.memory.parallel import NCCL_BYTES

MEASURED = Path(__file__).parents[2] / "fixtures" / "measured"
RUNS = mixed_rows()
ALONE, TOGETHER = 0.01, 0.02
"""How far off the plan of the micro-batches that were drawn may be, on one GPU and on two."""


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


def test_the_driver_counts_nccl_beside_the_context():
    """On each of two GPUs: context and NCCL as the plan has them, within 3 %, on every run and rank."""
    ranks = [rank for line in RUNS if line["run"]["processes"] == 2 for rank in line["ranks"]]
    assert len(ranks) == 16
    for rank in ranks:
        beside = rank["driver_bytes"] - rank["reserved_bytes"]
        assert gpu("h100").context_bytes + NCCL_BYTES == pytest.approx(beside, rel=0.03)


def test_two_gpus_have_the_losses_of_one():
    (losses,) = kept("rows-ddp", "losses")
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-6)


def test_two_gpus_train_what_one_does_and_end_as_safely():
    """What `tests.gpu.two_gpus` saw: curves, a signal to the launcher, a process that is killed, one that goes on."""
    (seen,) = kept("two-gpus", "two_is_one")
    assert seen["two_apart"] < 1e-6
    assert seen["parted_apart"] < 1e-6
    assert seen["sigterm_keeps_the_last_step"]
    assert seen["a_death_loses_two_steps_at_most"]
    assert seen["one_goes_on"]
    assert seen["speed_up"] >= 1.8


def kept(name: str, marked: str) -> list[dict[str, Any]]:
    """Lines of a file of measurements that have this key or name."""
    (file,) = MEASURED.glob(f"{name}-*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if marked in (line.get("name"), *line)]


def test_the_table_of_the_docs_is_what_was_measured():
    assert mixtures() in (MEASURED.parents[1] / "docs" / "memory.md").read_text("utf-8")
