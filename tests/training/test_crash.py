"""Kill -9 and SIGTERM at many moments of a run; a few here, hundreds with `-m slow` (see `crash.py`)."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.training import crash
from tests.training.runs import parts
from tests.training.test_command import judging
from vlcheck.training.checkpoint import verify

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process with imported libraries")
MOUNTS = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
LOG = os.environ.get("VLCHECK_CRASH_LOG")
SHORT = 2 * crash.EVERY
"""Steps of the runs that are killed by default: two checkpoints, the last of them at the end."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> crash.Whole:
    """An uninterrupted run."""
    parts()  # once, before any fork
    return crash.measured(tmp_path_factory.mktemp("whole"), SHORT)


def check(found, trials: int) -> None:
    found = list(found)
    if LOG:
        with Path(LOG).open("a") as file:
            file.writelines(json.dumps(each) + "\n" for each in found)
    assert len(found) == trials
    assert [each for each in found if not each["usable"]] == []
    assert [each for each in found if not each["identical"]] == []
    assert max(each["lost"] for each in found) <= crash.EVERY


def test_killed(tmp_path, whole):
    """Once at a moment, once at a call, once in a write."""
    check(crash.trials("kill", tmp_path, 3, whole=whole, steps=SHORT), 3)


def test_terminated(tmp_path, whole):
    found = list(crash.trials("terminate", tmp_path, 1, whole=whole, steps=SHORT))
    check(found, 1)
    assert {each["code"] for each in found} <= {128 + 15, 0}
    assert {each["lost"] for each in found} == {0}
    assert max(each["seconds"] for each in found) < 5


def test_two_on_one_folder(tmp_path, whole):
    """No adapter is lost, none is mixed of two runs, and the record is one run's."""
    check(crash.trials("pair", tmp_path, 2, whole=whole, steps=SHORT), 2)


def test_a_process_that_collates_is_killed(tmp_path, whole):
    """The run ends with a line, neither hanging nor by the worker's signal, and leaves no process behind."""
    check(crash.trials("worker", tmp_path, 1, whole=whole, steps=SHORT), 1)


@MOUNTS
def test_the_disk_fills_up(tmp_path, whole):
    check(crash.trials("full", tmp_path, 1, whole=whole, steps=SHORT), 1)


def test_ctrl_c_publishes_the_last_finished_step(tmp_path, config):
    """The command ends with 130, and its newest checkpoint is the step that it said last."""
    judging("VLC901", folder=tmp_path)
    number = crash.command(tmp_path, "train", config(("train_batch_size: 4", "train_batch_size: 1")).name)
    while crash.last_step(tmp_path / "tiny-shapes") < 3:
        assert not crash.over(number), (tmp_path / "command.log").read_text()
        time.sleep(0.02)
    os.kill(number, signal.SIGINT)

    assert crash.ended(number) == 128 + signal.SIGINT
    last = crash.last_step(tmp_path / "tiny-shapes")
    assert f"SIGINT: step {last} is on disk" in (tmp_path / "command.log").read_text()
    assert verify(tmp_path / "tiny-shapes" / f"checkpoint-{last}").step == last


def test_the_kept_log_is_what_its_table_says():
    """Of `fixtures/crash`: no run that could not be taken up, no other adapter, no more lost than one interval."""
    kept = Path(__file__).parents[2] / "fixtures" / "crash" / "2026-11-24.jsonl"
    lines = [json.loads(line) for line in kept.read_text("utf-8").splitlines()]
    kinds = {kind: [line for line in lines if line["kind"] == kind] for kind in ("terminate", "command")}
    forked = [line for line in lines if line["kind"] not in kinds]
    assert (len(forked), sum(line["killed"] for line in forked)) == (180, 175)
    assert sum(bool(line["torn"]) for line in forked) == 67
    assert (len(kinds["command"]), sum(line["killed"] for line in kinds["command"])) == (28, 23)
    assert len(kinds["terminate"]) == 50
    assert max(line["seconds"] for line in kinds["terminate"]) < 0.13
    assert all(line["usable"] and line["identical"] for line in lines)
    assert max(line["lost"] for line in forked) == crash.EVERY


def test_the_whole_log_is_what_its_table_says():
    """Of every kind of trial: each run was taken up and ended as the uninterrupted one."""
    kept = Path(__file__).parents[2] / "fixtures" / "crash" / "2026-11-27.jsonl"
    lines = [json.loads(line) for line in kept.read_text("utf-8").splitlines()]
    rows = re.findall(r"^\| (\d+) of [^|]+\| ?(\d*) \| (\d+) \| (\d+) \| (\d+) \|$",
                      (kept.parent / "README.md").read_text("utf-8"), flags=re.M)  # fmt: skip
    kinds = ("kill", "terminate", "command", "pair", "worker", "full", "evaluation")
    for kind, row in zip(kinds, rows, strict=False):
        found = [line for line in lines if line["trial"].startswith(f"{kind}-")]
        killed = sum(bool(line.get("killed")) for line in found)
        counted = (
            len(found),
            "" if kind in ("terminate", "pair", "full") else killed,
            *(sum(line[each] for line in found) for each in ("usable", "identical")),
        )
        assert (*map(str, counted), str(max(line["lost"] for line in found))) == row
    assert not any("skipped" in line for line in lines)


@pytest.mark.slow
def test_two_on_one_folder_50_times(tmp_path):
    check(crash.trials("pair", tmp_path, 50), 50)


@pytest.mark.slow
def test_a_process_that_collates_is_killed_20_times(tmp_path):
    check(crash.trials("worker", tmp_path, 20), 20)


@pytest.mark.slow
@MOUNTS
def test_the_disk_fills_up_20_times(tmp_path):
    check(crash.trials("full", tmp_path, 20), 20)


@pytest.mark.slow
def test_killed_180_times(tmp_path):
    check(crash.trials("kill", tmp_path, 180), 180)


@pytest.mark.slow
def test_terminated_50_times(tmp_path):
    found = list(crash.trials("terminate", tmp_path, 50))
    check(found, 50)
    assert max(each["seconds"] for each in found) < 5


@pytest.mark.slow
def test_the_command_killed_20_times(tmp_path):
    check(crash.trials("command", tmp_path, 20), 20)
