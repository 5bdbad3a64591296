"""What the label rules say about the rows that a collator made, each sentence written once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from vlcheck.collators.region_kinds import Region
from vlcheck.finding import Finding, Json, Severity, Unavailable, Weight

if TYPE_CHECKING:
    from vlcheck.collators.judge import CollatorChecks
    from vlcheck.collators.rows import RowCheck
    from vlcheck.spec import Location, RunSpec

SHOWN = 3
"""Rows that a message names."""


def rows_of(checks: CollatorChecks, *, beyond: bool = False) -> Sequence[RowCheck]:
    """Rows to judge: those that the run can meet, and with `beyond` those with more soft tokens too."""
    rows = [row for row in checks.rows if row.met and (beyond or not row.beyond)]
    if not rows:
        raise Unavailable(no_rows(checks), "make the collator return a batch for them")
    return rows


def no_rows(checks: CollatorChecks) -> str:
    """Why there is no row to judge."""
    if checks.merged:
        return "the collator packs rows together, so its labels cannot be told apart by row; see VLC223 and VLC231"
    return "the collator made no batch of these conversations, see VLC225"


def where(spec: RunSpec, checks: CollatorChecks) -> Location:
    """The place that chose the collator."""
    if checks.ours:
        return spec.where("data")
    own = "data.collator" in spec.sources or spec.data.collator is not None or spec.own_loop
    return spec.where("data.collator" if own else "training.framework")


DEFAULTS = Weight(
    Severity.WARNING, "it is what the named framework does with such rows by default, and not your choice or your code"
)


def weighed(finding: Finding, checks: CollatorChecks, *, cause: bool = True) -> Finding:
    """A finding about what is supervised; about a framework's own default it is milder, and says so.

    Args:
        cause: tell whose default it is and what to set instead; a symptom leaves that to its cause.
    """
    row = checks.default
    if row is None:
        return finding
    finding = replace(finding, severity=DEFAULTS.severity)
    if not cause:
        return finding
    example = f", {row.example} too" if row.example else ""
    told = f"{finding.message}; {row.title} does so unless it is told otherwise ({row.supervises.source}){example}"
    return replace(finding, message=told, fix=row.answers_alone.value or finding.fix)


def names(rows: Sequence[RowCheck]) -> str:
    """The first rows by name, and how many more."""
    return first_of([row.name for row in rows])


def first_of(names: Collection[str]) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - SHOWN:,} more rows" if len(names) > SHOWN else ""
    return "; ".join(islice(names, SHOWN)) + more


def distance(number: int | None) -> str:
    """A number of ids with its sign."""
    return "nowhere" if number is None else f"{number:+d} ids" if number else "0 ids"


def measured(rows: Sequence[RowCheck], worst: RowCheck) -> dict[str, Json]:
    """What the worst row supervises, region by region."""
    supervised: dict[str, Json] = {
        f"supervised {region.name.lower()} ids": worst.supervised[region]
        for region in Region
        if worst.supervised[region]
    }
    return {"rows": len(rows), **supervised, "labels say": quoted(worst.text)}


def quoted(text: str, longest: int = 80) -> str:
    """A text, cut in its middle where it is long."""
    return repr(text if len(text) <= longest else f"{text[: longest // 2]} ... {text[-longest // 2 :]}")
