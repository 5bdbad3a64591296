"""SARIF 2.1.0, which code hosts and editors read: findings are results; what else became of a rule is a notification.

Passed, skipped and failed rules are no results of another `kind`, because GitHub shows every result as an alert.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from urllib.parse import quote

from vlcheck.finding import Finding, Ignored, Json, Outcome, Report, Rule, Severity, Verdict
from vlcheck.reports.fingerprints import Tracks
from vlcheck.reports.json import build_summary, build_value, encodable
from vlcheck.spec import Location
from vlcheck.versions import __version__

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}
NOTIFIED = {
    Verdict.PASSED: "none",
    Verdict.NOT_APPLICABLE: "none",
    Verdict.IGNORED: "none",
    Verdict.SKIPPED: "note",
    Verdict.ERROR: "error",
}
"""Level of the notification about a rule without a finding that counts."""


def render(report: Report) -> str:
    """Write a report as a SARIF log of one run."""
    run: dict[str, Json] = {
        "tool": {"driver": build_driver([outcome.rule for outcome in report.outcomes])},
        "invocations": [build_invocation(report)],
        "columnKind": "unicodeCodePoints",
        "results": list(build_results(report)),
        "properties": {"summary": build_summary(report), "model": build_value(report.subject),
                       "versions": build_value(report.versions)},
    }  # fmt: skip
    return encodable(json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False))


def build_driver(rules: Sequence[Rule]) -> dict[str, Json]:
    """The tool and its rules, each with its help."""
    return {
        "name": "vlcheck",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [
            {
                "id": rule.code,
                "name": rule.name,
                "shortDescription": {"text": rule.title or rule.name},
                "fullDescription": {"text": rule.doc or rule.name},
                "help": {"text": f"{rule.doc or rule.name}\n\nMore: vlcheck explain {rule.code}"},
                "defaultConfiguration": {"level": LEVELS[rule.severity]},
            }
            for rule in rules
        ],
    }


def build_results(report: Report) -> Iterator[dict[str, Json]]:
    """Findings in report order, then those that are ignored, with the reason as a suppression."""
    indices = {outcome.rule.code: index for index, outcome in enumerate(report.outcomes)}
    tracks = Tracks()
    for outcome in report.found():
        for finding in outcome.findings:
            yield build_result(outcome.rule, indices, finding, tracks, explained_by=outcome.explained_by)
    for rule, ignored in report.ignored:
        yield {
            **build_result(rule, indices, ignored.finding, tracks),
            "suppressions": [build_suppression(ignored)],
        }


def build_result(
    rule: Rule, indices: dict[str, int], finding: Finding, tracks: Tracks, *, explained_by: Sequence[str] = ()
) -> dict[str, Json]:
    """One finding: what was measured, where, and the remedy."""
    fix = f"\nfix: {finding.fix}" if finding.fix else ""
    track = tracks.of(rule, finding)
    return {
        "ruleId": rule.code,
        "ruleIndex": indices[rule.code],
        "level": LEVELS[rule.weight(finding)],
        "message": {"text": f"{finding.message}{fix}" or rule.title},
        "locations": [build_location(finding.where)],
        "partialFingerprints": {"vlcheck/v1": track, "primaryLocationLineHash": track},  # GitHub reads the second
        "properties": {
            "measured": build_value(finding.measured),
            "fix": finding.fix,
            "explainedBy": list(explained_by),
        },
    }


def build_location(where: Location) -> dict[str, Json]:
    """A place in the config; of a run that was built in Python, the setting alone."""
    logical: Json = [{"fullyQualifiedName": where.key, "kind": "member"}]
    if where.file.startswith("<"):
        return {"logicalLocations": logical} if where.key else {}
    region: Json = {"startLine": max(1, where.line), "startColumn": max(1, where.column)}
    physical: Json = {"artifactLocation": {"uri": build_uri(where.file)}, "region": region}
    return {"physicalLocation": physical, **({"logicalLocations": logical} if where.key else {})}


def build_uri(file: str) -> str:
    """A path as a URI: relative to wherever the reader has the sources, unless it is absolute."""
    path = PurePath(file)
    encoded = quote(path.as_posix(), errors="surrogatepass")
    return f"file://{encoded}" if path.is_absolute() else encoded


def build_suppression(ignored: Ignored) -> dict[str, Json]:
    """Why a finding does not count: a comment of the config, or a baseline."""
    where = ignored.where
    suppression: dict[str, Json] = {"kind": "inSource" if where else "external", "justification": ignored.reason}
    return {**suppression, "location": build_location(where)} if where else suppression


def build_invocation(report: Report) -> dict[str, Json]:
    """How the run of vlcheck went: what became of rules without findings, and what a reader must know."""
    notified = [build_notification(outcome) for outcome in report.outcomes if outcome.verdict is not Verdict.FOUND]
    remarks: list[dict[str, Json]] = [
        {"level": "note", "message": {"text": remark}, "descriptor": {"id": "remark"}} for remark in report.remarks
    ]
    return {
        "executionSuccessful": not report.with_verdict(Verdict.ERROR),
        "toolExecutionNotifications": [*notified, *remarks],
    }


def build_notification(outcome: Outcome) -> dict[str, Json]:
    """What became of a rule that has no finding which counts."""
    looked_at = ", ".join(f"{examined.count} {examined.what}" for examined in outcome.examined)
    unlock = f"to unlock: {outcome.unlock}" if outcome.unlock else ""
    said = "; ".join(filter(None, (looked_at, outcome.reason, unlock)))
    return {
        "level": NOTIFIED[outcome.verdict],
        "message": {"text": f"{outcome.verdict.value}: {said}" if said else outcome.verdict.value},
        "descriptor": {"id": outcome.verdict.value},
        "associatedRule": {"id": outcome.rule.code},
    }
