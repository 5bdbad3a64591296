"""Public runs, restated in this project's words: each gets the verdict that its thread reports.

They lie beside a checkout, in `../shared/field`, and these tests skip where they do not. Small ones are restated in
tests/data/test_row_forms.py and tests/rules/test_remedies.py, which need no folder beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from vlcheck.config.load import load
from vlcheck.engine import audit
from vlcheck.finding import Report, Severity, Verdict

FIELD = Path(__file__).parents[2] / "shared" / "field" / "runs"
RUNS = {
    path.stem.partition("-")[0] if path.stem[:1] in "ab" else path.stem: path for path in sorted(FIELD.glob("*.yaml"))
}
WITHOUT_MEMORY = ("VLC1", "VLC2", "VLC4", "VLC5", "VLC8")

VERDICTS: Mapping[str, Mapping[str, str]] = {
    "a06": {},
    "a12": {"VLC102": "target_modules: 'model.language_model.layers"},
    "a14": {"VLC102": "target_modules: all-linear"},
    "a15c": {"VLC203": "max_length: "},
    "a16": {"VLC521": "", "VLC522": "rename the column imgs to images"},
    "a20": {"VLC523": "as a list"},
    "a20b": {"VLC524": "as messages"},
    "b16": {"VLC412": "intent: {experts: freeze}; or target_parameters: "},
    "b20": {"VLC403": "target_modules: all-linear", "VLC412": "target_parameters"},
    "b25b": {"VLC409": "remove modules_to_save"},
    "exclude-lm_head": {"VLC108": "remove exclude_modules"},
    "gemma3-projector-train": {"VLC403": "modules_to_save: [multi_modal_projector]"},
    "silent-half-vision": {"VLC415": "exclude_modules: '.*vision_tower.*'; or intent: {vision: train}"},
    "unknown-gpu-v100": {"VLC102": "target_modules: 'model.language_model.layers"},
}
"""Code to the beginning or a part of its fix, as far as the rules of model, labels and data decide it."""


def judged(name: str, *select: str) -> Report:
    """The report on a run, without the network."""
    if name not in RUNS:
        pytest.skip("the runs of ../shared/field are not here")
    return audit(load(RUNS[name]), offline=True, select=select)


@pytest.mark.slow
@pytest.mark.parametrize("name", VERDICTS)
def test_verdict_of_the_thread(name):
    """What the thread reports is found, with a fix; no rule raises."""
    report = judged(name, *WITHOUT_MEMORY)
    assert not report.with_verdict(Verdict.ERROR)
    fixes = {o.rule.code: " ".join(f.fix for f in o.findings) for o in report.found()}
    for code, fix in VERDICTS[name].items():
        assert fix in fixes[code], fixes


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS or ["none"])
def test_no_run_ends_in_a_traceback(name):
    """Whatever a run names, a card nobody knows too, there is a report."""
    report = judged(name)
    assert not report.with_verdict(Verdict.ERROR), [o.reason for o in report.with_verdict(Verdict.ERROR)]
    assert report.exit_code() in (0, 1)


@pytest.mark.slow
def test_a_run_meant_for_trl_is_told_what_it_supervises():
    """A newcomer's run names no framework (VLC901); once it names TRL, VLC207 says what TRL's default labels."""
    if "newcomer-trl-logits" not in RUNS:
        pytest.skip("the runs of ../shared/field are not here")
    spec = load(RUNS["newcomer-trl-logits"])
    report = audit(replace(spec, training=replace(spec.training, framework="trl")), offline=True, select=("VLC207",))

    assert [(o.rule.code, o.severity) for o in report.found()] == [("VLC207", Severity.WARNING)]
    assert "completion_only_loss" in report.found()[0].findings[0].fix


def test_data_that_was_not_read_is_said():
    """A data set that is not here: the report's last remark says that nothing was seen of it."""
    report = judged("a09", "VLC521")
    assert "NO DATA WAS READ" in report.remarks[-1]
