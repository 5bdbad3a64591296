"""The memory of a run as evidence for rules; one function a name, as in `vlcheck.collectors`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from vlcheck.family import Family
from vlcheck.finding import NotApplicable, Unavailable
from vlcheck.gpus import Gpu
from vlcheck.gpus import gpu as find_gpu
from vlcheck.memory.host import Host, host_of
from vlcheck.memory.plan import MemoryPlan, Verdict
from vlcheck.memory.project import Simulation
from vlcheck.model import AdapterRefused, UnbuildableConfig
from vlcheck.model_config import ModelConfig
from vlcheck.spec import ConfigError, Problem, RunSpec


@dataclass(frozen=True)
class Alternative:
    """The same run with one thing changed, and its plan."""

    change: str
    plan: MemoryPlan


def gpu(spec: RunSpec) -> Gpu:
    """Finding the GPU."""
    if spec.hardware.gpu is None:
        raise NotApplicable("hardware.gpu names no card")
    try:
        return find_gpu(spec.hardware.gpu)
    except ValueError as unknown:
        raise ConfigError(Problem(spec.where("hardware.gpu"), str(unknown))) from unknown


def simulation(spec: RunSpec, config: ModelConfig, family: Family, gpu: Gpu) -> Simulation:
    """Building the model for a simulated step."""
    try:
        return Simulation(spec, config.values, family)
    except (AdapterRefused, UnbuildableConfig) as refused:
        raise Unavailable("the run's model cannot be built, see VLC101 and VLC102") from refused


def memory_plan(simulation: Simulation, gpu: Gpu) -> MemoryPlan:
    """Simulating a training step without storage."""
    return simulation.plan(gpu)


def other_checkpointing(simulation: Simulation, gpu: Gpu, spec: RunSpec) -> MemoryPlan:
    """Simulating a step with checkpointing switched the other way."""
    return simulation.plan(gpu, spec=_training(spec, gradient_checkpointing=not spec.training.gradient_checkpointing))


def cheapest_fit(simulation: Simulation, gpu: Gpu, spec: RunSpec, memory_plan: MemoryPlan) -> Alternative | None:
    """Looking for the cheapest change that makes the run fit."""
    if memory_plan.verdict is Verdict.FITS:
        return None
    for change, changed in changes(spec):
        plan = simulation.plan(gpu, spec=changed)
        if plan.verdict is Verdict.FITS:
            return Alternative(change, plan)
    return None


def changes(spec: RunSpec) -> list[tuple[str, RunSpec]]:
    """What can be changed without changing what is trained, the cheapest first, each on top of the one before."""
    found: list[tuple[str, RunSpec]] = []
    done: list[str] = []

    def then(change: str, **fields: Any) -> None:
        before = found[-1][1] if found else spec
        done.append(change)
        found.append((", ".join(done), _training(before, **fields)))

    if spec.training.logits == "all":
        then("logits: supervised", logits="supervised")
    if not spec.training.optim.startswith("paged"):
        then("optim: paged_adamw_8bit", optim="paged_adamw_8bit")
    if not spec.training.gradient_checkpointing:
        then("gradient_checkpointing: true", gradient_checkpointing=True)
    rows, steps = spec.training.per_device_train_batch_size, spec.training.gradient_accumulation_steps
    effective = rows * steps
    while rows > 1:
        rows = next(n for n in range(rows // 2, 0, -1) if effective % n == 0)
        if done and done[-1].startswith("per_device"):
            done.pop()
        then(f"per_device_train_batch_size: {rows} with gradient_accumulation_steps: {effective // rows}",
             per_device_train_batch_size=rows, gradient_accumulation_steps=effective // rows)  # fmt: skip
    return found


def host(spec: RunSpec, reference: nn.Module, simulation: Simulation) -> Host:
    """Adding up what the host holds."""
    kept = spec.training.save_total_limit or 1
    return host_of(reference, simulation.model, platform=spec.launch.platform, kept=kept)


def _training(spec: RunSpec, **fields: Any) -> RunSpec:
    return replace(spec, training=replace(spec.training, **fields))


MEMORY_COLLECTORS = (gpu, simulation, memory_plan, other_checkpointing, cheapest_fit, host)
