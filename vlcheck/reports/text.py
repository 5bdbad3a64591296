"""The report for people: the findings, what was judged, then every other rule in a line for each verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.text import Text

from vlcheck.finding import Outcome, Report, Severity, Verdict
from vlcheck.reports.causes import by_cause
from vlcheck.reports.groups import Group, group_findings, shared_measured
from vlcheck.reports.judged import judged_paragraph
from vlcheck.reports.lines import (
    SEVERITY_STYLES,
    TextLine,
    failed_lines,
    fix_lines,
    ignored_lines,
    indented,
    named,
    placed,
    print_lines,
    styled,
)
from vlcheck.reports.summary import config_file, summarise
from vlcheck.reports.units import brief, plain, show_measured
from vlcheck.reports.verbose import verbose_lines
from vlcheck.spec import Location

SHOWN = 5
"""Blocks of one rule; the JSON report holds all findings."""
MOST_CODES = 8
"""Codes, or runs of codes, of one line about rules that did not find anything."""
MOST_PLACES = 4


def render(report: Report, *, width: int = 100, color: bool = False, verbose: bool = False) -> str:
    """Write a report for a terminal of `width` columns.

    Words longer than a line are left whole, so that paths and module names can be copied. Control
    characters of whatever the report quotes are shown as escapes.

    Args:
        verbose: each finding with all that was measured, each rule by its code with what it examined.
    """
    return print_lines((verbose_lines if verbose else default_lines)(report), width=width, color=color)


def default_lines(report: Report) -> Iterator[TextLine]:
    """The short report's lines in order, before wrapping: errors and warnings as blocks, a note as one paragraph."""
    yield TextLine(styled(f"{config_file(report)}: ", "bold", str(report.subject.get("model") or report.spec.model.id)))
    notes: list[tuple[Outcome, Group]] = []
    for root, consequences in by_cause(report.found()):
        groups = group_findings(root.findings)
        if root.severity is Severity.NOTE and groups and not consequences:
            notes += ((root, group) for group in groups)
        else:
            yield from _blocks(root, groups, consequences)
    if notes:
        yield TextLine(Text())
    yield from _notes(notes, config_file(report))
    yield TextLine(Text())
    yield from _rest(report)
    yield TextLine(Text(str(summarise(report)), "bold"), wrap=False)


# --------------------------------------------------------------------------- findings


def _blocks(root: Outcome, groups: Sequence[Group], consequences: Sequence[Outcome]) -> Iterator[TextLine]:
    """A rule's findings: what is wrong and where, what to do, what was measured, what follows from it."""
    for group in groups[:SHOWN]:
        yield TextLine(Text())
        yield TextLine(_heading(root, group))
        yield from indented(brief(group.first.message), hang=0)
        if group.likewise:
            yield TextLine(styled("", "", group.likewise), 2)
        for fix in group.fixes:
            yield from fix_lines(fix)
        if measured := shared_measured(group):
            yield TextLine(styled("measured: ", "dim", show_measured(measured)), 2)
    if not groups:
        yield TextLine(Text())
        yield TextLine(_heading(root, None))
        yield from indented(root.rule.title, hang=0)
    if len(groups) > SHOWN:
        yield TextLine(Text(_more(root, groups)), 2)
    for consequence in consequences:
        yield TextLine(styled("explains ", "dim", f"{named(consequence)}: {_consequence(consequence)}"), 2)


def _heading(outcome: Outcome, group: Group | None) -> Text:
    severity = outcome.severity if group is None else outcome.weight(group.first)
    place = "" if group is None else f"  {_places([finding.where for finding in group.findings])}{_count(group)}"
    return Text.assemble((str(severity), SEVERITY_STYLES[severity]), f" {named(outcome)}", (place, "dim"))


def _places(places: Sequence[Location]) -> str:
    """Each place once; further lines of the same file by their numbers."""
    seen = list(dict.fromkeys(placed(where) for where in places))
    file = seen[0].rpartition(":")[0]
    shown = [seen[0], *(each.removeprefix(f"{file}:") if file else each for each in seen[1:MOST_PLACES])]
    more = f" and {len(seen) - MOST_PLACES} more places" if len(seen) > MOST_PLACES else ""
    return ", ".join(shown) + more


def _count(group: Group) -> str:
    return f" ({len(group.findings)} findings)" if len(group.findings) > 1 else ""


def _more(root: Outcome, groups: Sequence[Group]) -> str:
    left = sum(len(group.findings) for group in groups[SHOWN:])
    return f"... and {left} more of {root.rule.code} (--format json lists all)"


def _consequence(outcome: Outcome) -> str:
    first = brief(outcome.findings[0].message) if outcome.findings else outcome.rule.title
    return first if len(outcome.findings) < 2 else f"{first} (and {len(outcome.findings) - 1} more)"


def _notes(notes: Sequence[tuple[Outcome, Group]], file: str) -> Iterator[TextLine]:
    """Each note as one paragraph: place, message, remedy; what was measured is in the message or in --verbose."""
    shown: dict[str, list[Group]] = {}
    for outcome, group in notes:
        groups = shown.setdefault(outcome.rule.code, [])
        groups.append(group)
        if len(groups) > SHOWN:
            continue
        text = styled("note", SEVERITY_STYLES[Severity.NOTE], f" {named(outcome)} ")
        places = _places([finding.where for finding in group.findings]).removeprefix(f"{file}:")
        text.append(plain(f"({'line ' if places[0].isdigit() else ''}{places}){_count(group)}: "), "dim")
        said = brief(group.first.message)
        text.append(plain("; ".join([said, group.likewise] if group.likewise else [said])))
        if inline := [fix for fix in group.fixes if "\n" not in fix]:
            text.append_text(styled("; fix: ", "green", "; or ".join(inline)))
        yield TextLine(text)
        for fix in group.fixes:
            yield from fix_lines(fix) if "\n" in fix else ()
    for outcome, _ in {outcome.rule.code: (outcome, group) for outcome, group in notes}.values():
        if len(shown[outcome.rule.code]) > SHOWN:
            yield TextLine(Text(_more(outcome, shown[outcome.rule.code])), 2)


# --------------------------------------------------------------------------- the other verdicts


def _rest(report: Report) -> Iterator[TextLine]:
    """What was judged, then the rules without a finding."""
    if judged := judged_paragraph(report):
        yield TextLine(styled("judged: ", "bold", judged))
    yield from failed_lines(report.with_verdict(Verdict.ERROR))
    yield from ignored_lines(report)
    yield from _skipped(report.with_verdict(Verdict.SKIPPED))
    yield from _counted("passed: ", "green", report.with_verdict(Verdict.PASSED))
    yield from _counted("not applicable: ", "dim", report.with_verdict(Verdict.NOT_APPLICABLE))


def _skipped(outcomes: Sequence[Outcome]) -> Iterator[TextLine]:
    """A line for each thing that would let skipped rules run; for each reason where nothing is known to."""
    alike: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        alike.setdefault(f"to unlock, {outcome.unlock}" if outcome.unlock else brief(outcome.reason), []).append(
            outcome
        )
    for way, rules in alike.items():
        yield TextLine(styled("skipped: ", "yellow", f"{_codes(rules)}; {way}"))


def _counted(label: str, style: str, outcomes: Sequence[Outcome]) -> Iterator[TextLine]:
    if outcomes:
        yield TextLine(styled(label, style, _codes(outcomes)))


def _codes(outcomes: Sequence[Outcome]) -> str:
    """How many rules, and their codes, runs of consecutive ones as `VLC501-520`; only the count where they are many."""
    runs: list[list[str]] = []
    for code in sorted(outcome.rule.code for outcome in outcomes):
        if runs and _number(code) == _number(runs[-1][-1]) + 1:
            runs[-1].append(code)
        else:
            runs.append([code])
    if len(runs) > MOST_CODES:
        return f"{len(outcomes)} rules (--verbose names them)"
    shown = ", ".join(run[0] if len(run) == 1 else f"{run[0]}-{_number(run[-1])}" for run in runs)
    return shown if len(outcomes) == 1 else f"{shown} ({len(outcomes)} rules)"


def _number(code: str) -> int:
    """A code's number; far from every other where it has none."""
    digits = re.search(r"\d+\Z", code)
    return int(digits.group()) if digits else -2
