"""Remedies that depend on whose loop runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlcheck.finding import Finding
from vlcheck.gpus import gpu
from vlcheck.memory.alternatives import changes
from vlcheck.memory.plan import LedgerLine, MemoryPlan
from vlcheck.memory.shape import Shape
from vlcheck.rules.waste import full_logits
from vlcheck.spec import ModelRef, RunSpec, Training
from vlcheck.training.settings import settings_of


@pytest.mark.parametrize(("framework", "fix"), [(None, "logits: supervised"), ("transformers", "a chunked or fused")])
def test_full_logits_are_mended_by_what_the_framework_can_do(framework, fix):
    """`logits` is a setting of vlcheck's own loop."""
    training = Training(framework=framework, logits="all", per_device_train_batch_size=8)
    run = RunSpec(model=ModelRef(id="m"), training=training)
    plan = MemoryPlan(
        gpu=gpu("h100"), shape=Shape(rows=8, tokens=512), reserved_bytes=100,
        lines=(LedgerLine("logits and loss", 90), LedgerLine("weights", 10)),
    )  # fmt: skip
    (finding,) = [each for each in full_logits.check(run, plan) if isinstance(each, Finding)]
    assert finding.fix.startswith(fix)


def test_logits_are_no_change_that_another_trainer_could_make():
    training = Training(logits="all", per_device_train_batch_size=1, optim="paged_adamw_8bit")
    for framework, offered in ((None, True), ("trl", False)):
        run = RunSpec(model=ModelRef(id="m"), training=replace(training, framework=framework))
        assert any("logits" in change for change, _ in changes(settings_of(run))) is offered
