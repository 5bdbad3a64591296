"""Training's Python door: judge first, train what was judged, and say everything through the caller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import vlcheck
from tests.training.runs import small
from vlcheck.engine import NotStarted
from vlcheck.finding import Report, Severity, Unavailable

LANGUAGE_ONLY = r".*language_model\..*_proj"


def test_errors_stop_the_run_and_are_told(tmp_path, capfd):
    """Nothing is written, nothing printed; the report goes to whoever asked."""
    spec = small(tmp_path / "run")
    spec = replace(spec, lora=replace(spec.lora, target_modules=LANGUAGE_ONLY))
    reports: list[Report] = []
    lines: list[str] = []
    with pytest.raises(NotStarted):
        vlcheck.train_run(spec, offline=True, say=lines.append, judged=reports.append)

    assert "VLC402" in [outcome.rule.code for outcome in reports[0].found(Severity.ERROR)]
    assert lines[0].startswith("audit: ")
    assert {each.reason for each in reports[0].outcomes if "no card is named" in each.reason} == {
        "no card is named; `vlcheck fit` tells what the run takes"
    }
    assert lines[-1] == "not started; --force starts the run all the same"
    assert not (tmp_path / "run").exists()
    assert capfd.readouterr() == ("", "")


def test_a_sound_run_leaves_an_adapter_and_prints_nothing(tmp_path, capfd):
    """Without `say` the door is silent."""
    trained = vlcheck.train_run(small(tmp_path / "run", max_steps=1, save_steps=1), offline=True)

    assert (trained.steps, trained.adapter) == (1, Path(tmp_path / "run" / "adapter"))
    assert trained.adapter.is_dir()
    assert capfd.readouterr().out == ""


def test_a_patch_that_may_not_run_stops_it_before_the_audit(tmp_path):
    """Training without the patch would be another run."""
    spec = small(tmp_path / "run")
    spec = replace(spec, model=replace(spec.model, patch="some.where:apply"))
    lines: list[str] = []
    with pytest.raises(Unavailable, match="changes the model"):
        vlcheck.train_run(spec, offline=True, say=lines.append)

    assert lines == []
