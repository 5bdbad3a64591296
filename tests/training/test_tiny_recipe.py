"""The recipe `tiny` from the command line, on a CPU, as docs/training.md shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.gates import gates

SESSION = Path(__file__).parents[2] / "fixtures" / "reports" / "tiny-session.txt"
SHOWN = {  # how many lines of a command's output are shown at its start and at its end
    "vlcheck init --recipe tiny tiny.yaml": (1, 0),
    "vlcheck train tiny.yaml": (5, 3),
    "vlcheck evaluate tiny.yaml": (5, 1),
    "vlcheck evaluate tiny.yaml --adapter tiny-shapes/adapter": (4, 1),
    "vlcheck compare tiny-shapes/evaluation-base tiny-shapes/evaluation": (99, 0),
}


@pytest.mark.slow
def test_the_whole_pipeline_on_a_cpu(tmp_path, request):
    """It learns its colours, and the untrained model knows none; `--update-golden` keeps what it printed."""
    session = "\n".join(f"$ {line}\n{shortened(ran(line, tmp_path), *shown)}" for line, shown in SHOWN.items())
    if request.config.getoption("--update-golden"):
        SESSION.write_text(session, "utf-8")
    base, tuned = (
        json.loads((tmp_path / "tiny-shapes" / name / "evaluation.json").read_text("utf-8"))
        for name in ("evaluation-base", "evaluation")
    )

    assert base["n"] == tuned["n"] == 120
    assert base["accuracy"] == 0.0
    assert tuned["accuracy"] >= gates()["tiny"]["least_accuracy"]


def test_the_session_is_of_these_commands():
    """The kept output was not left behind when the commands changed."""
    kept = SESSION.read_text("utf-8").splitlines()
    assert [line.removeprefix("$ ") for line in kept if line.startswith("$ ")] == list(SHOWN)


def ran(line: str, folder: Path) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", *line.split()], cwd=folder, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shortened(text: str, first: int, last: int) -> str:
    """The first and last lines of an output; `...` for what is left out."""
    lines = text.rstrip("\n").splitlines()
    if len(lines) > first + last:
        lines = [*lines[:first], "...", *lines[len(lines) - last :]]
    return "\n".join(lines) + "\n"
