"""A report as a project's file wants it: with its severities, and without what its baseline holds."""

from __future__ import annotations

from collections.abc import Callable

from vlcheck.config.project import ProjectSettings
from vlcheck.finding import Report
from vlcheck.reports.baseline import held, read_baseline
from vlcheck.rules.choosing import graded, severities


def weighing(project: ProjectSettings) -> Callable[[Report], Report]:
    """What makes a report the project's; the baseline is read at once, and never written.

    Raises:
        ConfigError: if the baseline is not there, or is none.
    """
    by_code = severities(project.severity)
    baseline = None if project.baseline is None else read_baseline(project.baseline)

    def weighed(report: Report) -> Report:
        report = graded(report, by_code) if by_code else report
        return report if baseline is None else held(report, baseline)

    return weighed
