"""The text report in full: one block a finding, each with what was measured, and every rule by its code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from vlcheck.finding import Finding, Outcome, Report, Verdict
from vlcheck.reports.causes import by_cause
from vlcheck.reports.lines import (
    SEVERITY_STYLES,
    TextLine,
    failed_lines,
    fix_lines,
    ignored_lines,
    indented,
    named,
    placed,
    styled,
)
from vlcheck.reports.summary import config_file, summarise
from vlcheck.reports.units import show_measured, show_parameters

SHOWN = 5  # findings of one rule; the JSON report holds all


def verbose_lines(report: Report) -> Iterator[TextLine]:
    """The whole report's lines in order, before wrapping."""
    yield _header(report)
    found = report.found()
    for root, consequences in by_cause(found):
        yield from _blocks(root, consequences)
    rest = [
        *_skipped(report.with_verdict(Verdict.SKIPPED)),
        *failed_lines(report.with_verdict(Verdict.ERROR)),
        *ignored_lines(report),
        *_not_applicable(report.with_verdict(Verdict.NOT_APPLICABLE)),
        *_passed(report.with_verdict(Verdict.PASSED)),
        *(TextLine(styled("note to the reader: ", "bold", remark)) for remark in report.remarks),
    ]
    if rest:
        yield TextLine(Text())
    yield from rest
    yield TextLine(Text())
    yield TextLine(Text(str(summarise(report)), "bold"), wrap=False)


def _header(report: Report) -> TextLine:
    subject = report.subject
    parts = [str(subject.get("model") or report.spec.model.id)]
    if subject.get("family"):
        parts.append(str(subject["family"]))
    if isinstance(subject.get("parameters"), int):
        parts.append(show_parameters(subject["parameters"]))
    if subject.get("config_origin"):
        parts.append(f"config from {subject['config_origin']}")
    if subject.get("adapter"):
        parts.append(f"adapter {subject['adapter']}")
    return TextLine(styled(f"{config_file(report)}: ", "bold", ", ".join(parts)))


# --------------------------------------------------------------------------- findings


def _blocks(root: Outcome, consequences: Sequence[Outcome]) -> Iterator[TextLine]:
    for finding in root.findings[:SHOWN]:
        yield TextLine(Text())
        yield TextLine(_heading(root, finding))
        yield from indented(finding.message, hang=0)
        if finding.measured:
            yield TextLine(styled("measured: ", "dim", show_measured(finding.measured)), 2)
        yield from fix_lines(finding.fix)
    if not root.findings:
        yield TextLine(Text())
        yield TextLine(_heading(root, None))
        yield from indented(root.rule.title, hang=0)
    if len(root.findings) > SHOWN:
        yield TextLine(
            Text(f"... and {len(root.findings) - SHOWN} more of {root.rule.code} (--format json lists all)"), 2
        )
    for consequence in consequences:
        yield TextLine(styled("explains ", "dim", f"{named(consequence)}: {_first_message(consequence)}"), 2)


def _heading(outcome: Outcome, finding: Finding | None) -> Text:
    severity = outcome.severity if finding is None else outcome.weight(finding)
    place = "" if finding is None else f"  {placed(finding.where)}"
    return Text.assemble((str(severity), SEVERITY_STYLES[severity]), f" {named(outcome)}", (place, "dim"))


def _first_message(outcome: Outcome) -> str:
    first = outcome.findings[0].message if outcome.findings else outcome.rule.title
    return first if len(outcome.findings) < 2 else f"{first} (and {len(outcome.findings) - 1} more)"


# --------------------------------------------------------------------------- the other verdicts


def _skipped(outcomes: Sequence[Outcome]) -> Iterator[TextLine]:
    for (reason, unlock), alike in _alike(outcomes).items():
        yield TextLine(styled("skipped: ", "yellow", f"{', '.join(map(named, alike))}: {reason}"))
        if unlock:
            yield TextLine(styled("unlock: ", "green", unlock), 2)


def _not_applicable(outcomes: Sequence[Outcome]) -> Iterator[TextLine]:
    if outcomes:
        yield TextLine(
            styled("not applicable: ", "dim", f"{', '.join(o.rule.code for o in outcomes)} (reasons: --format json)")
        )


def _passed(outcomes: Sequence[Outcome]) -> Iterator[TextLine]:
    if outcomes:
        yield TextLine(styled("passed: ", "green", ", ".join(map(_examined, outcomes))))


def _examined(outcome: Outcome) -> str:
    looked_at = ", ".join(f"{examined.count} {examined.what}" for examined in outcome.examined)
    said = "; ".join(filter(None, (looked_at, outcome.reason)))
    return f"{outcome.rule.code} ({said})" if said else outcome.rule.code


def _alike(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    """Outcomes by their reason and what would unlock them."""
    alike: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        alike.setdefault((outcome.reason, outcome.unlock), []).append(outcome)
    return alike
