"""Version 1 of the JSON report, built field by field so that internal types may change under it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from vlcheck.finding import Examined, Finding, Ignored, Json, Outcome, Report, Rule
from vlcheck.reports.summary import config_file, summarise
from vlcheck.spec import Location
from vlcheck.versions import __version__

SCHEMA, VERSION = "vlcheck-report", 1
CONTROLS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON allows in a string, and what moves a terminal's cursor or turns its text round."""


def render(report: Report) -> str:
    """Write a report as JSON that any parser reads: no NaN, no infinity, no unpaired surrogate."""
    return encodable(json.dumps(build_report(report), indent=2, ensure_ascii=False, allow_nan=False))


def encodable(document: str) -> str:
    """A JSON text that any terminal and UTF-8 can hold, ended: what they cannot becomes JSON's escapes."""
    harmless = CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
    return harmless.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def build_report(report: Report) -> dict[str, Json]:
    """The whole document."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "vlcheck": __version__,
        "config": config_file(report),
        "model": build_value(report.subject),
        "versions": build_value(report.versions),
        "remarks": build_value(report.remarks),
        "summary": build_summary(report),
        "outcomes": [build_outcome(outcome) for outcome in report.outcomes],
        "ignored": [build_ignored(rule, ignored) for rule, ignored in report.ignored],
    }


def build_summary(report: Report) -> dict[str, Json]:
    """Findings by severity, then rules by verdict."""
    summary = summarise(report)
    return {
        "errors": summary.errors,
        "warnings": summary.warnings,
        "notes": summary.notes,
        "explained": summary.explained,
        "passed": summary.passed,
        "not_applicable": summary.not_applicable,
        "skipped": summary.skipped,
        "failed": summary.failed,
        "ignored": summary.ignored,
    }


def build_outcome(outcome: Outcome) -> dict[str, Json]:
    """One rule and what became of it; every key is always there."""
    return {
        "code": outcome.rule.code,
        "name": outcome.rule.name,
        "severity": str(outcome.severity),
        "verdict": outcome.verdict.value,
        "title": outcome.rule.title,
        "findings": [build_finding(finding, outcome.rule) for finding in outcome.findings],
        "examined": [build_examined(examined) for examined in outcome.examined],
        "reason": outcome.reason,
        "unlock": outcome.unlock,
        "explained_by": list(outcome.explained_by),
        "seconds": build_value(round(outcome.seconds, 4)),
    }


def build_finding(finding: Finding, rule: Rule) -> dict[str, Json]:
    """One finding; its severity is the rule's, or the one that its evidence gave it."""
    return {
        "severity": str(rule.weight(finding)),
        "message": finding.message,
        "where": build_location(finding.where),
        "measured": build_value(finding.measured),
        "fix": finding.fix,
    }


def build_ignored(rule: Rule, ignored: Ignored) -> dict[str, Json]:
    """A finding that does not count, and why; the comment's place is null for one that a baseline holds."""
    return {
        "code": rule.code,
        "name": rule.name,
        "severity": str(rule.weight(ignored.finding)),
        "finding": build_finding(ignored.finding, rule),
        "reason": ignored.reason,
        "where": build_location(ignored.where) if ignored.where else None,
    }


def build_examined(examined: Examined) -> dict[str, Json]:
    """How much of what a rule looked at."""
    return {"count": examined.count, "what": examined.what}


def build_location(where: Location) -> dict[str, Json]:
    """A place in the config."""
    return {"file": where.file, "line": where.line, "column": where.column, "key": where.key}


def build_value(value: Any) -> Json:
    """Anything as JSON; a float without a JSON number, and any unknown type, becomes its text."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): build_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [build_value(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((build_value(item) for item in value), key=str)
    return str(value)
