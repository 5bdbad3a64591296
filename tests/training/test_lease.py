"""One writer at a time: who may have a folder, who waits, who is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.runs import run, small
from vlcheck.training.lease import (
    FolderTaken,
    Lease,
    LeaseLost,
    Owner,
    _file,
    _text,
    dead,
    machine,
    newest,
    on_object_storage,
    place,
    started,
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads processes in /proc")


def silent(line: str) -> None:
    pass


def planted(folder: Path, number: int = 1, **fields) -> Owner:
    """A lease that another process left."""
    owner = Owner("other", machine(), os.getpid(), started(os.getpid()) or "", place(folder))
    owner = replace(owner, **fields)
    _file(folder, number).write_bytes(_text(owner))
    return owner


def soon(happened: Callable[[], bool]) -> None:
    """Wait until something has happened."""
    end = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def lost(lease: Lease) -> bool:
    """Whether the lease's own thread has noticed that another has the folder."""
    try:
        lease.check_known()
    except LeaseLost as told:
        return "has taken it over; this run stops" in str(told)
    return False


def test_one_at_a_time(tmp_path):
    with Lease(tmp_path, silent) as first:
        with pytest.raises(FolderTaken, match=rf"another run \(process {os.getpid()}\) writes into it"):
            Lease(tmp_path, silent).__enter__()
        first.check()
    with Lease(tmp_path, silent) as second:
        second.check()
        with pytest.raises(LeaseLost):
            first.check()
    assert newest(tmp_path)[0] == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_a_number_is_given_out_once(tmp_path):
    """Of twelve that start at once on a folder that another has just left, one gets it."""
    with Lease(tmp_path, silent):
        pass
    held, refused, start = [], [], threading.Barrier(12)

    def take() -> None:
        start.wait()
        try:
            held.append(Lease(tmp_path, silent).__enter__())
        except FolderTaken:
            refused.append(1)

    threads = [threading.Thread(target=take) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 11)
    held[0].__exit__()


@LINUX
def test_a_dead_owner_of_this_machine_is_taken_over_at_once(tmp_path):
    """Its number is free, or belongs to a process that started later."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for fields in ({"process": ended.pid, "started": "1"}, {"started": "1"}):
        planted(tmp_path, newest(tmp_path)[0] + 1, **fields)
        begun = time.monotonic()
        with Lease(tmp_path, silent):
            assert time.monotonic() - begun < 5


@LINUX
def test_an_ended_child_that_nobody_waited_for_is_dead(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    while started(child.pid) is not None:
        time.sleep(0.01)
    assert dead(planted(tmp_path, process=child.pid, started="1"), tmp_path)
    child.wait()


def test_a_silent_owner_of_another_machine_is_waited_for(tmp_path):
    planted(tmp_path, machine="elsewhere")
    told: list[str] = []
    begun = time.monotonic()
    with Lease(tmp_path, told.append, expiry=0.5):
        assert 0.5 <= time.monotonic() - begun < 10
    assert len(told) == 1
    assert "waiting for its sign of life, 0.5 s at most" in told[0]


def test_an_owner_of_another_machine_that_renews_is_alive(tmp_path):
    """An overlapping retry is refused, and the owner goes on."""
    owner = planted(tmp_path, machine="elsewhere")
    timer = threading.Timer(0.3, lambda: _file(tmp_path, 1).write_bytes(_text(replace(owner, renewals=1))))
    timer.start()
    with pytest.raises(FolderTaken, match="of another machine"):
        Lease(tmp_path, silent, expiry=30).__enter__()
    timer.join()
    assert newest(tmp_path) == (1, replace(owner, renewals=1))


def test_a_released_lease_is_free_at_once(tmp_path):
    planted(tmp_path, machine="elsewhere", released=True)
    begun = time.monotonic()
    with Lease(tmp_path, silent):
        assert time.monotonic() - begun < 5


def test_a_copy_of_a_folder_is_not_held(tmp_path):
    (tmp_path / "run").mkdir()
    with Lease(tmp_path / "run", silent):
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        if machine():
            with Lease(tmp_path / "copy", silent):
                pass


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"schema": "vlcheck.lease/1", "process": "x"}'])
def test_a_lease_that_cannot_be_read_is_waited_for_shortly(tmp_path, content):
    """Its owner would write it anew at its next renewal."""
    _file(tmp_path, 3).write_bytes(content)
    begun = time.monotonic()
    with Lease(tmp_path, silent, expiry=60, renewal=0.2):
        assert 0.3 <= time.monotonic() - begun < 10
    assert newest(tmp_path)[0] == 4


def test_renewals_are_seen_and_a_lost_folder_is_noticed(tmp_path):
    lease = Lease(tmp_path, silent, renewal=0.05).__enter__()
    before = newest(tmp_path)[1].renewals
    soon(lambda: newest(tmp_path)[1].renewals > before)
    planted(tmp_path, 2)
    soon(lambda: lost(lease))
    lease.__exit__()
    assert not newest(tmp_path)[1].released


def test_a_deleted_lease_is_noticed(tmp_path):
    with Lease(tmp_path, silent) as lease:
        _file(tmp_path, 1).unlink()
        with pytest.raises(LeaseLost):
            lease.check()


@pytest.mark.parametrize(
    ("kind", "found"), [("fuse.gcsfuse", True), ("fuse.rclone", True), ("ext4", False), ("nfs4", False)]
)
def test_object_storage_is_told_by_its_mount(tmp_path, kind, found):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"none / overlay rw 0 0\nbucket {tmp_path} {kind} rw 0 0\n")
    assert on_object_storage(tmp_path / "run", mounts) is found


def test_a_second_run_is_refused_and_the_first_goes_on(tmp_path):
    """The second is started in the middle of the first, by the same settings."""
    spec, told = small(tmp_path, max_steps=2, gradient_accumulation_steps=1), []

    def say(line: str) -> None:
        if line.startswith("step 1/"):
            with pytest.raises(FolderTaken):
                run(spec)
            told.append(line)

    assert run(spec, say).steps == 2
    assert len(told) == 1


def test_a_run_that_lost_its_folder_writes_no_more(tmp_path):
    """Neither checkpoint nor adapter; the one who took it finds the folder as it was."""
    spec = small(tmp_path, max_steps=4, save_steps=2, gradient_accumulation_steps=1)

    def say(line: str) -> None:
        if line.startswith("step 2/"):
            planted(tmp_path, 9)

    with pytest.raises(LeaseLost):
        run(spec, say)
    steps = [json.loads(line).get("step") for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert max(step for step in steps if step) == 2
    assert not (tmp_path / "adapter").exists()
    assert not (tmp_path / "checkpoint-2").exists()
