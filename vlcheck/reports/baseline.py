"""Findings that a project lives with, in a file that only shrinks."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from vlcheck.config.reading.kept import read_kept
from vlcheck.finding import Finding, Ignored, Outcome, Report, Rule, Verdict
from vlcheck.reports.fingerprints import same_finding
from vlcheck.reports.json import encodable
from vlcheck.reports.summary import config_file

SCHEMA, VERSION = "vlcheck-baseline", 1
JUDGED = (Verdict.PASSED, Verdict.FOUND, Verdict.IGNORED, Verdict.NOT_APPLICABLE)
"""Verdicts of a rule that would have found again what it found before."""

Key: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Entry:
    """A finding that is lived with: of which config, of which rule, and what it said."""

    config: str
    code: str
    fingerprint: str
    message: str

    @property
    def key(self) -> Key:
        """What a finding must have in common with it."""
        return self.config, self.code, self.fingerprint


@dataclass(frozen=True)
class Baseline:
    """The entries of a file; configs are named relative to its folder, so that it moves with a checkout."""

    path: Path
    entries: tuple[Entry, ...] = ()


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        ConfigError: if there is none, or it is none of ours.
    """

    def baseline_in(document: Any) -> Baseline:
        entries = (Entry(**{key: str(value) for key, value in each.items()}) for each in document["findings"])
        return Baseline(path, tuple(entries))

    return read_kept(path, "baseline", "--write-baseline", (SCHEMA, VERSION), baseline_in)


def render_baseline(baseline: Baseline) -> str:
    """A baseline as a file that can be reviewed: sorted, a finding an entry, with what it said."""
    entries = sorted(baseline.entries, key=lambda entry: (entry.key, entry.message))
    findings = [vars(entry) for entry in entries]
    document = {"schema": SCHEMA, "version": VERSION, "findings": findings}
    return encodable(json.dumps(document, indent=2, ensure_ascii=False))


def baseline_of(report: Report, path: Path) -> Baseline:
    """A new baseline with every finding of a report that counts."""
    return Baseline(path, tuple(_entries(report, path, report.found())))


def held(report: Report, baseline: Baseline) -> Report:
    """The report without the findings that a baseline holds; they stay in it as ignored.

    An entry holds one finding, and only one that says the same of the same setting: a new one always counts.
    """
    left = Counter(entry.key for entry in baseline.entries)
    config = _name(report, baseline.path)
    return replace(report, outcomes=tuple(_held(outcome, left, config, baseline) for outcome in report.outcomes))


def shrunk(report: Report, baseline: Baseline) -> Baseline:
    """The baseline without what a report no longer finds.

    What was not judged this time, another config's findings and those of rules that were left out, skipped or failed,
    stays.

    Args:
        report: before or after `held`.
    """
    config = _name(report, baseline.path)
    judged = {outcome.rule.code for outcome in report.outcomes if outcome.verdict in JUDGED}
    there = Counter(entry.key for entry in _entries(report, baseline.path, report.outcomes, ignored=True))
    kept = []
    for entry in baseline.entries:
        fixed = entry.config == config and entry.code in judged and not there[entry.key]
        there[entry.key] -= not fixed
        kept += [] if fixed else [entry]
    return replace(baseline, entries=tuple(kept))


def _held(outcome: Outcome, left: Counter[Key], config: str, baseline: Baseline) -> Outcome:
    ignored = {}
    for index, finding in enumerate(outcome.findings):
        key = (config, outcome.rule.code, same_finding(outcome.rule, finding))
        if left[key] > 0:
            left[key] -= 1
            ignored[index] = Ignored(finding, f"in the baseline {baseline.path}")
    return outcome.without(ignored)


def _entries(report: Report, path: Path, outcomes: Iterable[Outcome], *, ignored: bool = False) -> Iterator[Entry]:
    config = _name(report, path)
    for outcome in outcomes:
        more = [each.finding for each in outcome.ignored] if ignored else []
        for finding in (*outcome.findings, *more):
            yield _entry(config, outcome.rule, finding)


def _entry(config: str, rule: Rule, finding: Finding) -> Entry:
    return Entry(config, rule.code, same_finding(rule, finding), finding.message)


def _name(report: Report, path: Path) -> str:
    """The config as the baseline names it."""
    file = config_file(report)
    return file if file.startswith("<") else Path(os.path.relpath(file, path.absolute().parent)).as_posix()
