"""Everything that the README shows is real output."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vlcheck.render.rulebook import list_rules
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
    assert len(blocks) == 2
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
