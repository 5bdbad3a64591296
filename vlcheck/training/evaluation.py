"""Evaluate a run on its evaluation split while it trains.

Nothing of the training is touched: random states, modes and settings are put back, and rows are collated by a copy of
the collator, because the run's own one is at work in another thread. The curve with evaluations is the curve without.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from vlcheck.data.conversation import BadRow, Conversation
from vlcheck.processing.collator import Collator, to_device
from vlcheck.processing.exact_match import matches
from vlcheck.processing.generate import MARGIN, Answer, answer_tokens, evaluate
from vlcheck.spec import RunSpec
from vlcheck.training.compiled import readable
from vlcheck.training.course import Course, metric_of
from vlcheck.training.feed import MicroBatch, collate_rows
from vlcheck.training.order import Order
from vlcheck.training.record import Record
from vlcheck.training.settings import SAMPLES, settings_of
from vlcheck.training.setup import Live
from vlcheck.training.snapshot import rng_state, set_rng_state
from vlcheck.training.step import autocast, forward_loss
from vlcheck.training.watch import RunStopped

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a run where an evaluation is due.

    Args:
        rows: of the evaluation split; none where the run is not evaluated.
        course: what evaluations have shown; each one is noted there.
    """

    spec: RunSpec
    order: Order
    rows: Sequence[Conversation]
    collator: Collator
    live: Live
    accelerator: Accelerator
    course: Course
    record: Record

    def after(self, step: int) -> bool:
        """Evaluate behind a step if that is due and was not done before; returns whether it was.

        Raises:
            RunStopped: if no row of the split can be used.
        """
        if not self.rows or step <= self.course.step or not due(self.spec, self.order, step):
            return False
        started = time.perf_counter()
        with _undisturbed(self.live.base), readable() if self.live.compiled else nullcontext():
            found, samples = self._asked()
        value = found.get("eval_loss" if metric_of(self.spec.training) == "eval_loss" else "eval_accuracy", math.nan)
        better = self.course.note(step, value, self.live.state.adapter)
        self.record.evaluation(
            {
                "step": step,
                **found,
                "seconds": time.perf_counter() - started,
                "best_step": self.course.best_step,
                "samples": samples,
            },
            better=better,
        )
        return True

    def _asked(self) -> tuple[dict[str, Any], list[dict[str, str]]]:
        """Loss over all rows, accuracy where the best is told by it, and a few answers."""
        accelerator, training = self.accelerator, self.spec.training
        rank, processes = accelerator.process_index, accelerator.num_processes
        collator = copy.deepcopy(self.collator)
        own, size = self.rows[rank::processes], training.per_device_eval_batch_size
        sums = torch.zeros(4, dtype=torch.float64)  # loss times ids, ids, right answers, answers
        left_out: dict[str, str] = {}
        for at in range(0, len(own), size):
            for micro in _collated(collator, own[at : at + size], left_out):
                if micro.batch is not None and micro.supervised:
                    sums[:2] += torch.tensor([float(self._loss(micro)) * micro.supervised, micro.supervised])
        every = metric_of(training) == "accuracy"
        answers = self._answers(collator, own if every else [] if rank else _spread(self.rows))
        if every:
            sums[2:] += torch.tensor([sum(matches(a.text, a.expected) for a in answers), len(answers)])
        told: list[dict[str, str]] = gather_object([left_out]) if processes > 1 else [left_out]
        loss, ids, right, asked = accelerator.reduce(sums.to(accelerator.device), "sum").tolist()
        if not ids:
            name, reason = next(iter({k: v for each in told for k, v in each.items()}.items()), ("", "no label"))
            raise RunStopped(f"no row of split {self.spec.data.eval_split!r} can be evaluated: {name}: {reason}")
        found = {"eval_loss": loss / ids, **({"eval_accuracy": right / max(1.0, asked)} if every else {})}
        found |= {"rows": len(self.rows), "left_out": sum(map(len, told))}
        return found, [{"row": a.name, "expected": a.expected, "answered": a.text} for a in _spread(answers)]

    def _loss(self, micro: MicroBatch) -> torch.Tensor:
        settings, device = settings_of(self.spec), self.accelerator.device
        assert micro.batch is not None
        with torch.no_grad(), autocast(settings.precision, device.type):
            batch = to_device(micro.batch, device)
            return forward_loss(self._model, batch, supervised_only=settings.supervised_only)

    def _answers(self, collator: Collator, rows: Sequence[Conversation]) -> list[Answer]:
        if not rows:
            return []
        turns = [row.turns[row.answers[-1]] for row in rows]
        tokens = answer_tokens(collator, {t.text for t in turns}, {t.thinking for t in turns if t.thinking}) + MARGIN
        device, size = self.accelerator.device, self.spec.training.per_device_eval_batch_size
        with autocast(settings_of(self.spec).precision, device.type):
            replies = evaluate(self._model, collator, rows, batch_size=size, max_new_tokens=tokens, device=str(device))
            return [reply for reply in replies if isinstance(reply, Answer)]

    @property
    def _model(self) -> nn.Module:
        """Without DDP, whose forward waits for the other processes."""
        model: nn.Module = self.accelerator.unwrap_model(self.live.model)
        return model


def _spread(things: Sequence[Thing]) -> list[Thing]:
    """As many as are shown, from all over: splits are often sorted by label."""
    shown = min(SAMPLES, len(things))
    return [things[len(things) * number // shown] for number in range(shown)]


def due(spec: RunSpec, order: Order, step: int) -> bool:
    """Whether an evaluation stands behind a step, counted from 1."""
    training = spec.training
    if training.eval_strategy == "no" or step < 1:
        return False
    if training.eval_strategy == "epoch":
        return order.ends_epoch(step)
    every = training.logging_steps if training.eval_steps is None else training.eval_steps
    return step % order.whole_steps(every) == 0


def _collated(collator: Collator, rows: Sequence[Conversation], left_out: dict[str, str]) -> Iterator[MicroBatch]:
    """Rows that can be used, in one batch or, where one cannot be used, each in its own."""
    try:
        made = collate_rows(collator, rows)
    except BadRow as bad:
        if len(rows) == 1:
            left_out[str(rows[0])] = str(bad)
            return
        for row in rows:
            yield from _collated(collator, [row], left_out)
        return
    left_out |= dict(made.unreadable) | {dropped.name: str(dropped) for dropped in made.dropped}
    yield made


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then every module's mode and every random state as they were."""
    states, modes = rng_state(), [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
        set_rng_state(states)
