"""What a config's comments ignore: held against the rules there are, and set apart in a report."""

from __future__ import annotations

from dataclasses import replace

from vlcheck.finding import Ignored, Report, Verdict
from vlcheck.rules import every_rule
from vlcheck.rules.choosing import unknown
from vlcheck.spec import ConfigError, Problem, RunSpec


def check_ignores(spec: RunSpec) -> None:
    """Hold the codes that the config's comments ignore against the rules.

    Raises:
        ConfigError: for a code that no rule has, at its comment.
    """
    known = {rule.code for rule in every_rule()}
    nameless = [(ignore.where, code) for ignore in spec.ignores for code in ignore.codes if code not in known]
    if nameless:
        raise ConfigError(*(Problem(where, f"the comment ignores {unknown(code)}") for where, code in nameless))


def considerate(report: Report) -> Report:
    """The report with what the config's comments ignore set apart; a comment without effect is a remark."""
    outcomes, used = [], set()
    for outcome in report.outcomes:
        ignored = {}
        for index, finding in enumerate(outcome.findings):
            for ignore in report.spec.ignores:
                here = (finding.where.file, finding.where.line) == (ignore.where.file, ignore.line)
                if here and outcome.rule.code in ignore.codes:
                    ignored[index] = Ignored(finding, ignore.reason, ignore.where)
                    used.add((ignore, outcome.rule.code))
        outcomes.append(outcome.without(ignored))
    judged = {o.rule.code for o in outcomes if o.verdict not in (Verdict.SKIPPED, Verdict.ERROR)}
    idle = [
        f"the comment at {ignore.where} ignores {code}, and nothing: no such finding is about line {ignore.line}"
        for ignore in report.spec.ignores
        for code in ignore.codes
        if code in judged and (ignore, code) not in used
    ]
    return replace(report, outcomes=tuple(outcomes), remarks=(*report.remarks, *idle))
