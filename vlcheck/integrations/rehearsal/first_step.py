"""Where a script is stopped: behind the first backward of a trainer, or at a loop's first optimizer step."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import transformers
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import ProcessorMixin, TrainerCallback

from vlcheck.integrations.callback import begun
from vlcheck.integrations.job import Job, Split, with_step
from vlcheck.integrations.rehearsal.judging import judged
from vlcheck.integrations.rehearsal.one_row import one_row
from vlcheck.integrations.rehearsal.stage import Stage


def stop_at_first_step(stage: Stage) -> None:
    """Judge the run there, and end the process."""
    _trainers(stage)
    _accelerate(stage)
    register_optimizer_step_pre_hook(lambda optimizer, given, options: _in_loop(stage, optimizer))


class _FirstStep(TrainerCallback):  # type: ignore[misc]  # transformers does not say what it is
    """Takes a trainer whose model, optimizer and loader are ready through its own first step, and judges it there."""

    def __init__(self, stage: Stage, trainer: Any) -> None:
        self.stage, self.trainer = stage, trainer
        self.job: Job | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **parts: Any) -> None:
        """Put one row in the place of the first batch, and the end behind its backward."""
        job = begun(self.trainer, args, {**parts, "model": model})
        if not isinstance(job.processor, ProcessorMixin):  # a trainer needs none, and some are given the tokenizer
            job = with_step(job, processor=_processor(_named(self.stage)) or job.processor)
        self.job = job
        whole = self.trainer.training_step

        def step(model: Any, inputs: Any, *given: Any, **options: Any) -> Any:
            modes: list[bool] = []
            model.register_forward_pre_hook(lambda module, given: modes.append(module.training))
            try:
                whole(model, one_row(job.training) or inputs, *given, **options)
            finally:
                self.job = with_step(job, mode=modes[0] if modes else None)
            self.end()

        self.trainer.training_step = step

    def end(self, stopped: str = "") -> None:
        """Judge what the trainer holds, and end the process."""
        assert self.job is not None, "training has begun"
        job, name = self.job, type(self.trainer).__name__
        self.stage.replace(f"{name}.train: one row in place of the first batch, stopped behind its backward")
        self.stage.end(lambda: judged(self.stage, job, stopped))


def _trainers(stage: Stage) -> None:
    whole = transformers.Trainer.train

    def train(self: Any, *given: Any, **options: Any) -> Any:
        first = _FirstStep(stage, self)
        self.add_callback(first)
        try:
            return whole(self)  # no checkpoint is taken up
        except Exception as error:  # the user's collator, loss or model
            if first.job is None:
                raise
            first.end(stage.told(error))

    transformers.Trainer.train = train


def _accelerate(stage: Stage) -> None:
    """What a script hands to `prepare` is what it trains."""
    from accelerate import Accelerator

    whole = Accelerator.prepare

    def prepare(self: Any, *given: Any, **options: Any) -> Any:
        prepared = whole(self, *given, **options)
        stage.prepared += given
        if self.gradient_accumulation_steps > 1:
            stage.replace(f"gradient_accumulation_steps={self.gradient_accumulation_steps}: one batch")
            self.gradient_accumulation_steps = 1
        return prepared

    Accelerator.prepare = prepare


def _in_loop(stage: Stage, optimizer: Any) -> None:
    """The objects of a loop: those it handed to accelerate, and those that stand in its own names."""
    held = [*stage.prepared, *_named(stage)]
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    models = [each for each in held if isinstance(each, nn.Module) and any(p.requires_grad for p in each.parameters())]
    stepped = [each for each in models if any(id(parameter) in own for parameter in each.parameters())]
    model = max(stepped or models, key=lambda each: sum(1 for _ in each.modules()), default=None)
    if model is None:
        stage.end(lambda: {"failure": "the loop's model was not found among its names"})
        return
    loaders = [each for each in held if hasattr(each, "dataset") and hasattr(each, "collate_fn")]
    batch = next(
        (each for each in held if isinstance(each, dict | transformers.BatchFeature) and "labels" in each), None
    )
    training = Split(loaders[0].dataset, loaders[0].collate_fn) if loaders else Split()
    if not loaders and batch is not None:
        training = Split(batches=(dict(batch),))
    job = Job(
        model,
        training,
        processor=_processor(held),
        optimizer=optimizer,
        mode=model.training,
    )
    stage.replace("optimizer.step: stopped before the first one")
    stage.end(lambda: judged(stage, job))


def _processor(held: Iterable[Any]) -> Any:
    return next((each for each in held if isinstance(each, ProcessorMixin)), None)


def _named(stage: Stage) -> Iterator[Any]:
    """Values of the names in the script's own frames, the innermost first."""
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == stage.code_name:
            yield from frame.f_locals.values()
            yield from frame.f_globals.values()
        frame = frame.f_back
