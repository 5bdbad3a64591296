"""The table of verdicts: sound collators pass without error or warning, each wrong one is found for its own reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.broken.table import GEMMA3, GRIDS, INTERN, LIGHT, SMOL, SOUND, TABLE, WRONG, Entry, processor
from vlcheck import Severity, check_collator
from vlcheck.finding import Verdict

PAGE = Path(__file__).parents[2] / "docs" / "labels.md"
TRIED = {"VLC204", "VLC215", "VLC216", "VLC219", "VLC223", "VLC224", "VLC229", "VLC235"}
"""Rules that run a tiny model: where a row's verdict does not need them, they wait for `pytest -m slow`."""

TRIED_ON = {"padded on the left": GEMMA3, "end token left out": INTERN, "last row dropped": SMOL}
"""The rows that are tried on a family of many tiles or pixels, beside those that apply to no other."""
GRIDLESS = 7
"""Of so many rows, one is tried on the family whose tower looks at every image in full."""


def _family(number: int, entry: Entry) -> str:
    """The family that a collator is tried on by default: each comes up, those of many tiles or pixels seldom."""
    quick = [name for name in GRIDS if name in entry.families]
    light = [name for name in LIGHT if name in entry.families]
    if entry.name in TRIED_ON or not light:
        return TRIED_ON.get(entry.name, entry.families[0])
    return light[0] if not quick else quick[number % len(quick)] if number % GRIDLESS else light[-1]


def _kept() -> set[str]:
    """Names of the rows judged by default: every second sound one; of the wrong, the first of each cause."""
    return {entry.name for entry in SOUND[::2]} | {entry.name for entry in {e.roots: e for e in WRONG[::-1]}.values()}


SHORT = tuple((entry, _family(number, entry)) for number, entry in enumerate(TABLE))
KEPT = _kept() | TRIED_ON.keys()
"""The other rows wait for `pytest -m slow`."""
OTHERS = tuple((entry, family) for entry in TABLE for family in entry.families)


def named(pairs, kept=frozenset(entry.name for entry in TABLE)):
    """A test a row, those that are not kept at `-m slow` alone."""
    return [
        pytest.param(entry, family, id=f"{entry.name}, {family.rpartition('/')[2]}",
                     marks=() if entry.name in kept else pytest.mark.slow)
        for entry, family in pairs
    ]  # fmt: skip


@pytest.mark.parametrize(("entry", "family"), named(SHORT, KEPT))
def test_verdict(entry, family):
    """On one family each, without the tiny model where the verdict does not need it."""
    judged(entry, family, () if entry.model else TRIED - (entry.roots & {"VLC235"}))


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "family"), named(OTHERS))
def test_verdict_in_every_family(entry, family):
    """On every family where it applies, by all rules."""
    judged(entry, family, ())


def judged(entry: Entry, family: str, ignored) -> None:
    report = check_collator(entry.make(family), processor(family), entry.rows, model=family, ignore=tuple(ignored))

    assert [outcome.reason for outcome in report.with_verdict(Verdict.ERROR)] == []
    causes = {o.rule.code for o in report.found(Severity.WARNING) if not o.explained_by}
    if entry.roots:
        assert causes & entry.roots, causes
        assert causes <= entry.roots, causes
    else:
        assert causes == set(), [o.findings[0].message for o in report.found(Severity.WARNING)]


def test_the_table_is_as_large_as_it_says():
    """At least 80 collators, 30 of them sound, over seven families."""
    assert len(SOUND) >= 30
    assert len(TABLE) >= 80
    assert len({family for _, family in SHORT}) >= 7


def test_every_cause_and_family_is_judged_by_default():
    """What waits for `-m slow` has the cause of a row that does not; half of the sound rows are judged."""
    kept = [(entry, family) for entry, family in SHORT if entry.name in KEPT]

    assert {entry.roots for entry, _ in kept} == {entry.roots for entry in TABLE}
    assert {family for _, family in kept} == {family for _, family in SHORT}
    assert sum(not entry.roots for entry, _ in kept) * 2 >= len(SOUND)


def test_every_row_stands_in_the_page():
    """The page lists every collator with its verdict, in this order."""
    _, _, section = PAGE.read_text("utf-8").partition("## Table of verdicts\n")
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]

    assert lines == [f"| {entry.name} | {' or '.join(sorted(entry.roots)) or 'sound'} |" for entry in TABLE]
    assert f"{len(TABLE)} collators" in section
    assert f"{len(WRONG)} wrong" in section
