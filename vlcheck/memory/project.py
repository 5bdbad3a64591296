"""Project a run: build its model on meta, take a step, play the tape on the card's allocator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from vlcheck.finding import Unavailable
from vlcheck.gpus import Gpu
from vlcheck.memory.attention import Arch, Call, Kernel, choose
from vlcheck.memory.between import neighbours, tape_between
from vlcheck.memory.cache import answering, cached_layers
from vlcheck.memory.compiled_layers import Compiler, GraphFailed
from vlcheck.memory.ddp import Wrapping, wrapping_of
from vlcheck.memory.draws import shapes_of
from vlcheck.memory.layers import Unlike
from vlcheck.memory.limits import check_attention, check_modelled, doubts
from vlcheck.memory.micro import MicroStep, step_model
from vlcheck.memory.optimizer import Optimized, managed_size
from vlcheck.memory.parallel import spread
from vlcheck.memory.plan import MemoryPlan, plan_of
from vlcheck.memory.rows import shape_of
from vlcheck.memory.sequence import whole_tape
from vlcheck.memory.shape import Shape
from vlcheck.memory.tape import Tape
from vlcheck.memory.weights import pack, stored
from vlcheck.model.build import Weights, base_of, build_model
from vlcheck.model.family import Family, Values
from vlcheck.model.whole import freeze_parts
from vlcheck.processing.generate import MARGIN
from vlcheck.processing.lengths import Lengths
from vlcheck.spec import RunSpec
from vlcheck.training.settings import StepSettings, settings_of
from vlcheck.training.step import prepare, switch_checkpointing

T = TypeVar("T")


def project_memory(spec: RunSpec, config: Values, family: Family, gpu: Gpu, shape: Shape | None = None,
                   lengths: Lengths | None = None) -> MemoryPlan:  # fmt: skip
    """What a run takes on a card at the worst moment of its steps.

    Args:
        config: the model's config.json.
        shape: of a micro-batch; without it, the worst that its rows or its description allow.
        lengths: of the run's rows, where they were measured.

    Raises:
        Unavailable: if the step cannot be simulated; a guess would be worse than a refusal.
        AdapterRefused, UnbuildableConfig: as `build_model` does.
    """
    return Simulation(spec, config, family, lengths=lengths).plan(gpu, shape)


@dataclass(frozen=True)
class TakenStep:
    """A micro-step that was simulated, and the kernels that it was simulated with."""

    tape: Tape
    gradients: list[int]
    """Blocks of the gradients in the order in which they came."""
    kernels: dict[str, int]
    """Attention calls by kernel."""
    chosen: dict[Call, Kernel]
    """What each kind of attention call was given; another card that gives them the same takes this step too."""
    left_readable: frozenset[str] = frozenset()
    """Kinds of layers that were to be compiled, and whose graphs could not be made."""


class Simulation:
    """A run's model, ready for steps of any shape on any card."""

    def __init__(self, spec: RunSpec, config: Values, family: Family, model: nn.Module | None = None,
                 lengths: Lengths | None = None) -> None:  # fmt: skip
        """Build the run's model on meta, and bring it into the state in which it trains.

        Args:
            model: the run's model on meta, inside PEFT's, if it is at hand. It is changed in place: 4-bit weights are
                packed, the cache is off, checkpointing is on where the run has it.
            lengths: of the run's rows, where they were measured.
        """
        self.spec, self.family, self.settings, self.lengths = spec, family, settings_of(spec), lengths
        self.model = build_model(spec, Weights.META, config=config) if model is None else model
        freeze_parts(base_of(self.model), spec, family)
        check_modelled(spec)
        check_attention(self.model, spec)
        pack(self.model)
        prepare(self.model, self.settings)
        self._checkpointing = self.settings.checkpointing
        self.compiler = Compiler.of(self.model) if self.settings.compiled and self.settings.own_loop else None
        self.step_model = step_model(self.model, family)
        self.config = self.step_model.config
        self.optimized = Optimized.of(self.model)
        self.cached = tuple(cached_layers(base_of(self.model), family))
        self.stored = tuple(stored(self.model))
        self._tapes: dict[tuple[Shape, float, str, bool], list[TakenStep]] = {}
        self._evaluations: dict[tuple[Shape, Arch, str], Tape] = {}
        self._plans: dict[tuple[Shape, int, int, StepSettings], MemoryPlan] = {}

    def shapes(self, rows: int) -> tuple[Shape, ...]:
        """Micro-batches of so many rows, one of which takes the most that the run can draw.

        Raises:
            Unavailable: if the family's processor is not described, or rows hold what no memory model knows.
        """
        if self.lengths is None or not self.lengths.rows:
            return (shape_of(self.spec.data, self.family, self.config, rows=rows),)
        return shapes_of(self.lengths, self.spec.data, self.family, self.config, rows=rows)

    def plan(self, gpu: Gpu, shape: Shape | None = None, settings: StepSettings | None = None) -> MemoryPlan:
        """The plan of a shape on a card.

        Args:
            shape: of a micro-batch; without it, the worst that the run can draw.
            settings: other settings than the run's own, for the same model.

        Raises:
            Unavailable: if the step cannot be simulated.
        """
        settings = settings or self.settings
        if shape is None:
            plans = [self.plan(gpu, each, settings) for each in self.shapes(settings.rows)]
            worst = max(plans, key=lambda plan: (plan.allocated_bytes, plan.driver_bytes))
            typical = worst.shape.typical
            if typical in (None, worst.shape) or settings != self.settings:
                return worst
            return replace(worst, typical_bytes=self.plan(gpu, typical, settings).driver_bytes)
        taken = self._micro_step(gpu, shape, settings)
        key = (shape, id(taken), gpu.workspace_bytes, settings)
        if key not in self._plans:
            whole = whole_tape(
                self.stored, self.optimized, settings, taken.tape, taken.gradients,
                (gpu.workspace_bytes,) * 2, self._wrapping(settings), self._evaluated(gpu, shape, settings),
            )  # fmt: skip
            managed = managed_size(self.optimized, settings)
            self._plans[key] = plan_of(whole, gpu, shape, managed=managed, kernels=taken.kernels)
        graphs = self.compiler is not None and not taken.left_readable
        unsure = doubts(gpu, self.family, settings, self.spec, graphs=graphs)
        plan = replace(self._plans[key], gpu=gpu, shape=self._told(shape, settings), doubts=unsure)
        return spread(plan, self.model, gpus=settings.gpus, sharding=settings.sharding)

    def _evaluated(self, gpu: Gpu, shape: Shape, settings: StepSettings) -> dict[str, Tape]:
        """What an evaluation does with the fullest rows of its split, or of the training split, by moment."""
        if not settings.eval_rows:
            return {}
        full = self._evaluated_shape(shape, settings.eval_rows)
        tapes = {"evaluation": self._forward(gpu, full, settings)}
        if settings.answered_rows and self.cached:
            full = self._evaluated_shape(shape, settings.answered_rows)
            forward = self._forward(gpu, full, replace(settings, logits="supervised"))
            answer = max(map(full.supervised_of, range(full.rows))) + MARGIN
            width = 2 if settings.precision else getattr(torch, self.spec.model.dtype).itemsize
            tapes["answers of an evaluation"] = answering(
                forward, self.cached, rows=full.rows, prompt=full.tokens, answer=answer, width=width
            )
        return tapes

    def _evaluated_shape(self, shape: Shape, rows: int) -> Shape:
        shape = replace(shape, rows=rows)
        if self._eval_lengths.rows:
            (shape,) = shapes_of(self._eval_lengths, self.spec.data, self.family, self.config, rows=rows, most=1)
        return shape

    def _forward(self, gpu: Gpu, shape: Shape, settings: StepSettings) -> Tape:
        arch = Arch(gpu.major, gpu.minor, gpu.amd)
        key = (shape, arch, settings.logits)
        if key not in self._evaluations:
            _, self._evaluations[key] = self._simulated(settings, shape, arch, MicroStep.evaluate)
        return self._evaluations[key]

    @property
    def _eval_lengths(self) -> Lengths:
        """The rows of the evaluation split; none where they were not measured."""
        return (self.lengths and self.lengths.evaluated) or Lengths()

    def _told(self, shape: Shape, settings: StepSettings) -> Shape:
        """The shape, with what is taken for the rows of an evaluation."""
        known = f"the fullest of its {len(self._eval_lengths.rows):,} rows"
        full = known if self._eval_lengths.rows else "the fullest training row"
        told = f"evaluation of {settings.eval_rows} rows at a time, each as full as {full}"
        if not settings.eval_rows or told in shape.assumptions:
            return shape
        return replace(shape, assumptions=(*shape.assumptions, told))

    def _wrapping(self, settings: StepSettings) -> Wrapping | None:
        if not settings.replicated:
            return None
        return wrapping_of(self.model, leaves_frozen_out=settings.own_loop, finds_unused=self._finds_unused(settings))

    def _finds_unused(self, settings: StepSettings) -> bool:
        """Whether DDP looks for adapters without a gradient: vlcheck's own not where every row has an image."""
        known = self.lengths or Lengths()
        pictured = bool(known.rows) and not known.unread and all(row.images for row in known.rows)
        return settings.replicated and not (settings.own_loop and pictured)

    def _micro_step(self, gpu: Gpu, shape: Shape, settings: StepSettings) -> TakenStep:
        arch = Arch(gpu.major, gpu.minor, gpu.amd)
        cloned = self._finds_unused(settings)
        key = (shape, settings.checkpointing, settings.logits, cloned)
        taken = self._tapes.setdefault(key, [])
        known = _same_kernels(taken, arch)
        if known is None:
            known = self._between(key, arch)
            if known is None:
                if settings.checkpointing != self._checkpointing:
                    switch_checkpointing(self.model, settings)
                    self._checkpointing = settings.checkpointing
                step, (tape, gradients) = self._simulated(settings, shape, arch, MicroStep.run, cloned=cloned)
                functions, left = step.functions, frozenset(step.left_readable)
                known = TakenStep(tape, gradients, dict(functions.kernels), functions.chosen, left)
            taken.append(known)
        return known

    def _between(self, key: tuple[Shape, float, str, bool], arch: Arch) -> TakenStep | None:
        """A step of rows between those of two that were simulated with the kernels of this card."""
        shape, same = key[0], key[1:]
        tried = [each[0] for each, steps in self._tapes.items() if each[1:] == same and steps]
        if (around := neighbours(shape, tried)) is None:
            return None
        fewer, more = (_same_kernels(self._tapes[each, *same], arch) for each in around)
        if fewer is None or more is None or fewer.gradients != more.gradients:
            return None
        tape = tape_between(shape.rows, (around[0].rows, fewer.tape), (around[1].rows, more.tape))
        return None if tape is None else replace(fewer, tape=tape)

    def _simulated(self, settings: StepSettings, shape: Shape, arch: Arch, work: Callable[[MicroStep], T], *,
                   cloned: bool = False) -> tuple[MicroStep, T]:  # fmt: skip
        """A micro-step and what it was asked for."""
        taken = partial(MicroStep, self.step_model, settings, shape, arch, cloned=cloned, compiler=self.compiler)
        step = taken()
        try:
            return step, work(step)
        except Unlike:  # no layer stands for another, then
            step = taken(whole=True)
            return step, work(step)
        except GraphFailed:  # layers are as they are written, then
            self.compiler = None
            return self._simulated(settings, shape, arch, work, cloned=cloned)
        except (RuntimeError, NotImplementedError, TypeError, ValueError, KeyError, IndexError) as error:
            reason = " ".join(str(error).split())[:300]
            raise Unavailable(
                f"a training step of this model cannot be simulated: {type(error).__name__}: {reason}",
                "measure it with `vlcheck probe` on a GPU",
            ) from error


def _same_kernels(taken: Sequence[TakenStep], arch: Arch) -> TakenStep | None:
    """The step that a card with these kernels takes, if it was simulated."""
    return next((step for step in taken if all(choose(arch, c) is k for c, k in step.chosen.items())), None)
