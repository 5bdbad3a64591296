"""A checkpoint is whole or it is none."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlcheck.training.checkpoint import (
    CheckpointNotWritten,
    Content,
    OtherRun,
    check_writable,
    find_newest,
    free_name,
    prune,
    publish,
    verify,
)
from vlcheck.training.manifest import MANIFEST, BrokenCheckpoint
from vlcheck.training.ours import folders

RUN = {"training.seed": 1}
CONTENT = Content(
    {"weights.safetensors": {"a": torch.arange(64.0), "b": torch.ones(3, dtype=torch.uint8)}}, {"state.json": "{}"}
)


def written(root: Path, step: int = 1, identity=RUN):
    return publish(free_name(root, step), step, CONTENT, identity)


def test_what_was_written_is_read(tmp_path):
    made = written(tmp_path)
    found = verify(made.folder)
    assert found == made
    assert torch.equal(found.tensors("weights.safetensors")["a"], torch.arange(64.0))
    assert found.text("state.json") == "{}"
    assert CONTENT.size == 64 * 4 + 3


@settings(max_examples=60)
@given(data=st.data())
def test_any_changed_bit_is_noticed(tmp_path_factory, data):
    """In any file, the manifest included."""
    folder = written(tmp_path_factory.mktemp("c")).folder
    file = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    content[place // 8] ^= 1 << place % 8
    file.write_bytes(content)
    with pytest.raises(BrokenCheckpoint, match=r"changed after|cannot be read"):
        verify(folder)


@settings(max_examples=60)
@given(data=st.data())
def test_any_cut_is_noticed(tmp_path_factory, data):
    """Wherever a file ends too early."""
    folder = written(tmp_path_factory.mktemp("c")).folder
    file = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = file.read_bytes()
    file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(BrokenCheckpoint, match=r"bytes; its manifest says|cannot be read"):
        verify(folder)


def test_a_missing_file_is_noticed(tmp_path):
    for name, reason in (("state.json", "cannot be read"), (MANIFEST, "never finished")):
        folder = written(tmp_path).folder
        (folder / name).unlink()
        with pytest.raises(BrokenCheckpoint, match=reason):
            verify(folder)


def test_the_newest_whole_one_is_found(tmp_path):
    """By number, not by name; broken ones are told."""
    for step in (2, 9, 10):
        written(tmp_path, step)
    (tmp_path / "checkpoint-10" / "state.json").write_text("{ }")
    (tmp_path / "checkpoint-11").mkdir()
    found = find_newest(tmp_path, RUN)
    assert found.checkpoint.step == 9
    assert [folder.name for folder in found.broken] == ["checkpoint-11", "checkpoint-10"]
    assert find_newest(tmp_path / "nothing", RUN).checkpoint is None


def test_another_run_is_refused(tmp_path):
    written(tmp_path, identity={"training.seed": 2, "lora.r": 8})
    with pytest.raises(OtherRun, match=r"lora\.r: 8 there, unset here; training\.seed: 2 there, 1 here"):
        find_newest(tmp_path, RUN)


def test_a_torn_folder_is_never_written_into(tmp_path):
    (tmp_path / "checkpoint-4").mkdir()
    made = written(tmp_path, 4)
    assert made.folder.name == "checkpoint-4-2"
    assert find_newest(tmp_path, RUN).checkpoint == made


@pytest.mark.parametrize(("keep", "left"), [(1, [8]), (2, [8, 6]), (None, [8, 6, 4, 2])])
def test_old_ones_go(tmp_path, keep, left):
    """Beyond the limit, and what a killed run never finished."""
    for step in (2, 4, 6):
        written(tmp_path, step)
    (tmp_path / "checkpoint-5").mkdir()
    newest = written(tmp_path, 8)
    prune(tmp_path, newest, keep)
    assert [verify(folder).step for folder in folders(tmp_path)] == left


@pytest.mark.parametrize("room", [0, 300, 700, 1100])
def test_a_full_disk_leaves_the_last_good_one(tmp_path, room):
    """Wherever the writing ends: the limit of a file's size stands for a disk's."""
    good = written(tmp_path, 2)
    large = Content({"weights.safetensors": {"a": torch.zeros(100)}, "more.safetensors": {"b": torch.zeros(300)}}, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        with pytest.raises(CheckpointNotWritten, match="checkpoint-4: "):
            publish(free_name(tmp_path, 4), 4, large, RUN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [folder.name for folder in folders(tmp_path)] == ["checkpoint-2"]
    assert find_newest(tmp_path, RUN).checkpoint == good


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or os.geteuid() != 0, reason="needs root, to make a disk of 64 KiB")
def test_a_really_full_disk(tmp_path):
    import subprocess

    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let a test mount a disk")
    try:
        good = written(tmp_path, 2)
        with pytest.raises(CheckpointNotWritten, match="No space left"):
            publish(free_name(tmp_path, 4), 4, Content({"w.safetensors": {"a": torch.zeros(64, 1024)}}, {}), RUN)
        assert find_newest(tmp_path, RUN).checkpoint == good
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_written_is_told_before(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointNotWritten, match="file"):
        check_writable(tmp_path / "file" / "run")


def test_the_manifest_says_what_the_run_was(tmp_path):
    manifest = json.loads((written(tmp_path).folder / MANIFEST).read_text())
    assert manifest["identity"] == RUN
    assert set(manifest["files"]) == {"weights.safetensors", "state.json"}


def test_a_broken_one_does_not_take_a_good_ones_place(tmp_path):
    """With two to keep, the newest and the one before the broken one stay."""
    for step in (2, 4):
        written(tmp_path, step)
    (tmp_path / "checkpoint-4" / "state.json").write_text("{ }")
    broken = find_newest(tmp_path, RUN).broken
    prune(tmp_path, written(tmp_path, 6), 2, broken)
    assert [folder.name for folder in folders(tmp_path)] == ["checkpoint-6", "checkpoint-4", "checkpoint-2"]
