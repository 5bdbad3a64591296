"""Annotations of a GitHub workflow: a line a finding, which the runner shows at the config's line."""

from __future__ import annotations

from collections.abc import Iterator

from vlcheck.finding import Outcome, Report, Severity, Verdict
from vlcheck.reports.causes import by_cause
from vlcheck.reports.lines import ignored_texts
from vlcheck.reports.summary import summarise
from vlcheck.reports.units import lines_of, plain
from vlcheck.spec import Location

COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def render(report: Report) -> str:
    """Write a report as workflow commands, roots before what follows from them; the last line is the summary."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    for root, consequences in by_cause(report.found()):
        for outcome in (root, *consequences):
            yield from _annotations(outcome)
    for outcome in report.with_verdict(Verdict.ERROR):
        last = (outcome.reason.strip().splitlines() or ["no reason given"])[-1]
        yield _command("error", f"{_named(outcome)} failed to run", f"a fault of vlcheck: {last}")
    for outcome in report.with_verdict(Verdict.SKIPPED):
        way = f"; to unlock: {outcome.unlock}" if outcome.unlock else ""
        yield f"skipped: {plain(f'{_named(outcome)}: {outcome.reason}{way}')}"
    yield from (f"ignored: {plain(text)}" for text in ignored_texts(report))
    for verdict in (Verdict.PASSED, Verdict.NOT_APPLICABLE):
        if outcomes := report.with_verdict(verdict):
            yield f"{verdict.value}: {plain(', '.join(outcome.rule.code for outcome in outcomes))}"
    for remark in report.remarks:
        yield f"remark: {plain(remark)}"
    yield plain(str(summarise(report)))


def _annotations(outcome: Outcome) -> Iterator[str]:
    for finding in outcome.findings:
        fix = f"\nfix: {finding.fix}" if finding.fix else ""
        yield _command(COMMANDS[outcome.weight(finding)], _named(outcome), f"{finding.message}{fix}", finding.where)
    if not outcome.findings:
        yield _command(COMMANDS[outcome.severity], _named(outcome), outcome.rule.title)


def _command(command: str, title: str, message: str, where: Location | None = None) -> str:
    properties = {"title": title}
    if where is not None and not where.file.startswith("<"):
        properties = {"file": where.file, "line": str(where.line), "col": str(where.column), **properties}
    shown = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{command} {shown}::{_data(lines_of(message))}"


def _named(outcome: Outcome) -> str:
    return f"{outcome.rule.code} {outcome.rule.name}"


def _property(text: str) -> str:
    return _data(plain(text)).replace(":", "%3A").replace(",", "%2C")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
