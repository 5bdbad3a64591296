"""Room on the disk: what a run needs, what a resume needs, what it leaves."""

from __future__ import annotations

import json
import resource
import shutil
import signal
from dataclasses import replace

import pytest

from tests.training.runs import Cut, digest, interrupted, run, small
from tests.training.test_faulty_data import spec_of, table
from vlcheck.training import room
from vlcheck.training.checkpoint import CheckpointNotWritten
from vlcheck.training.ours import folders
from vlcheck.training.record import Record
from vlcheck.training.watch import RunStopped


class Disk:
    """A disk of so many bytes, as `shutil.disk_usage` tells of it."""

    def __init__(self, root, total: int) -> None:
        self.root, self.total = root, total

    @property
    def free(self) -> int:
        return self.total - sum(file.stat().st_size for file in self.root.rglob("*") if file.is_file())


def test_a_resume_needs_no_more_room_than_its_run(tmp_path, monkeypatch):
    """Checkpoints that it will prune are there already."""
    root = tmp_path / "run"
    spec = small(root, max_steps=6, save_total_limit=2, gradient_accumulation_steps=1)
    root.mkdir()
    seen: list[int] = []
    interrupted(spec, 4)
    each = sum(file.stat().st_size for file in (root / "checkpoint-4").iterdir())
    total = int(each * 3.6)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: seen.append(1) or Disk(root, total))
    assert run(spec).resumed_from == 4
    assert seen
    shutil.rmtree(root)
    run(spec)
    shutil.rmtree(root)
    total = int(each * 1.5)
    with pytest.raises(CheckpointNotWritten, match="3 checkpoints and the adapter take"):
        run(spec)


def test_no_checkpoint_is_left_where_none_is_wanted(tmp_path, whole_run):
    """Not after the first step, and not after an interruption that was taken up."""
    spec = small(tmp_path / "run", save_strategy="no")

    def say(line: str) -> None:
        if line.startswith("step 3/"):
            raise Cut

    with pytest.raises(Cut):
        run(spec, say)
    assert [folder.name for folder in folders(tmp_path / "run")] == ["checkpoint-3"]
    assert run(spec).resumed_from == 3
    assert folders(tmp_path / "run") == []
    assert digest(tmp_path / "run") == digest(whole_run)


def test_a_run_that_learns_nothing_fails(tmp_path):
    """Every row is longer than the run allows, and dropped."""
    (tmp_path / "data").mkdir()
    path = table({"image": "sound.png", "label": "red"})(tmp_path / "data")
    spec = spec_of(path, tmp_path / "run", max_length=20, overflow="drop")
    with pytest.raises(RunStopped, match="nothing was learnt: every row of all 1 steps was left out"):
        run(replace(spec, training=replace(spec.training, gradient_accumulation_steps=2)))
    assert not (tmp_path / "run" / "adapter").exists()


def test_an_interruption_before_the_summary_is_made_up_for(tmp_path, finished):
    """The adapter is there, the process died before it wrote run.json and the curve."""
    spec, folder = finished(), tmp_path / "run"
    before = json.loads((folder / "run.json").read_text())
    for name in ("run.json", "loss.png"):
        (folder / name).unlink()
    told: list[str] = []
    run(spec, told.append)
    after = json.loads((folder / "run.json").read_text())
    assert (folder / "loss.png").stat().st_size > 1000
    assert told[-1].startswith("nothing to do: ")
    assert after.keys() == before.keys()
    for each in (before, after):  # a copy lies elsewhere
        del each["settings"]["training.output_dir"]
    differing = {key for key in before if before[key] != after[key]}
    assert differing <= {"seconds", "adapter"}
    assert after["seconds"] == pytest.approx(before["seconds"], rel=0.5)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run(small("~/run", max_steps=1))
    assert (tmp_path / "run" / "adapter").is_dir()


@pytest.mark.parametrize("size", [300, 1500])
def test_a_record_that_the_disk_refuses_ends_the_run_by_name(tmp_path, size):
    """One reason, not a second error from closing the file; the limit of a file's size stands for a disk's."""
    spec = small(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    record = Record(tmp_path, 4, lambda line: None, spec, {})
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        with pytest.raises(CheckpointNotWritten, match=r"metrics\.jsonl: File too large$"):
            told_often(record)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def told_often(record: Record) -> None:
    with record:
        for _ in range(8):
            record.event("warning", "x" * 250)
