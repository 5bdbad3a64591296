"""Every rule catches its broken run, is silent on the sound one, and says how much it looked at."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest

import vlcheck.rules
from tests.samples import ALIKE, BESIDE, BROKEN, CONSEQUENCES, EXAMINED, Run, unknown_here
from vlcheck.finding import Finding, Rule, Verdict
from vlcheck.rules import RULES

CODES = [rule.code for rule in RULES]


def assert_caught(code: str, folder, **options) -> None:
    """The broken run brings up exactly this code and what it explains."""
    report = BROKEN[code].audit(folder, **options)
    assert {o.rule.code for o in report.found()} == {code} | CONSEQUENCES.get(code, set()) | BESIDE.get(code, set())
    assert not report.with_verdict(Verdict.ERROR)
    for outcome in report.found():
        assert outcome.explained_by == ((code,) if outcome.rule.code in CONSEQUENCES.get(code, ()) else ())


def assert_silent(code: str, folder) -> None:
    """On the sound run the rule runs, finds nothing, and looked at something."""
    outcome = outcome_of(code, ALIKE[code], folder)
    assert outcome.verdict is Verdict.PASSED, outcome.reason
    assert tuple((seen.count, seen.what) for seen in outcome.examined) == EXAMINED[code]


def outcome_of(code: str, run: Run, folder):
    (outcome,) = run.audit(folder, select=(code,)).outcomes
    return outcome


@pytest.mark.parametrize("code", CODES)
def test_broken_run_is_caught_by_its_rule_alone(code, tmp_path):
    """Each broken run yields its own code, and consequences only where the rule declares them."""
    if reason := unknown_here(code):
        pytest.skip(reason)
    assert_caught(code, tmp_path)


@pytest.mark.parametrize("code", CODES)
def test_sound_run_is_passed_after_a_look(code, tmp_path):
    """Each sound run passes, with a count of what was examined."""
    assert_silent(code, tmp_path)


@pytest.mark.parametrize("code", CODES)
def test_emptied_rule_fails_both(code, tmp_path, monkeypatch):
    """With its body replaced by `return []`, a rule neither catches nor passes anything."""
    monkeypatch.setattr(vlcheck.rules, "RULES", tuple(emptied(r) if r.code == code else r for r in RULES))

    with pytest.raises(AssertionError):
        assert_caught(code, tmp_path / "broken", select=(code, *CONSEQUENCES.get(code, ()), *BESIDE.get(code, ())))
    with pytest.raises(AssertionError):
        assert_silent(code, tmp_path / "sound")


def emptied(rule: Rule) -> Rule:
    """The rule with the same evidence and no body."""

    def check(**evidence) -> list[Finding]:
        return []

    check.__signature__ = inspect.signature(rule.check)
    return replace(rule, check=check)
