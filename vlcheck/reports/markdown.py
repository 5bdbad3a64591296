"""A summary of a job in Markdown, for `$GITHUB_STEP_SUMMARY`, a comment or a mail."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vlcheck.finding import Outcome, Report, Severity, Verdict
from vlcheck.reports.causes import by_cause
from vlcheck.reports.groups import Group, group_findings, shared_measured
from vlcheck.reports.judged import judged_paragraph
from vlcheck.reports.lines import ignored_texts, placed
from vlcheck.reports.summary import config_file, summarise
from vlcheck.reports.units import lines_of, plain, show_measured

SIGNS = {Severity.ERROR: "❌", Severity.WARNING: "⚠️", Severity.NOTE: "ℹ️"}
SHOWN = 5
"""Blocks of one rule; the JSON report holds all findings."""
LONGEST = 2_000
"""Characters of one text: GitHub refuses a summary of more than 1 MiB."""
SPECIAL = re.compile(r"[\\`*\[\]~|#]|(?<!\w)_|_(?!\w)|^(?:[-+]|\d+(?=[.)]))")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}


def render(report: Report) -> str:
    """Write a report as Markdown; whatever it quotes is shown as it is, and neither marks up nor mentions anyone."""
    return "\n\n".join(_paragraphs(report)) + "\n"


def _paragraphs(report: Report) -> Iterator[str]:
    model = str(report.subject.get("model") or report.spec.model.id)
    yield f"## vlcheck: {_shown(config_file(report))}"
    yield f"{_shown(model)}: **{summarise(report)}**"
    for root, consequences in by_cause(report.found()):
        yield from _finding_paragraphs(root, consequences)
    yield from _list("Failed to run", report.with_verdict(Verdict.ERROR), opened=True)
    yield from _list("Skipped", report.with_verdict(Verdict.SKIPPED), opened=True)
    if ignored := [f"- {_shown(text)}" for text in ignored_texts(report)]:
        yield _folded(f"Ignored ({len(ignored)})", ignored)
    yield from _list("Passed", report.with_verdict(Verdict.PASSED))
    yield from _list("Not applicable", report.with_verdict(Verdict.NOT_APPLICABLE))
    if judged := judged_paragraph(report):
        yield f"Judged: {_shown(judged)}"


def _finding_paragraphs(root: Outcome, consequences: Sequence[Outcome]) -> Iterator[str]:
    groups = group_findings(root.findings)
    head = f"### {SIGNS[root.severity]} {root.severity} {_shown(f'{root.rule.code} {root.rule.name}')}"
    yield head if groups else f"{head}\n\n{_shown(root.rule.title)}"
    for group in groups[:SHOWN]:
        yield from _group_paragraphs(group)
    if len(groups) > SHOWN:
        left = sum(len(group.findings) for group in groups[SHOWN:])
        yield f"… and {left} more of {_shown(root.rule.code)}; the JSON report lists all"
    if consequences:
        yield "\n".join(f"- explains {_shown(_consequence(each))}" for each in consequences)


def _consequence(outcome: Outcome) -> str:
    first = outcome.findings[0].message if outcome.findings else outcome.rule.title
    return f"{outcome.rule.code} {outcome.rule.name}: {first}"


def _group_paragraphs(group: Group) -> Iterator[str]:
    places = dict.fromkeys(placed(finding.where) for finding in group.findings)
    likewise = f" ({_shown(group.likewise)})" if group.likewise else ""
    yield f"{', '.join(map(_shown, list(places)[:SHOWN]))}: {_shown(group.first.message)}{likewise}"
    for fix in group.fixes[:SHOWN]:
        yield _fix(fix)
    if measured := shared_measured(group):
        yield f"Measured: {_shown(show_measured(measured))}"


def _fix(fix: str) -> str:
    """A remedy as a block that can be copied, fenced by more ticks than it holds in a row."""
    text = lines_of(_cut(fix))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"Fix:\n\n{fence}yaml\n{text}\n{fence}"


def _list(title: str, outcomes: Sequence[Outcome], *, opened: bool = False) -> Iterator[str]:
    if outcomes:
        yield _folded(f"{title} ({len(outcomes)})", [f"- {_line(outcome)}" for outcome in outcomes], opened=opened)


def _line(outcome: Outcome) -> str:
    """A rule without a finding, with what it looked at or why it could not."""
    looked_at = ", ".join(f"{examined.count} {examined.what}" for examined in outcome.examined)
    reason = outcome.reason
    if outcome.verdict is Verdict.ERROR:
        reason = (reason.strip().splitlines() or ["no reason given"])[-1]
    unlock = f"to unlock: {outcome.unlock}" if outcome.unlock else ""
    said = "; ".join(filter(None, (looked_at, reason, unlock)))
    return _shown(
        f"{outcome.rule.code} {outcome.rule.name}: {said}" if said else f"{outcome.rule.code} {outcome.rule.name}"
    )


def _folded(title: str, lines: Sequence[str], *, opened: bool = False) -> str:
    return "\n\n".join(
        [f"<details{' open' if opened else ''}><summary>{title}</summary>", "\n".join(lines), "</details>"]
    )


def _shown(text: str) -> str:
    """Text on one line in which no character means anything to Markdown or HTML."""
    escaped = SPECIAL.sub(lambda found: f"\\{found[0]}", plain(_cut(text)))
    return "".join(ENTITIES.get(sign, sign) for sign in escaped)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
