"""A rehearsal's child process: it does not outlive its limits, and what it may not do is refused and listed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from vlcheck.rehearsal.parent import KEPT, run_child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits a process as Linux does")
WATCHED = """
import json, os, pathlib, socket, subprocess, sys
from vlcheck.rehearsal.stage import Stage
from vlcheck.rehearsal.watch import watch
scratch = pathlib.Path(sys.argv[1])
stage = Stage(scratch / "train.py", "train.py", scratch, 8, {})
watch(stage)
"""


def python(code: str, scratch: Path, seconds: int = 20) -> tuple[str, int | None]:
    return run_child([sys.executable, "-c", code, str(scratch)], scratch, seconds)


def alive(process: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_child_and_its_forks_end_with_their_time(tmp_path):
    """One that ignores signals, and a fork of it that has closed its streams."""
    code = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if (fork := os.fork()) == 0:
    os.closerange(0, 3)
    time.sleep(600)
pathlib.Path(sys.argv[1], "pids").write_text(f"{os.getpid()} {fork}")
time.sleep(600)
"""
    begun = time.monotonic()

    _, ended = python(code, tmp_path, seconds=2)

    assert ended is None
    assert time.monotonic() - begun < 20
    time.sleep(0.2)
    assert not any(alive(int(process)) for process in (tmp_path / "pids").read_text().split())


def test_a_flood_of_output_keeps_its_end(tmp_path):
    """Sixteen mebibytes come in; the last of it stays."""
    output, ended = python("print('x' * 2**24); print('the end')", tmp_path)

    assert ended == 0
    assert len(output) <= KEPT
    assert output.endswith("the end\n")


def test_what_a_script_may_not_do_is_refused_and_listed(tmp_path):
    """Files outside the folder, network, programs, leaving the group; files inside and reading are let be."""
    (tmp_path / "kept.txt").write_text("kept")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = (
        WATCHED
        + """
def tried(*acts):
    told = []
    for act in acts:
        try:
            act()
            told.append("done")
        except OSError as error:
            told.append(type(error).__name__)
    return told

outside = scratch.parent / "kept.txt"
os.symlink(outside, scratch / "link")
told = tried(
    lambda: (scratch / "own.txt").write_text("own"),
    lambda: outside.read_text(),
    lambda: outside.write_text("gone"),
    lambda: (scratch / "link").write_text("gone"),
    lambda: os.open(outside, os.O_WRONLY | os.O_TRUNC),
    lambda: outside.unlink(),
    lambda: outside.rename(scratch / "taken"),
    lambda: (scratch.parent / "made").mkdir(),
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: subprocess.run(["true"]),
    lambda: os.system("true"),
    lambda: os.setsid(),
)
stage.write({"told": told})
"""
    )

    output, _ = python(code, scratch)

    found = json.loads((scratch / "result.json").read_text())
    assert found["told"] == [
        "done", "done", *["PermissionError"] * 6, "ConnectionRefusedError", *["PermissionError"] * 3,
    ], output  # fmt: skip
    assert (tmp_path / "kept.txt").read_text() == "kept"
    assert [line.partition(":")[0] for line in found["refused"]] == [
        "writing", "os.remove", "os.rename", "os.mkdir", "network", "another program", "another program",
        "leaving the process group",
    ]  # fmt: skip


def test_the_working_folder_is_seen_through_links(tmp_path, monkeypatch):
    """Relative names are read as ever, and what is written stays in the rehearsal's folder."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "train.jsonl").write_text("rows")
    monkeypatch.chdir(tmp_path / "work")
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    output, _ = python("print(open('train.jsonl').read()); open('log.txt', 'w').write('.')", scratch)

    assert output == "rows\n"
    assert [each.name for each in (tmp_path / "work").iterdir()] == ["train.jsonl"]
