"""A run without lora: every weight is trained, and rules about adapters have nothing to judge."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests import tiny
from vlcheck.config.defaults import own_loop
from vlcheck.config.load import load
from vlcheck.engine import audit, train_run
from vlcheck.evaluation.run import evaluate_run
from vlcheck.finding import Verdict
from vlcheck.spec import ConfigError, Intent, ModelRef, RunSpec, Training

NOT_ABOUT_ADAPTERS = {
    "VLC107", "VLC110", "VLC113", "VLC114", "VLC401", "VLC402", "VLC403", "VLC404", "VLC405", "VLC410", "VLC411",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(tiny.gemma4()))
    return folder


def whole(model, *, freeze=(), **intent) -> RunSpec:
    return RunSpec(model=ModelRef(id=str(model)), training=Training(freeze=freeze), intent=Intent(**intent))


def test_rules_about_adapters_do_not_apply(model):
    """None passes: each says why it has nothing to judge, and the report's head says it too."""
    report = audit(whole(model), select=("VLC1", "VLC4", "VLC806"), offline=True)
    about = [outcome for outcome in report.outcomes if outcome.rule.code not in NOT_ABOUT_ADAPTERS]
    assert len(about) > 15
    assert {outcome.verdict for outcome in about} == {Verdict.NOT_APPLICABLE}
    assert all("no adapters" in outcome.reason for outcome in about)
    assert not report.found()
    assert "the run has no lora: every weight is trained, and no rule about adapters applies" in report.remarks


def test_intent_is_held_against_what_is_frozen(model):
    """A part that is meant to be trained and frozen, and one the other way round; each fix makes its finding go."""
    spec = whole(model, freeze=("vision",), vision="train", projector="freeze")
    report = audit(spec, select=("VLC4",), offline=True)
    found = {outcome.rule.code: outcome.findings[0] for outcome in report.found()}
    assert {code: finding.fix for code, finding in found.items()} == {
        "VLC402": "freeze: []", "VLC405": "freeze: [vision, projector]",
    }  # fmt: skip
    assert "is frozen: vision tower 0, projector 1" in found["VLC402"].message
    assert found["VLC402"].where.key == "training.freeze"
    mended = replace(spec, training=Training(freeze=("projector",)))
    assert not audit(mended, select=("VLC4",), offline=True).found()


def test_a_frozen_language_model_is_an_error(model):
    """Nothing but the towers would be trained."""
    report = audit(whole(model, freeze=("language",)), select=("VLC401",), offline=True)
    assert "language model is frozen" in report.found()[0].findings[0].message


def test_it_is_another_loops_job(tmp_path):
    """One line, before anything is built; no --force changes it."""
    (tmp_path / "run.yaml").write_text("model: {id: google/gemma-4-E2B-it}\ntraining: {framework: trl}\n")
    spec = load(tmp_path / "run.yaml")
    message = "1:1: section lora is missing, so every weight is trained: that is trl's job, and vlcheck's own loop"
    with pytest.raises(ConfigError, match=message):
        own_loop(spec, force=True)
    for refused in (lambda: train_run(spec, force=True), lambda: evaluate_run(spec, tmp_path / "evaluation")):
        with pytest.raises(ConfigError, match="every weight is trained"):
            refused()
    assert [each.name for each in tmp_path.iterdir()] == ["run.yaml"]
