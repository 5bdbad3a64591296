"""A report in numbers, counted once for every format."""

from __future__ import annotations

from dataclasses import dataclass

from vlcheck.finding import Report, Severity, Verdict


@dataclass(frozen=True)
class Summary:
    """Findings by severity, and rules by what else became of them."""

    errors: int
    warnings: int
    notes: int
    explained: int  # how many of these findings are consequences of another one
    passed: int
    not_applicable: int
    skipped: int
    failed: int
    ignored: int = 0  # findings that do not count, each for a reason

    def __str__(self) -> str:
        """The report's last line."""
        found = ", ".join(
            _counted(number, noun)
            for number, noun in ((self.errors, "error"), (self.warnings, "warning"), (self.notes, "note"))
        )
        if self.explained:
            found += f" ({self.explained} explained by another)"
        if self.ignored:
            found += f"; {_counted(self.ignored, 'finding')} ignored"
        return (
            f"{found}; {_counted(self.passed, 'rule')} passed, {self.not_applicable} not applicable, "
            f"{self.skipped} skipped, {self.failed} failed to run"
        )


def summarise(report: Report) -> Summary:
    """Count the findings and the rules of a report; consequences count as findings."""

    def findings(severity: Severity) -> int:
        weights = [w for o in report.found() for w in [o.weight(f) for f in o.findings] or [o.severity]]
        return weights.count(severity)

    def rules(verdict: Verdict) -> int:
        return len(report.with_verdict(verdict))

    return Summary(
        errors=findings(Severity.ERROR),
        warnings=findings(Severity.WARNING),
        notes=findings(Severity.NOTE),
        explained=sum(len(o.findings) or 1 for o in report.found() if o.explained_by),
        passed=rules(Verdict.PASSED),
        not_applicable=rules(Verdict.NOT_APPLICABLE),
        skipped=rules(Verdict.SKIPPED),
        failed=rules(Verdict.ERROR),
        ignored=len(report.ignored),
    )


def config_file(report: Report) -> str:
    """The file that the run was described in; `<python>` if it was built in code."""
    return report.spec.where("model.id").file


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
