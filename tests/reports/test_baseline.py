"""Ignoring, baselines and severities: nothing found is lost, and nothing new is hidden. Laws on generated reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reports.sample import SPEC, built
from vlcheck.finding import Finding, Outcome, Report, Severity, Verdict
from vlcheck.reports import RENDERERS
from vlcheck.reports.baseline import Baseline, baseline_of, held, read_baseline, render_baseline, shrunk
from vlcheck.spec import ConfigError, Ignore, Location

CODES = tuple(f"VLC{number}" for number in range(101, 104))
PATH = Path("known.json")
findings = st.builds(
    Finding,
    st.sampled_from(["one", "row 3 is empty", "row 7 is empty", "two (line 4)"]),
    st.builds(Location, st.just("train.yaml"), st.integers(1, 4), key=st.sampled_from(["lora.r", "data.path"])),
    severity=st.none() | st.sampled_from(Severity),
)
few = settings(max_examples=max(15, settings.default.max_examples // 3))
silent = st.sampled_from([verdict for verdict in Verdict if verdict not in (Verdict.FOUND, Verdict.IGNORED)])


@st.composite
def outcomes(draw, code: str) -> Outcome:
    """A rule with findings, or without for some reason."""
    rule = built(code, "any", draw(st.sampled_from(Severity)))
    found = tuple(draw(st.lists(findings, max_size=2)))
    return Outcome(rule, Verdict.FOUND if found else draw(silent), found)


@st.composite
def reports(draw) -> Report:
    """Several rules, each once, and a config whose comments ignore some lines."""
    codes = draw(st.lists(st.sampled_from(CODES), min_size=1, unique=True))
    ignores = draw(
        st.lists(
            st.builds(
                Ignore, st.just(Location("train.yaml", 1)), st.integers(1, 4),
                st.lists(st.sampled_from(CODES), min_size=1, max_size=2).map(tuple), st.just("meant"),
            ),
            max_size=3,
        )
    )  # fmt: skip
    return Report(replace(SPEC, ignores=tuple(ignores)), tuple(draw(outcomes(code)) for code in codes))


def identity(code: str, finding: Finding) -> tuple[str, str, str]:
    """What makes two findings the same, told apart from the product's own digest."""
    return code, finding.where.key, finding.message.replace("line 4", "")


def counted(report: Report) -> Counter[tuple[str, str, str]]:
    """Findings that count."""
    return Counter(identity(o.rule.code, f) for o in report.outcomes for f in o.findings)


def apart(report: Report) -> Counter[tuple[str, str, str]]:
    """Findings that are ignored."""
    return Counter(identity(rule.code, ignored.finding) for rule, ignored in report.ignored)


def everything(report: Report) -> Counter[tuple[str, str, str]]:
    return counted(report) + apart(report)


@few
@given(reports())
def test_ignoring_loses_nothing(report):
    """What a comment ignores is what it names at its line, and it is still told, with its reason, in every format."""
    after = report.considerate()

    meant = Counter(
        identity(o.rule.code, f)
        for o in report.outcomes for f in o.findings
        if any(o.rule.code in i.codes and f.where.line == i.line for i in report.spec.ignores)
    )  # fmt: skip
    assert apart(after) == meant
    assert everything(after) == everything(report)
    assert all(ignored.reason == "meant" for _, ignored in after.ignored)
    for form, render in RENDERERS.items():
        assert render(after).count("meant") >= len({rule.code for rule, _ in after.ignored}), form


@few
@given(reports(), st.sampled_from(Severity), st.booleans())
def test_a_report_with_everything_ignored_is_clean(report, fail_on, strict):
    """Its exit code is that of the same rules without findings; what was ignored is listed."""
    known = baseline_of(report, PATH)
    after = held(report, known)
    without = replace(report, outcomes=tuple(
        replace(o, findings=(), verdict=Verdict.PASSED if o.verdict is Verdict.FOUND else o.verdict)
        for o in report.outcomes
    ))  # fmt: skip

    assert counted(after) == Counter()
    assert apart(after) == counted(report)
    assert after.exit_code(fail_on=fail_on, strict=strict) == without.exit_code(fail_on=fail_on, strict=strict)


@few
@given(reports(), reports())
def test_a_baseline_never_hides_a_new_finding(before, now):
    """Of each finding as many are held as were known, and every other one counts."""
    known = baseline_of(before, PATH)
    after = held(now, known)

    assert apart(after) == everything(now) & counted(before)
    assert counted(after) == counted(now) - counted(before)
    assert everything(after) == everything(now)


@few
@given(reports(), reports())
def test_a_baseline_only_shrinks(before, now):
    """It loses exactly what rules that judged no longer find, before or after it was applied, and gains nothing."""
    known = baseline_of(before, PATH)
    smaller = shrunk(now, known)
    judged = {o.rule.code for o in now.outcomes if o.verdict not in (Verdict.SKIPPED, Verdict.ERROR)}

    def names(baseline: Baseline) -> Counter[tuple[str, str]]:
        return Counter((entry.code, entry.fingerprint) for entry in baseline.entries)

    assert names(smaller) <= names(known)
    assert {entry.code for entry in known.entries} - judged <= {entry.code for entry in smaller.entries}
    left = {code for code, *_ in counted(before) - counted(now)} & judged
    assert {entry.code for entry in known.entries if names(smaller) != names(known)} >= (left if left else set())
    assert (names(smaller) == names(known)) == (not left)
    assert shrunk(held(now, known), known) == smaller
    assert shrunk(now, smaller) == smaller
    assert apart(held(now, smaller)) == apart(held(now, known))


@few
@given(reports(), st.dictionaries(st.sampled_from(CODES), st.sampled_from(Severity)), st.sampled_from(Severity))
def test_severities_move_nothing_else(report, graded, fail_on):
    """The exit code is that of the severities that were asked for, whatever the evidence gave a finding."""
    after = report.graded(graded)

    assert everything(after) == everything(report)
    failing = any(
        o.verdict is Verdict.FOUND and graded.get(o.rule.code, o.severity) >= fail_on for o in report.outcomes
    )
    assert (after.exit_code(fail_on=fail_on) == 1) == failing
    changed = {o.rule.code for o in report.outcomes if graded.get(o.rule.code, o.severity) is not o.severity}
    assert bool(changed) == bool(after.remarks)
    assert all(code in after.remarks[0] for code in changed)


@few
@given(reports())
def test_a_baseline_is_read_as_it_was_written(report):
    """The file says all, sorted, and moved lines change nothing in it."""
    import tempfile

    moved = replace(report, outcomes=tuple(
        replace(o, findings=tuple(
            replace(f, where=replace(f.where, line=f.where.line + 9), message=f.message.replace("line 4", "line 13"))
            for f in o.findings))
        for o in report.outcomes
    ))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "known.json"
        text = render_baseline(baseline_of(report, path))
        path.write_text(text, "utf-8")
        again = read_baseline(path)

    assert render_baseline(again) == text
    assert counted(held(moved, again)) == Counter()
    assert shrunk(moved, again) == again


def test_idle_comments_are_said():
    """A comment that ignores nothing is a remark where its rule judged, and none where it could not."""
    ignores = tuple(
        Ignore(Location("train.yaml", line), line, (code,), "meant") for line, code in ((7, "VLC101"), (8, "VLC102"))
    )
    report = Report(replace(SPEC, ignores=ignores), (Outcome(built("VLC101", "a"), Verdict.PASSED),
                                                     Outcome(built("VLC102", "b"), Verdict.SKIPPED)))  # fmt: skip
    assert report.considerate().remarks == (
        "the comment at train.yaml:7 ignores VLC101, and nothing: no such finding is about line 7",
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "baseline no such file; --write-baseline writes one"),
        ("{", "baseline is no baseline of version 1 (JSONDecodeError: "),
        ("[]", "baseline is no baseline of version 1 (TypeError: "),
        ('{"schema": "vlcheck-baseline", "version": 2, "findings": []}', "baseline is no baseline of version 1 ("),
        ('{"schema": "vlcheck-baseline", "version": 1, "findings": [{"x": 1}]}', "baseline is no baseline of version"),
        ("\xff", "baseline is no baseline of version 1 (UnicodeDecodeError: "),
    ],
)
def test_no_baseline(tmp_path, content, complaint):
    """One line, with the file."""
    path = tmp_path / "known.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError) as refused:
        read_baseline(path)
    (problem,) = refused.value.problems
    assert problem.where.file == str(path)
    assert problem.message.startswith(complaint)
