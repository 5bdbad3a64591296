"""Severities follow the harm that was measured, or a source that is named; `explain` says which."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import samples
from vlcheck.engine import audit
from vlcheck.finding import Rule, Severity
from vlcheck.reports.harm import NOT_SHOWN, effects_of
from vlcheck.reports.rulebook import RESTS, UNRUN, explain_rule
from vlcheck.rules import every_rule

WORTH = 0.05
"""Loss of accuracy that is worth a warning, as a share; the sweep's smallest effect."""


def sourced(rule: Rule) -> bool:
    return bool(rule.doc.partition("Source:")[2].strip())


@pytest.mark.parametrize("rule", [r for r in every_rule() if r.severity is Severity.ERROR], ids=lambda r: r.code)
def test_an_error_shows_its_harm_or_says_what_it_rests_on(rule):
    effects, told = effects_of(rule.code), explain_rule(rule, every_rule())
    if any(effect["shown"] for effect in effects):
        assert "Measured: " in told
        assert RESTS not in told
    else:
        assert sourced(rule), f"{rule.code} shows no harm and names no source: it is no error"
        assert told.rstrip().endswith(RESTS)
        assert (NOT_SHOWN.capitalize() in told) == bool(effects)
        assert (UNRUN in told) == (not effects)


def test_harm_that_was_shown_is_worth_a_warning():
    """By the rule's own severity, or by one that it declares for what is as bad as the fault that was run."""
    harmful = [r for r in every_rule() if any(e["difference"] < -WORTH and e["shown"] for e in effects_of(r.code))]
    assert len(harmful) > 10
    for rule in harmful:
        assert max([rule.severity, *(weight.severity for weight in rule.weighs)]) >= Severity.WARNING, rule.code


def test_a_null_without_a_source_is_a_note():
    for rule in every_rule():
        effects = effects_of(rule.code)
        if effects and not any(effect["shown"] for effect in effects) and not sourced(rule):
            assert rule.severity is Severity.NOTE, rule.code


@pytest.mark.parametrize(("rate", "severity"), [(1e-4, None), (5e-4, Severity.WARNING), (2e-3, Severity.WARNING)])
def test_ten_times_the_rate_is_a_warning(rate, severity, tmp_path):
    spec = samples.BROKEN["VLC806"].spec(tmp_path)
    spec = replace(spec, training=replace(spec.training, learning_rate=rate))
    (outcome,) = audit(spec, select=("VLC806",), offline=True).outcomes
    assert [finding.severity for finding in outcome.findings] == [severity]
