"""Project a run: build its model on meta, take a step, play the tape on the card's allocator."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from vlcheck.finding import Unavailable
from vlcheck.gpus import Gpu
from vlcheck.memory.attention import Arch
from vlcheck.memory.layers import Unlike
from vlcheck.memory.micro import MicroStep, step_model
from vlcheck.memory.optimizer import managed_size
from vlcheck.memory.parallel import spread
from vlcheck.memory.plan import MemoryPlan, plan_of
from vlcheck.memory.rows import shape_of
from vlcheck.memory.sequence import whole_tape
from vlcheck.memory.shape import Shape
from vlcheck.memory.tape import Tape
from vlcheck.memory.weights import pack, stored
from vlcheck.model.build import Weights, build_model
from vlcheck.model.family import Family, Values
from vlcheck.spec import RunSpec, Training
from vlcheck.training.step import prepare, switch_checkpointing


def project_memory(spec: RunSpec, config: Values, family: Family, gpu: Gpu, shape: Shape | None = None) -> MemoryPlan:
    """What a run takes on a card at the worst moment of its steps.

    Args:
        config: the model's config.json.
        shape: of a micro-batch; without it, what the run's description tells.

    Raises:
        Unavailable: if the step cannot be simulated; a guess would be worse than a refusal.
        AdapterRefused, UnbuildableConfig: as `build_model` does.
    """
    return Simulation(spec, config, family).plan(gpu, shape)


class Simulation:
    """A run's model, ready for steps of any shape on any card."""

    def __init__(self, spec: RunSpec, config: Values, family: Family, model: nn.Module | None = None) -> None:
        """Build the run's model on meta, and bring it into the state in which it trains.

        Args:
            model: the run's model on meta, inside PEFT's, if it is at hand. It is changed in place: 4-bit weights are
                packed, the cache is off, checkpointing is on where the run has it.
        """
        self.spec, self.family = spec, family
        self.model = build_model(spec, Weights.META, config=config) if model is None else model
        pack(self.model)
        prepare(self.model, spec)
        self.step_model = step_model(self.model, family)
        self.config = self.step_model.config
        self.stored = tuple(stored(self.model))
        self._tapes: dict[tuple[Shape, Arch, bool, str], tuple[Tape, list[int], dict[str, int]]] = {}
        self._plans: dict[tuple[Shape, Arch, int, Training], MemoryPlan] = {}

    def plan(self, gpu: Gpu, shape: Shape | None = None, spec: RunSpec | None = None) -> MemoryPlan:
        """The plan of a shape on a card.

        Args:
            spec: the run with other training settings; its model must be the same.
        """
        spec = spec or self.spec
        shape = shape or shape_of(spec, self.family, self.config)
        key = (shape, Arch(gpu.major, gpu.minor, gpu.amd).like, gpu.workspace_bytes, spec.training)
        if key not in self._plans:
            tape, gradients, kernels = self._micro_step(gpu, shape, spec)
            whole = whole_tape(
                self.stored, self.step_model.parameters, spec, tape, gradients, (gpu.workspace_bytes,) * 2
            )
            managed = managed_size(self.step_model.parameters, spec.training.optim)
            self._plans[key] = plan_of(whole, gpu, shape, managed=managed, kernels=kernels)
        plan = replace(self._plans[key], gpu=gpu, doubts=doubts(spec, self.family, gpu))
        return spread(plan, spec, self.model) if spec.hardware.count > 1 else plan

    def _micro_step(self, gpu: Gpu, shape: Shape, spec: RunSpec) -> tuple[Tape, list[int], dict[str, int]]:
        arch = Arch(gpu.major, gpu.minor, gpu.amd).like
        key = (shape, arch, spec.training.gradient_checkpointing, spec.training.logits)
        if key not in self._tapes:
            switch_checkpointing(self.model, spec.training)
            step = MicroStep(self.step_model, spec, shape, arch)
            try:
                tape, gradients = step.run()
            except Unlike:  # no layer stands for another, then
                step = MicroStep(self.step_model, spec, shape, arch, whole=True)
                tape, gradients = step.run()
            except (RuntimeError, NotImplementedError, TypeError, ValueError, KeyError, IndexError) as error:
                reason = " ".join(str(error).split())[:300]
                raise Unavailable(
                    f"a training step of this model cannot be simulated: {type(error).__name__}: {reason}",
                    "measure it with `vlcheck probe` on a GPU",
                ) from error
            self._tapes[key] = tape, gradients, dict(step.functions.kernels)
        return self._tapes[key]


def doubts(spec: RunSpec, family: Family, gpu: Gpu) -> tuple[str, ...]:
    """What is less certain about this run than about those that were measured."""
    found = []
    if not gpu.measured:
        found.append(f"extrapolated: nothing was measured on a {gpu.title}{gpu.assumed and f'; {gpu.assumed}'}")
    if (asked := spec.model.attn_implementation) not in (None, "sdpa", "eager"):
        found.append(f"{asked} is projected as torch's own attention kernels")
    if spec.training.fp16:
        found.append("no fp16 run was measured")
    if spec.training.logits in ("chunked", "fused"):
        found.append(
            f"logits: {spec.training.logits} is projected as logits at supervised positions only; "
            + ("what one chunk of positions takes was not measured" if spec.training.logits == "chunked"
               else "what the fused kernel holds was not measured")
        )  # fmt: skip
    if spec.lora.use_dora:
        found.append("no DoRA run was measured")
    if not family.measured:
        found.append(f"no {family.name} run was measured")
    if family.doubt:
        found.append(family.doubt)
    if spec.model.patch is not None:
        found.append(f"the patch {spec.model.patch} is not simulated")
    return tuple(found)
