"""The upstream sample's two jobs: what is reported of the Gemma 4 command, and what is not of the Gemma 3 one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import vlcheck
from tests.launch.runs import TODAY
from tests.launch.runs import judged as preflight
from vlcheck.finding import Report, Verdict
from vlcheck.launch.read import read_job

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "fixtures" / "jobs" / "upstream"
CONFIGS = ROOT / "fixtures" / "configs" / "native" / "history"


def judged(config: str, job: str, rows: int) -> Report:
    spec = vlcheck.load(CONFIGS / config)
    spec = replace(spec, data=replace(spec.data, train_samples=rows))
    return vlcheck.preflight(spec, read_job(SAMPLE / job), select=["VLC6"], offline=True, today=TODAY)


def of_literals(config: str, job: str, rows: int) -> Report:
    """The same without building the model: the work of a row of the 31B stands in runs.py."""
    spec = vlcheck.load(CONFIGS / config)
    spec = replace(spec, data=replace(spec.data, train_samples=rows))
    spec = replace(spec, hardware=replace(spec.hardware, gpu="rtx-pro-6000"))
    return preflight(read_job(SAMPLE / job), spec)


def test_the_gemma_4_command_is_reported_for_its_timeout_its_pins_and_its_resume():
    found = {o.rule.code: o.findings[0] for o in of_literals("4-gemma4-all-linear.yaml", "gemma4.sh", 700).found()}

    assert set(found) == {"VLC603", "VLC615", "VLC616", "VLC620"}
    assert found["VLC603"].message.startswith("no task timeout is set, and Cloud Run's default is 10 min")


def test_the_gemma_3_command_passes_the_rules_of_timeouts():
    report = of_literals("1-gemma3-plain-names.yaml", "gemma3.sh", 1000)
    passed = {o.rule.code for o in report.outcomes if o.verdict is Verdict.PASSED}

    assert {"VLC603", "VLC604", "VLC606"} <= passed
    assert {"VLC615", "VLC620"} <= {o.rule.code for o in report.found()}


@pytest.mark.slow
def test_the_gemma_4_command_is_reported():
    """No task timeout, unpinned requirements, resume from any checkpoint found: each at its own file and line."""
    report = judged("4-gemma4-all-linear.yaml", "gemma4.sh", 700)
    found = {o.rule.code: o.findings[0] for o in report.found()}

    assert set(found) == {"VLC603", "VLC615", "VLC616", "VLC620"}
    assert found["VLC603"].message.startswith("no task timeout is set, and Cloud Run's default is 10 min")
    assert Path(found["VLC603"].where.file).name == "gemma4.sh"
    assert found["VLC620"].measured["unpinned"][:2] == ["torch>=2.7.0", "transformers>=4.49.0"]
    assert (Path(found["VLC615"].where.file).name, found["VLC615"].where.line) == ("finetune_and_evaluate.py", 12)
    assert report.exit_code() == 1


@pytest.mark.slow
def test_the_gemma_3_command_is_not_reported_for_its_timeout():
    report = judged("1-gemma3-plain-names.yaml", "gemma3.sh", 1000)
    found = {o.rule.code for o in report.found()}

    assert {"VLC615", "VLC620"} <= found
    assert not found & {"VLC603", "VLC604", "VLC605", "VLC606"}
    assert {o.rule.code for o in report.outcomes if o.examined} >= {"VLC603", "VLC604"}
