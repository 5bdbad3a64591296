"""A run that was interrupted ends where it would have ended."""

from __future__ import annotations

import json
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.runs import Cut, digest, interrupted, run, small
from vlcheck.spec import RunSpec
from vlcheck.training.checkpoint import OtherRun
from vlcheck.training.ours import folders
from vlcheck.training.record import read_metrics

SIMPLER = ("adamw_torch_fused", "sgd", "adafactor")
"""Optimizers whose state is kept like that of another."""


def check_taken_up(spec: RunSpec, whole: Path) -> None:
    """Take an interrupted run up; its adapter and losses are the whole one's to the last bit, dropout included."""
    folder, told = Path(spec.training.output_dir), []
    assert run(spec, told.append).resumed_from == 2
    assert any("checkpoint-2" in line for line in told)
    assert digest(whole) == digest(folder)
    losses = [[m["loss"] for m in read_metrics(each)] for each in (whole, folder)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


def test_resumed_equals_uninterrupted(whole_run, parted):
    """AdamW, two micro-batches a step; dropout and data order go on where they were."""
    check_taken_up(parted(), whole_run)


@pytest.mark.parametrize("optim", [
    "paged_adamw_8bit", *(pytest.param(name, marks=pytest.mark.slow) for name in SIMPLER),
])  # fmt: skip
def test_resumed_equals_uninterrupted_with_another_optimizer(tmp_path, optim):
    whole, cut = (small(tmp_path / name, gradient_accumulation_steps=1, optim=optim) for name in ("whole", "cut"))
    run(whole)
    interrupted(cut, 2)
    check_taken_up(cut, tmp_path / "whole")


def test_an_exception_keeps_the_last_finished_step(tmp_path):
    """Whatever ends the loop, the step that was finished before is on disk."""
    spec = small(tmp_path / "run", save_steps=99, gradient_accumulation_steps=1)

    def say(line: str) -> None:
        if line.startswith("step 3/"):
            raise Cut

    with pytest.raises(Cut):
        run(spec, say)
    assert run(spec).resumed_from == 3


def test_a_finished_run_is_not_trained_again(tmp_path, finished):
    spec = finished()
    before = digest(tmp_path / "run")
    told: list[str] = []
    assert run(spec, told.append).resumed_from == 4
    assert told == [f"nothing to do: {tmp_path / 'run' / 'adapter'} is the adapter that this very run has left"]
    assert digest(tmp_path / "run") == before


def test_another_run_is_refused(parted):
    """A checkpoint of other settings is never taken up, and the message names each setting."""
    spec = parted()
    other = replace(spec, training=replace(spec.training, learning_rate=1e-4))
    with pytest.raises(OtherRun, match=r"training\.learning_rate: 0\.005 there, 0\.0001 here"):
        run(other)


def test_settings_that_teach_nothing_may_change(parted):
    spec = parted()
    assert run(replace(spec, training=replace(spec.training, save_steps=3, logging_steps=7))).resumed_from == 2


def test_half_a_metrics_line_is_survived(tmp_path, parted):
    spec = parted()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    run(spec)
    assert [m["step"] for m in read_metrics(tmp_path / "run")] == [1, 2, 3, 4]


def test_broken_checkpoints_are_passed_over(tmp_path):
    """The newest is cut short: the one before is taken, and the log says why."""
    spec = small(tmp_path / "run", max_steps=5, save_total_limit=3, gradient_accumulation_steps=1)
    interrupted(spec, 4)
    file = tmp_path / "run" / "checkpoint-4" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    told: list[str] = []
    assert run(spec, told.append).resumed_from == 2
    assert any("optimizer.safetensors has" in line for line in told)
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert "broken-checkpoint" in {event.get("event") for event in events}


def test_a_disk_that_takes_no_checkpoint_does_not_end_the_run(tmp_path, whole_run):
    """It is said at each one; the adapter, which is smaller, is still there at the end. A limit stands for the disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    told: list[str] = []
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
        run(small(tmp_path / "full"), told.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [line.split(": ")[1] for line in told if "not written" in line] == ["checkpoint not written"] * 3
    assert folders(tmp_path / "full") == []
    assert digest(tmp_path / "full") == digest(whole_run)
