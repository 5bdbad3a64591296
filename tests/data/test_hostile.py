"""The command line on a folder of hostile files: an answer in time, each row by name, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import FAULTS, write_sound

HOSTILE = (
    "truncated JPEG", "50,000 x 50,000 PNG header", "zero-byte file", "HTML named .jpg", "PostScript named .jpg",
    "symlink loop", "named pipe", "folder named .jpg", "unpaired surrogate", "surrogate in a path", "control character",
    "no UTF-8", "broken JSON", "name too long",
)  # fmt: skip
CONFIG = """
model: {id: google/gemma-4-31B-it}
lora: {target_modules: all-linear}
data: {path: data, eval_split: test, instruction: Which breed is this?}
"""
SECONDS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "run.yaml").write_text(CONFIG)
    data = write_sound(folder / "data")
    return folder, {name: FAULTS[name].plant(data) for name in HOSTILE}


def audited(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vlcheck", "audit", "run.yaml", "--select", "VLC5", "--offline", *options]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200"},
    )  # fmt: skip


def test_every_hostile_row_is_named(folder, vlcheck):
    """The JSON report lists each with its code; the exit code is that of findings."""
    where, planted = folder
    assert_named(planted, *vlcheck("audit", where / "run.yaml", "--select", "VLC5", "--offline", "--format", "json"))


@pytest.mark.slow
def test_every_hostile_row_is_named_in_time(folder):
    """The same in a process of its own, whose pipes have the encoding of the machine."""
    where, planted = folder
    done = audited(where, "--format", "json")
    assert_named(planted, done.returncode, done.stdout, done.stderr)


def assert_named(planted: dict[str, str], code: int, out: str, err: str) -> None:
    assert (code, err) == (1, "")
    report = json.loads(out)
    told = json.dumps(report, ensure_ascii=False)
    for name, row in planted.items():
        assert f"{row} (" in told or f"{row}: " in told, name
    found = {outcome["code"] for outcome in report["outcomes"] if outcome["verdict"] == "found"}
    assert found == {"VLC501", "VLC519"}


def test_text_report_is_harmless(folder, vlcheck, monkeypatch):
    """No control character and no surrogate reaches the terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = vlcheck("audit", folder[0] / "run.yaml", "--select", "VLC5", "--offline")
    assert (code, err) == (1, "")
    assert all(sign.isprintable() or sign == "\n" for sign in out)
