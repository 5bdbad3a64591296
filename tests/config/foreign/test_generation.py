"""On which side a script pads what it generates from, read off its syntax tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlcheck.config.foreign.scripts.generation import generations
from vlcheck.config.foreign.scripts.source import read_source
from vlcheck.config.load import load
from vlcheck.engine import audit

SCRIPTS = Path(__file__).parents[3] / "fixtures" / "scripts"
RIGHT, LEFT = (f"p.padding_side = '{side}'" for side in ("right", "left"))
INPUTS = "inputs = processor(text=rows, padding=True)"
ANSWERS = "answers = model.generate(**inputs)"


@pytest.mark.parametrize(
    ("lines", "sides"),
    [
        (("processor.tokenizer.padding_side = 'right'", INPUTS, ANSWERS), ["right"]),
        (("processor.tokenizer.padding_side = 'left'", INPUTS, ANSWERS), ["left"]),
        (("processor = Auto.from_pretrained(name, padding_side='right')", INPUTS, ANSWERS), ["right"]),
        (("side = pick()", "processor.padding_side = side", INPUTS, ANSWERS), [""]),
        ((INPUTS, ANSWERS), [""]),  # the tokenizer's own
        (
            (RIGHT, LEFT, INPUTS, ANSWERS, RIGHT),
            ["left"],
        ),
        ((RIGHT, "inputs = processor(text=row)", ANSWERS), []),  # one row has no padding
        ((RIGHT, INPUTS, "loss = model(**inputs)"), []),
        (("def score():", f"    {INPUTS}", f"    {ANSWERS}", RIGHT), ["right"]),
        (
            (LEFT, "def score():", f"    {INPUTS}", f"    {ANSWERS}", RIGHT),
            [""],
        ),
        (("def collate():", f"    {INPUTS}", "def ask():", f"    {ANSWERS}", RIGHT), []),
    ],
)
def test_the_side_in_force(lines, sides, tmp_path):
    (tmp_path / "run.py").write_text("import torch\n" + "\n".join(lines) + "\n")
    found = generations(read_source(tmp_path / "run.py"))
    assert [call.side for call in found] == sides
    for call in found:
        assert "generate" in ("import torch", *lines)[call.where.line - 1]


@pytest.mark.parametrize(("side", "found"), [("left", []), ("right", [78])])
def test_a_published_script_and_its_fault(side, found, tmp_path):
    text = (SCRIPTS / "cloud-run-4.py").read_text("utf-8")
    script = tmp_path / "train.py"
    script.write_text(text.replace('padding_side = "left"', f'padding_side = "{side}"'))
    (outcome,) = audit(load(script), select=("VLC239",), offline=True).outcomes
    assert [finding.where.line for finding in outcome.findings] == found
    assert [examined.count for examined in outcome.examined] == [1]
