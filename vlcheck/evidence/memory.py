"""The memory of a run as evidence for rules; one function a name, as in `vlcheck.evidence.model`."""

from __future__ import annotations

from torch import nn

from vlcheck.finding import NotApplicable, Unavailable
from vlcheck.gpus import Gpu
from vlcheck.gpus import gpu as find_gpu
from vlcheck.memory.alternatives import Alternative, changes, with_training
from vlcheck.memory.host import Host, host_of
from vlcheck.memory.plan import FitVerdict, MemoryPlan
from vlcheck.memory.project import Simulation
from vlcheck.model.build import AdapterRefused, UnbuildableConfig
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Family
from vlcheck.spec import ConfigError, Problem, RunSpec


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
    switched = not spec.training.gradient_checkpointing
    return simulation.plan(gpu, spec=with_training(spec, gradient_checkpointing=switched))


def cheapest_fit(simulation: Simulation, gpu: Gpu, spec: RunSpec, memory_plan: MemoryPlan) -> Alternative | None:
    """Looking for the cheapest change that makes the run fit."""
    if memory_plan.verdict is FitVerdict.FITS:
        return None
    for change, changed in changes(spec):
        plan = simulation.plan(gpu, spec=changed)
        if plan.verdict is FitVerdict.FITS:
            return Alternative(change, plan)
    return None


def host(spec: RunSpec, reference: nn.Module, simulation: Simulation) -> Host:
    """Adding up what the host holds."""
    kept = spec.training.save_total_limit or 1
    return host_of(reference, simulation.model, platform=spec.launch.platform, kept=kept)


MEMORY_COLLECTORS = (gpu, simulation, memory_plan, other_checkpointing, cheapest_fit, host)
