"""Several processes: one line for all of them, a death that is told, a resume by another number of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from tests.training import crash
from tests.training.runs import parts, run, small
from tests.training.test_loss import free_port, join
from vlcheck.cli.quiet import working
from vlcheck.data.conversation import BadRow
from vlcheck.training.checkpoint import OtherRun
from vlcheck.training.record import METRICS, read_metrics
from vlcheck.training.watch import ProcessLost, RunStopped

FORKS = pytest.mark.skipif(sys.platform != "linux", reason="forks a process with imported libraries")


@pytest.mark.parametrize(
    ("number", "stopped", "said"),
    [
        ("0", OtherRun("written by another run"), "error: written by another run\n"),
        ("1", OtherRun("written by another run"), ""),
        ("1", ProcessLost("another process has ended"), ""),
        ("1", BadRow("rows.jsonl:6: no image"), "error: process 1: rows.jsonl:6: no image\n"),
        ("3", RunStopped("one process has no usable row"), "error: process 3: one process has no usable row\n"),
    ],
)
def test_what_all_processes_meet_with_is_said_once(monkeypatch, capfd, number, stopped, said):
    """What one of them met with is said by that one, with its number."""
    monkeypatch.setenv("RANK", number)
    with pytest.raises(typer.Exit) as exit_, working(debug=False):
        raise stopped

    assert exit_.value.exit_code == 2
    assert capfd.readouterr().err == said


def test_a_config_that_no_process_can_use_is_said_once(monkeypatch, vlcheck, tmp_path):
    (tmp_path / "run.yaml").write_text("model: 7\n")
    told = []
    for number in ("0", "1"):
        monkeypatch.setenv("RANK", number)
        code, out, err = vlcheck("train", "run.yaml")
        told.append((code, out, bool(err)))

    assert told == [(2, "", True), (2, "", False)]


def as_rank(rank: int, port: int, spec) -> int:
    """Fork one of two processes of a run; it ends with `STOPPED` where it has a reason to tell."""
    if number := os.fork():
        return number
    try:
        join(rank, port)
        run(spec)
        os._exit(0)
    except ProcessLost:
        os._exit(crash.STOPPED)
    except BaseException:
        os._exit(1)


@FORKS
def test_a_run_that_lost_a_process_says_so_and_goes_on_with_one(tmp_path):
    """No finished step is lost, and the effective batch stays."""
    folder = tmp_path / "run"
    parts()
    port, spec = free_port(), small(folder, max_steps=30, save_steps=99, gradient_accumulation_steps=1)
    first, second = (as_rank(rank, port, spec) for rank in range(2))
    while crash.last_step(folder) < 2 and not crash.over(first):
        time.sleep(0.02)
    os.kill(second, signal.SIGKILL)

    assert [crash.ended(first), crash.ended(second)] == [crash.STOPPED, -signal.SIGKILL]
    last = crash.last_step(folder)
    assert crash.whole_steps(folder)[0] == last >= 2
    alone = small(folder, max_steps=30, save_steps=99, gradient_accumulation_steps=2)
    said: list[str] = []

    class Enough(Exception):
        pass

    def say(line: str) -> None:
        said.append(line)
        if line.startswith(f"step {last + 2}/"):
            raise Enough

    with pytest.raises(Enough):
        run(alone, say)
    assert any("accumulation 2 after 1, processes 1 after 2" in line for line in said)
    assert [values["step"] for values in read_metrics(folder)] == list(range(1, last + 3))
    events = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    assert [event["after"] for event in events if event.get("event") == "resumed"] == [last]


@pytest.mark.slow
def test_two_against_one_on_a_cpu(tmp_path):
    """The script that two GPUs run: SIGTERM to the launcher, a killed process, one that goes on; gloo."""
    own = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.gpu.two_gpus", str(tmp_path), "--cpu"]
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["parted_is_one"] is True
