"""JUnit XML, which CI servers read: one testcase a rule."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from vlcheck.finding import Finding, Outcome, Report, Severity, Verdict
from vlcheck.reports.summary import config_file
from vlcheck.reports.units import lines_of, plain, show_measured

SKIPPED = (Verdict.SKIPPED, Verdict.NOT_APPLICABLE, Verdict.IGNORED)
"""Verdicts that JUnit has one word for; the `type` says which it was."""
NO_CHARACTERS = {0xFFFE: r"\ufffe", 0xFFFF: r"\uffff"}
"""What XML 1.0 refuses and `plain` lets through."""


def render(report: Report, *, fail_on: Severity = Severity.ERROR) -> str:
    """Write a report as one test suite.

    Args:
        fail_on: the least severity that is a failure; what is found below it is the output of a test that passed.
    """
    name = plain(config_file(report))
    seconds = sum(outcome.seconds for outcome in report.outcomes)
    counts = {
        "tests": str(len(report.outcomes)),
        "failures": str(len(report.found(fail_on))),
        "errors": str(len(report.with_verdict(Verdict.ERROR))),
    }
    root = Element("testsuites", {"name": "vlcheck", **counts})
    skipped = str(sum(outcome.verdict in SKIPPED for outcome in report.outcomes))
    suite = SubElement(root, "testsuite", {"name": name, **counts, "skipped": skipped, "time": f"{seconds:.3f}"})
    properties = SubElement(suite, "properties")
    for key, value in {**report.subject, **report.versions}.items():
        SubElement(properties, "property", {"name": plain(str(key)), "value": plain(str(value))})
    for outcome in report.outcomes:
        _add_case(suite, name, outcome, fail_on)
    if report.remarks:
        SubElement(suite, "system-out").text = "\n".join(map(plain, report.remarks))
    indent(root)
    text = tostring(root, encoding="unicode").translate(NO_CHARACTERS)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_case(suite: Element, config: str, outcome: Outcome, fail_on: Severity) -> None:
    name = plain(f"{outcome.rule.code} {outcome.rule.name}")
    case = SubElement(suite, "testcase", {"classname": config, "name": name, "time": f"{outcome.seconds:.3f}"})
    output = [f"examined {examined.count} {examined.what}" for examined in outcome.examined]
    reason = "; ".join(filter(None, (outcome.reason, outcome.unlock and f"to unlock: {outcome.unlock}")))
    if outcome.verdict is Verdict.FOUND:
        said = "\n".join(map(_told, outcome.findings)) or outcome.rule.title
        if outcome.severity >= fail_on:
            first = outcome.findings[0].message if outcome.findings else outcome.rule.title
            _add(case, "failure", str(outcome.severity), first, said)
        else:
            output.append(f"{outcome.severity}: {said}")
    elif outcome.verdict is Verdict.ERROR:
        _add(case, "error", "failed to run", (reason.strip().splitlines() or [""])[-1], reason)
    elif outcome.verdict in SKIPPED:
        why = reason or "; ".join(dict.fromkeys(ignored.reason for ignored in outcome.ignored))
        _add(case, "skipped", outcome.verdict.value, f"{outcome.verdict.value}: {why}", "")
    elif reason:
        output.append(reason)
    for each in outcome.ignored:
        by = f" ({each.where})" if each.where else ""
        output.append(f"ignored: {_told(each.finding)}\nreason: {each.reason}{by}")
    if output:
        SubElement(case, "system-out").text = lines_of("\n".join(output))


def _add(case: Element, tag: str, kind: str, message: str, text: str) -> None:
    SubElement(case, tag, {"type": kind, "message": plain(message)}).text = lines_of(text)


def _told(finding: Finding) -> str:
    """A finding in full, in lines."""
    measured = f"measured: {show_measured(finding.measured)}" if finding.measured else ""
    return "\n".join(
        filter(None, (f"{finding.where}: {finding.message}", measured, finding.fix and f"fix: {finding.fix}"))
    )
