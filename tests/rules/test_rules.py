"""Every rule catches its broken run, is silent on the sound one, and says how much it looked at."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pytest

import vlcheck.rules
from tests.rules.advice import STRUCTURAL, assert_works, needs
from tests.samples import ALIKE, BESIDE, BROKEN, CONSEQUENCES, EXAMINED, Collected, unknown_here
from vlcheck.finding import Finding, Report, Rule, Verdict
from vlcheck.rules import RULES

CODES = [rule.code for rule in RULES]
TRIED = {name: {rule.code for rule in RULES if needs(name, of=rule.check)} for name in ("trial", "tiny")}
"""Rules that run a model: batches through one that takes them, or the run's own in miniature."""


@dataclass
class Pair:
    """The broken run of a code and the sound one, each collected when a test first asks for it."""

    code: str
    folder: Path

    @cached_property
    def broken(self) -> Collected:
        judging = [rule for rule in RULES if rule.code not in self.untried]
        return BROKEN[self.code].collected(self.folder / "broken", judging)

    @cached_property
    def untried(self) -> set[str]:
        """Rules that wait for `-m slow`: those that run a model, where it would have to run for this pair alone."""
        known = BROKEN[self.code].known()
        waiting = (codes for name, codes in TRIED.items() if name not in known and not expected(self.code) & codes)
        return set().union(*waiting)

    @cached_property
    def sound(self) -> Collected:
        return ALIKE[self.code].collected(self.folder / "sound", self.rules[:1])

    @property
    def rules(self) -> list[Rule]:
        """The rule of the code, and those that may speak beside it."""
        beside = [*CONSEQUENCES.get(self.code, ()), *BESIDE.get(self.code, ())]
        return [rule for code in (self.code, *beside) for rule in RULES if rule.code == code]


@pytest.fixture(params=CODES, scope="module")
def pair(request, tmp_path_factory) -> Pair:
    """One code's runs: the tests of a code follow each other, and share what was collected."""
    return Pair(request.param, tmp_path_factory.mktemp(request.param))


def expected(code: str) -> set[str]:
    """What the broken run of a code brings up."""
    return {code} | CONSEQUENCES.get(code, set()) | BESIDE.get(code, set())


def assert_caught(code: str, report: Report) -> None:
    """The broken run brings up exactly this code and what it explains."""
    assert {o.rule.code for o in report.found()} == expected(code)
    assert not report.with_verdict(Verdict.ERROR)
    for outcome in report.found():
        roots = [o.rule.code for o in report.found() if outcome.rule.code in o.rule.explains]
        assert outcome.explained_by == tuple(roots)
        assert (code in roots) == (outcome.rule.code in CONSEQUENCES.get(code, ()))


def assert_silent(pair: Pair) -> None:
    """On the sound run the rule runs, finds nothing, and looked at something."""
    (outcome,) = pair.sound.audit(select=(pair.code,)).outcomes
    assert outcome.verdict is Verdict.PASSED, outcome.reason
    assert tuple((seen.count, seen.what) for seen in outcome.examined) == EXAMINED[pair.code]


def test_broken_run_is_caught_by_its_rule_alone(pair):
    """Each broken run yields its own code, and consequences only where the rule declares them.

    On evidence that runs of the same model share where no fault can change it.
    """
    if reason := unknown_here(pair.code):
        pytest.skip(reason)
    assert_caught(pair.code, pair.broken.audit(ignore=pair.untried))


@pytest.mark.slow
@pytest.mark.parametrize("code", CODES)
def test_broken_run_that_shares_no_evidence_is_caught_by_its_rule_alone(code, tmp_path):
    """The same, by every rule, on evidence of which each piece was collected for this run."""
    if reason := unknown_here(code):
        pytest.skip(reason)
    assert_caught(code, BROKEN[code].collected(tmp_path, RULES, alone=True).audit())


def test_sound_run_is_passed_after_a_look(pair):
    """Each sound run passes, with a count of what was examined."""
    assert_silent(pair)


def test_emptied_rule_fails_both(pair, monkeypatch):
    """With its body replaced by `return []`, a rule neither catches nor passes anything, on the same evidence."""
    selected = tuple(rule.code for rule in pair.rules)
    monkeypatch.setattr(vlcheck.rules, "RULES", tuple(emptied(r) if r.code == pair.code else r for r in RULES))

    with pytest.raises(AssertionError):
        assert_caught(pair.code, pair.broken.audit(select=selected))
    with pytest.raises(AssertionError):
        assert_silent(pair)


def test_advice_works(pair):
    """What the rule advises is applied to its broken run: the finding goes, and nothing worse comes.

    Beside rules that run a miniature it is applied in the slow run of `test_remedies.py`.
    """
    if reason := unknown_here(pair.code):
        pytest.skip(reason)
    assert_works(BROKEN[pair.code], pair.broken, (pair.code,), STRUCTURAL)


def emptied(rule: Rule) -> Rule:
    """The rule with the same evidence and no body."""

    def check(**evidence) -> list[Finding]:
        return []

    check.__signature__ = inspect.signature(rule.check)
    return replace(rule, check=check)
