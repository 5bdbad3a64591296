"""The callback in real trainers: silent on sound runs, stops faulty ones before step one, changes no bit."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from tests.integrations import live_samples as live
from tests.integrations import test_planted_faults as planted
from vlcheck import RunCheckCallback, RunCheckFailed, Severity


def arguments(folder: Any, **changed: Any) -> TrainingArguments:
    options = {
        "output_dir": str(folder), "per_device_train_batch_size": 2, "max_steps": 2, "learning_rate": 1e-3,
        "remove_unused_columns": False, "report_to": "none", "save_strategy": "no", "logging_steps": 1,
        "disable_tqdm": True, "use_cpu": True, "seed": 3,
    }  # fmt: skip
    return TrainingArguments(**(options | changed))


def trainer_of(parts: live.Parts, folder: Any, *callbacks: Any, kind: type[Trainer] = Trainer, **changed: Any) -> Any:
    optimizers = (parts.optimizer, None) if parts.optimizer is not None else (None, None)
    return kind(
        model=parts.model,
        args=arguments(folder, **changed),
        train_dataset=parts.rows,
        eval_dataset=parts.evaluated,
        data_collator=parts.collator,
        processing_class=parts.processor,
        optimizers=optimizers,
        callbacks=list(callbacks),
    )


class Forgetful(Trainer):
    """A trainer whose own step leaves the model in evaluation mode."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.eval()
        loss = self.compute_loss(model, self._prepare_inputs(inputs))
        self.accelerator.backward(loss)
        return loss.detach()


def states() -> tuple[Any, ...]:
    """Every random state of this process, as values that compare."""
    _, keys, *place = np.random.get_state()
    return random.getstate(), keys.tobytes(), tuple(place), torch.get_rng_state().numpy().tobytes()


def trained(folder: Any, *callbacks: Any) -> tuple[Any, ...]:
    """Losses, weights and random states behind a short run."""
    trainer = trainer_of(live.sound(), folder, *callbacks)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    return losses, weights, states()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What vlcheck logs, from warnings on."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("vlcheck")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_a_sound_run_is_silent_and_the_same_bit_for_bit(tmp_path, logged):
    """Losses, trained weights and every random state equal those of the run without the callback."""
    looking = RunCheckCallback()
    losses, weights, after = trained(tmp_path, looking)
    bare_losses, bare_weights, bare_after = trained(tmp_path)

    assert losses == bare_losses
    assert all(torch.equal(weights[name], bare_weights[name]) for name in bare_weights)
    assert after == bare_after
    assert not logged
    assert not any(report.found() for report in looking.reports)
    begun, first, stepped = looking.reports
    assert {o.rule.code for o in begun.outcomes} >= {"VLC202", "VLC406", "VLC003"}
    assert [o.verdict.value for o in first.outcomes] == ["passed"]
    assert [o.verdict.value for o in stepped.outcomes] == ["passed"]


@pytest.mark.parametrize(
    "plant",
    [
        plant if plant is planted.early_optimizer else pytest.param(plant, marks=pytest.mark.slow)
        for plant in planted.FAULTS
        if plant is not planted.not_training
    ],
    ids=lambda plant: plant.__name__,
)
def test_a_fault_stops_the_run_before_its_first_step(plant, tmp_path):
    """The exception names the fault, and no weight has moved."""
    parts = live.sound()
    plant(parts)
    trainer = trainer_of(parts, tmp_path)
    trainer.add_callback(RunCheckCallback(trainer=trainer))
    before = {name: p.detach().clone() for name, p in parts.model.named_parameters()}

    with pytest.raises(RunCheckFailed, match=planted.FAULTS[plant][0]):
        trainer.train()

    assert trainer.state.global_step == 0
    assert all(torch.equal(before[name], p) for name, p in parts.model.named_parameters())


@pytest.mark.slow
def test_a_step_in_evaluation_mode_is_stopped_at_its_first_forward(tmp_path):
    """The trainer's own step sets the mode, so only the forward itself can tell."""
    trainer = trainer_of(live.sound(), tmp_path, RunCheckCallback(rows=2, select=("VLC007",)), kind=Forgetful)

    with pytest.raises(RunCheckFailed, match="VLC007 dropout-off: the model is in evaluation mode"):
        trainer.train()


def test_a_part_without_gradient_is_stopped_before_the_optimizer_steps(tmp_path):
    """What is cut off behind the first forward shows in the gradients alone."""
    parts = live.sound()
    tower = parts.model.get_base_model().model.vision_tower
    tower.register_forward_hook(lambda module, args, made: type(made)({k: v.detach() for k, v in made.items()}))
    looking = RunCheckCallback(rows=2, select=("VLC009",))
    trainer = trainer_of(parts, tmp_path, looking)

    with pytest.raises(
        RunCheckFailed, match="VLC009 no-gradient: vision tower: all 4 trained modules have no gradient"
    ):
        trainer.train()

    assert trainer.state.global_step == 0


def test_stopping_is_left_to_the_caller(tmp_path, logged):
    """With stop_on=None the run goes on, and the log says what was found."""
    parts = live.sound()
    planted.early_optimizer(parts)
    looking = RunCheckCallback(None, rows=2, select=("VLC003",))

    trainer_of(parts, tmp_path, looking, max_steps=1).train()

    assert [o.rule.code for o in looking.reports[0].found(Severity.ERROR)] == ["VLC003"]
    assert "VLC003 parameter-in-no-group" in "\n".join(logged)
    with pytest.raises(ValueError, match="stop_on is 'fatal'; allowed: error, warning, None"):
        RunCheckCallback("fatal")
