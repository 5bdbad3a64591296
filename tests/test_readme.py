"""Everything that the README shows is real output."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vlcheck.reports.rulebook import list_rules
from vlcheck.rules import every_rule

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"<!-- (?P<source>.+?) -->\n```text\n(?P<shown>.*?)```", re.DOTALL)


def output(source: str) -> str:
    """What a marked block must show: a golden report, or the list of rules."""
    return list_rules(every_rule()) if source == "vlcheck rules" else (ROOT / source).read_text("utf-8")


def test_shown_output_is_real(request):
    """Each marked block equals its source; `--update-golden` writes it."""
    text = README.read_text("utf-8")
    if request.config.getoption("--update-golden"):
        text = BLOCK.sub(lambda m: f"<!-- {m['source']} -->\n```text\n{output(m['source'])}```", text)
        README.write_text(text, "utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == 3
    for block in blocks:
        assert block["shown"] == output(block["source"])


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", README.read_text("utf-8")))))
def test_named_tests_exist(name):
    """Every test that the README leans on is there."""
    assert any(f"def {name}(" in path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


def test_named_rows_exist():
    """Every row that the popular story's table names is a row of that test."""
    from tests.rules.test_popular_story import ROWS

    table = README.read_text("utf-8").partition("## What the popular account")[2].partition("\n## ")[0]
    named = set(re.findall(r"\| `([a-z][^`_]*)` \|", table))
    assert len(named) == 6
    assert named <= {row.name for row in ROWS}


def test_figures_of_the_31b_run_are_the_measured_ones():
    """What the README says of the run on an H100 is what its file holds."""
    run = json.loads((ROOT / "fixtures/measured/2026-11-24-h100-train-31b.json").read_text("utf-8"))
    upper = run["memory"][0][0]["upper"]
    said = (
        f"peak {max(run['peaks']) / 2**30:.2f} GiB allocated, the plan's upper bound {upper / 2**30:.2f}",
        f"a checkpoint of {run['checkpoint_bytes'] / 2**30:.1f} GiB written in {min(run['save']):.1f} to "
        f"{max(run['save']):.1f} s",
        f"{run['ended_after']:.1f} s from SIGTERM to the end of the process",
        f"Taken up after step {run['last_before']}",
    )

    text = " ".join(README.read_text("utf-8").split())
    assert [figure for figure in said if figure not in text] == []
    assert run["losses_parted"] == run["losses_whole"]


def test_recipes_are_named():
    """Every recipe that ships, the starter aside, is in the README, and no other."""
    from importlib.resources import files

    shipped = {Path(file.name).stem for file in (files("vlcheck") / "recipes").iterdir()} - {"starter"}
    text = README.read_text("utf-8")
    named = set(re.findall(r"`(gemma[34]-\w+-pet[\w-]*|tiny)`", text))
    assert named == shipped
