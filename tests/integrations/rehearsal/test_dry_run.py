"""`vlcheck dry-run` on whole scripts: found with their causes, and every way in which a script can end."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.integrations import live_samples as live
from vlcheck.config.foreign.scripts.source import read_source
from vlcheck.finding import Finding
from vlcheck.integrations.places import collator_at
from vlcheck.integrations.rehearsal.stage import Stage
from vlcheck.reports.baseline import Baseline, Entry, render_baseline
from vlcheck.reports.fingerprints import same_finding
from vlcheck.rules.choosing import find
from vlcheck.spec import Location

SCRIPTS = Path(__file__).parent / "scripts"
ROOT = Path(__file__).parents[3]
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A working folder with rows and their images."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "img").mkdir()
    lines = []
    for number, row in enumerate(live.rows(6)):
        row["images"][0].save(folder / "img" / f"{number}.png")
        lines.append(json.dumps({"messages": row["messages"], "images": [f"img/{number}.png"]}))
    (folder / "train.jsonl").write_text("\n".join(lines))
    return folder


def dry_run(work: Path, *words: str | Path) -> tuple[int, str, str]:
    """Exit code, report and what is said beside it."""
    done = subprocess.run(
        [sys.executable, "-m", "vlcheck", "dry-run", *map(str, words)],
        cwd=work, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def found(work: Path, *words: str | Path) -> tuple[int, set[str]]:
    """Exit code, and errors that no other explains."""
    code, out, err = dry_run(work, "--format", "json", *words)
    assert out, err
    outcomes = json.loads(out)["outcomes"]
    return code, {
        each["code"]
        for each in outcomes
        if each["verdict"] == "found" and each["severity"] == "error" and not each.get("explained_by")
    }


@slow
def test_a_newcomer_s_script(work):
    """TRL's default collator, the memory verdict for the card, and what was replaced; nothing of the folder changes."""
    before = sorted(each.name for each in work.iterdir())

    code, out, err = dry_run(work, "--gpu", "l4", SCRIPTS / "trl_default.py")

    assert code == 1, err
    assert "error VLC207 everything-supervised" in out
    assert "trl_default.py:1" in out
    assert "card L4" in out
    assert "VLC406" not in out  # reentrant, and TRL makes the inputs need gradients
    assert "replaced: Qwen/Qwen2.5-VL-7B-Instruct: Qwen2_5_VLForConditionalGeneration in miniature, quantised" in out
    assert "native code is not contained" in out
    assert sorted(each.name for each in work.iterdir()) == before


@slow
def test_a_project_s_terms(work, tmp_path):
    """Its rules, severities and baseline, looked for from the script upward, hold where the script is run."""
    for each in work.iterdir():
        (tmp_path / each.name).symlink_to(each)
    (tmp_path / "train.py").write_text((SCRIPTS / "trl_default.py").read_text("utf-8"))
    project = '[tool.vlcheck]\nselect = ["VLC207", "VLC5"]\n'
    (tmp_path / "pyproject.toml").write_text(f'{project}severity = {{VLC207 = "note"}}\n')
    code, out, err = dry_run(tmp_path, "train.py")

    assert code == 0, err
    assert "note VLC207 everything-supervised" in out
    (tmp_path / "pyproject.toml").write_text(project)
    code, out, err = dry_run(tmp_path, "--format", "json", "train.py")
    assert code == 1, err
    (found,) = (finding for outcome in json.loads(out)["outcomes"] for finding in outcome["findings"])
    place = Location(*(found["where"].get(part) for part in ("file", "line", "column", "key")))
    entry = Entry("train.py", "VLC207", same_finding(find("VLC207"), Finding(found["message"], place)), "")
    (tmp_path / "known.json").write_text(render_baseline(Baseline(tmp_path / "known.json", (entry,))))
    (tmp_path / "pyproject.toml").write_text(f'{project}baseline = "known.json"\n')
    assert dry_run(tmp_path, "train.py")[0] == 0


def test_a_notebook_s_collator_has_its_cell_s_line(tmp_path):
    """No file holds the lines of a notebook; the place is that of the cell all the same."""
    cells = ["import os", "x = 1\ndef collate(rows):\n    return rows"]
    document = {"nbformat": 4, "cells": [{"cell_type": "code", "source": [cell]} for cell in cells]}
    notebook = tmp_path / "n.ipynb"
    notebook.write_text(json.dumps(document))
    stage = Stage(notebook, "n.ipynb", tmp_path, 8, {}, source=read_source(notebook))
    names: dict = {}
    exec(compile(ast.Module(list(stage.source.body), []), stage.code_name, "exec"), names)

    (place,) = collator_at(partial(names["collate"]), stage.place_in, stage.wrote).values()
    assert str(place) == "n.ipynb:cell 2:2"
    assert collator_at(json.loads, stage.place_in, stage.wrote) == {}
    assert collator_at(None) == {}


FAULTS = {
    "none": set(),
    "optimizer-first": {"VLC003"},
    "twice": {"VLC001"},
    "frozen-after": {"VLC002"},
    "wrapper": {"VLC104"},
    "checkpointing": {"VLC406"},
    "images-dropped": {"VLC006"},
    "off-by-one": {"VLC212"},
    "other-tokenizer": {"VLC005"},
    "other-pixels": {"VLC011"},
    "no-train-mode": {"VLC007"},
}


@slow
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_a_script_are_found(work, fault):
    assert found(work, SCRIPTS / "faults.py", fault) == (int(bool(FAULTS[fault])), FAULTS[fault])


@slow
@pytest.mark.parametrize(
    ("words", "codes"),
    [
        (("plain_loop.py",), set()),
        (("plain_loop.py", "--early"), {"VLC003"}),
        (("brothers.py", "none"), set()),
        (("brothers.py", "class-patched"), {"VLC104"}),
        (("brothers.py", "mapped"), {"VLC006"}),
        (("brothers.py", "copied"), {"VLC003"}),
        (("brothers.py", "evaluating"), {"VLC007"}),
        (("brothers.py", "late"), {"VLC212"}),
        (("accelerate_loop.py",), set()),
        (("accelerate_loop.py", "--freeze"), {"VLC002"}),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_loops_are_stopped_at_their_first_step(work, words, codes):
    script, *arguments = words
    assert found(work, SCRIPTS / script, *arguments) == (int(bool(codes)), codes)


@slow
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("import sys\nsys.exit(3)", "the script ended with sys.exit(3) before its first step"),
        ("import os\nos._exit(4)", "the script's process ended with code 4 before its first step"),
        ("import unsloth", "script.py:1: the script needs unsloth, which is not installed here"),
        ("print(1 / 0)", "script.py:1: ZeroDivisionError: division by zero"),
        ("x = 1", "the script ended before its first step"),
        ("x = [bytearray(2**28) for _ in range(64)]", "script.py:1: MemoryError"),
        ("while True: print('x' * 10**6)", "did not reach its first step within 40 s, and was killed"),
        (
            "import sys, io\nsys.stdout = sys.stderr = io.StringIO()\nfrom datasets import load_dataset\n"
            "load_dataset('somebody/receipts')",
            "script.py:4: ",
        ),
    ],
    ids=["sys.exit", "os._exit", "unsloth", "raises", "ends", "memory", "flood", "replaced stdout, no data"],
)
def test_every_way_to_end_is_told_in_a_line(work, tmp_path, body, told):
    script = tmp_path / "script.py"
    script.write_text(body)

    seconds = "40" if "while True" in body else "300"
    code, out, err = dry_run(work, "--seconds", seconds, "--script-gib", "4", script)

    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1], err
    assert "internal error" not in err


def test_a_script_that_is_not_there(vlcheck):
    assert vlcheck("dry-run", "none.py") == (
        2,
        "",
        "error: none.py is no file; allowed: a Python script or a notebook\n",
    )
